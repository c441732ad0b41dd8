//! The readable executor: the specification the others are checked against; [`simd`] makes it fast.
//!
//! [`forward`](CpuExecutor::run_observed) runs the stages of [`model::stage`] over a set of [`kernels`]: [`exact`] is float32 throughout,
//! [`simd`] uses what the processor has. Weights stay in the mapped file in the file's own format.

mod elementwise;
pub mod exact;
mod executor;
mod experts;
mod forward;
pub mod kernels;
mod latent;
mod mixers;
mod options;
mod per_layer;
mod recurrence;
mod router;
pub mod simd;
mod state;
mod threads;

pub use executor::CpuExecutor;
pub use forward::Observer;
pub use options::{MemoryPlan, Options};
pub use threads::Threads;
