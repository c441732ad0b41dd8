//! Who is connected, and for how long? Connections from the system's queue to their end.
//!
//! `accept` takes them, `places` says which may stay, `connection` speaks HTTP on one and closes it so that its client hears all that was said,
//! `stream` notices bytes and clients that do not read.

mod accept;
mod connection;
mod places;
mod stream;

pub(crate) use accept::{Door, Listeners, accept, open_files};
pub(crate) use connection::Reserved;
pub(crate) use places::{Bounds, Closed, Places};
