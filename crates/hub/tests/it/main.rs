//! Does a file come whole, whatever servers, connections and other processes do? Against a small server that speaks as the hub does.

mod faults;
mod inventory;
mod local;
mod refusals;
mod server;
