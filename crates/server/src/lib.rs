//! HTTP and SSE, and nothing else.
//!
//! A [`Server`] listens from the start, so that probes get an answer while the model loads; its [`App`] is told when the model is there
//! ([`App::set_ready`]). Routes turn JSON into a request for the [`worker::Worker`] and its events into bytes. What status an error has is decided in
//! [`error`] alone. No prompt and no answer is logged.

mod body;
pub mod context;
pub mod error;
mod health;
mod jobs;
mod listen;
mod openai;
mod openapi;
pub mod options;
mod page;
mod routes;
pub mod sse;
mod state;
mod text;
mod version;

pub use context::{Client, Context};
pub use error::ApiError;
pub use listen::{Ending, Server, ServerError};
pub use options::{Limits, ServerOptions};
pub use state::{App, ModelInfo, Phase, Served};
