//! What is computed in a step, in which order, and what memory does that take?
//!
//! [`executor`] takes batches. It has a [`network`], on which [`decode`] computes generated rows and [`prompt`] those of prompts; what both
//! do alike is in a file for each stage that not all models have.

mod apart;
mod buffers;
mod decode;
pub(crate) mod executor;
mod experts;
mod host_norm;
mod latent;
mod network;
pub(crate) mod observe;
pub(crate) mod options;
mod per_layer;
mod prompt;
mod recurrence;
