//! Where is a model that is not on this disk?
//!
//! A [`ModelRef`] names a file here, a file in a repository of the Hugging Face hub, or the repository and a quantization, for which [`NAMES`]
//! has short names. A [`Hub`] finds the latter in the cache that all programs of that hub share, or fetches it there: whole and with the
//! right hash, or not at all. It also lists that cache and removes from it. Sources: the hub's
//! "Local Cache" page for the layout on disk, RFC 9110 for ranges and redirects. Sizes are in bytes.

mod address;
mod cache;
mod choose;
mod client;
mod download;
mod error;
mod fetch;
mod inventory;
mod list;
mod names;
mod reference;
mod retry;
mod settings;
mod split;

pub use address::is_address;
pub use choose::Chosen;
pub use error::{HubError, Missing};
pub use fetch::{Hub, Progress, Room};
pub use inventory::Cached;
pub use names::{NAMES, Named, nearest};
pub use reference::{HubFile, HubRepo, ModelRef};
pub use retry::Patience;
pub use settings::{Settings, Token};
