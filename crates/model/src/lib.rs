//! What is this transformer?
//!
//! A model is data: an [`Architecture`] (sizes and choices), [`Weights`] (tensors by role) and the short list of stages in
//! [`stage`] that every model runs. A device runs it by implementing the `device` crate's `Executor`. No arithmetic over weights lives
//! here, except what defines a result: RoPE frequencies, how a KV cache rounds, and the few products of a classifier.

pub mod architecture;
pub mod architectures;
pub mod error;
pub mod kv;
pub mod pooling;
pub mod rope;
pub mod sampling;
pub mod stage;
pub mod weights;

pub use architecture::Architecture;
pub use error::ModelError;
pub use kv::KvType;
pub use pooling::{Classifier, Pooling};
pub use sampling::SamplingAdvice;
pub use weights::{Matrix, Model, Weights};
