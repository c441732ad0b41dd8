//! The fast executor: the stages of [`model::stage`] as CUDA kernels.
//!
//! The kernels are compiled when the crate is and embedded in it; NVIDIA's driver library is looked for when the program runs. So the crate
//! builds and its binary starts on any machine: [`is_built`] says whether there are kernels, [`driver::Device`] whether there is a GPU.
//!
//! Each room uses those before it, and none after it:
//!
//! - [`driver`]: the CUDA driver's objects (device, stream, event, memory, module, graph) as owned values.
//! - `memory`: what lies on the device, how it lies there and how it gets there. [`arena`] plans all of it and then allocates it at once,
//!   [`residency`] watches that it stays there, [`upload`] brings the weights.
//! - `launch`: which kernel, over which grid? A file for each subject of `kernels/`. Beside it [`sampling`]: the next tokens from logits,
//!   without leaving the device.
//! - `placement`: can the kernels compute this model, and where does each of its tensors go? Known before any step.
//! - `step`: what is computed in a step, and what that takes. [`CudaExecutor`] and its [`Options`].
//!
//! Beside them, `sizes` has what is counted, `built` the kernels of this build, and `args`, which uses the driver alone, what kernels are given.

mod args;
mod built;
pub mod driver;
mod error;
mod launch;
mod memory;
mod placement;
pub mod sampling;
mod sizes;
mod step;

#[cfg(test)]
#[path = "../build/recipe.rs"]
mod recipe;

pub use built::{MODULES, is_built, module, runs_on, targets};
pub use error::CudaError;
pub use memory::{arena, residency, upload};
pub use placement::load::LoadStats;
pub use placement::place::Unsupported;
pub use sizes::{Attending, Columns, MAX_SLOTS, Unpacking};
pub use step::executor::{CudaExecutor, LoadError};
pub use step::observe::Watch;
pub use step::options::{MemoryPlan, Options};
