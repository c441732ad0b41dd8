//! HTTP and SSE, and nothing else.
//!
//! A [`Server`] listens from the start, so that probes get an answer while the model loads; its [`App`] is told when the model is there
//! ([`App::set_ready`]). Routes turn JSON into a request for the [`worker::Worker`] and its events into bytes. What status an error has is decided in
//! [`error`] alone. No prompt and no answer is logged.

mod admission;
mod around;
pub mod auth;
mod body;
mod compat;
mod connections;
pub mod context;
pub mod correlation;
pub mod cors;
pub mod error;
pub mod files;
mod health;
mod host;
mod jobs;
mod kv_events;
mod listen;
pub mod metrics;
pub mod nearest;
mod openai;
mod openapi;
pub mod options;
mod page;
mod receipts;
mod routes;
pub mod spans;
pub mod sse;
mod state;
mod text;
pub mod tls;
mod unsaid;
mod version;

pub use auth::{CacheScope, KeyError, Keys};
pub use compat::Compat;
pub use context::{Client, Context};
pub use correlation::CorrelationId;
pub use cors::Origin;
pub use error::ApiError;
pub use files::{FileError, open_file, read_file};
pub use kv_events::KvEventOptions;
pub use listen::{Ending, Server, ServerError};
pub use metrics::{Outcome, Recorder};
pub use options::{Limits, Security, ServerOptions};
pub use state::{App, ModelInfo, Phase, Served};
pub use tls::{Tls, TlsError};
pub use unsaid::Unsaid;
