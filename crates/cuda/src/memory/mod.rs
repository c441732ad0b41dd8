//! What lies in the device's memory, how does it lie there, and how does it get there?

pub mod arena;
pub(crate) mod layout;
pub mod residency;
pub(crate) mod staging;
pub(crate) mod state;
pub(crate) mod table;
pub(crate) mod taker;
pub mod upload;
