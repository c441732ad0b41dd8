//! What is this transformer?
//!
//! A model is data: an [`Architecture`] (sizes and choices), [`Weights`] (tensors by role) and the short list of stages in
//! [`stage`] that every model runs. A device runs it by implementing [`Executor`]. No arithmetic over weights lives here,
//! except what defines a result: RoPE frequencies, how a KV cache rounds, and the reference sampler.

pub mod architecture;
pub mod architectures;
pub mod batch;
pub mod error;
pub mod executor;
pub mod kv;
pub mod rope;
pub mod sampling;
pub mod stage;
pub mod weights;

pub use architecture::Architecture;
pub use batch::{Batch, Input, Output, Picked, Role, Sampled, Span, Want};
pub use error::ModelError;
pub use executor::{Executor, ExecutorError, Limits, MemoryReport, Ticket};
pub use kv::KvType;
pub use sampling::{SamplingParams, TokenMask};
pub use weights::{Matrix, Model, Weights};
