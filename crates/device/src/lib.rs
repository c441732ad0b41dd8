//! What does an engine ask of a device?
//!
//! A device runs steps ([`Executor`]): plain data in ([`Batch`]), tokens out ([`Picked`]). Which token follows from a row of logits is
//! part of the contract ([`sampling`]), so that every device chooses the same one. Nothing here knows of files, models or weights.

pub mod batch;
pub mod executor;
pub mod hidden;
pub mod pages;
pub mod sampling;

pub use batch::{Batch, Choice, Input, Output, Picked, Role, Sampled, Span, Want, WindowPages};
pub use executor::{Executor, ExecutorError, Limits, MemoryReport, StageTime, Ticket};
pub use hidden::HiddenRows;
pub use pages::{KvPages, KvSizes, Window};
pub use sampling::{SamplingParams, TokenMask};
