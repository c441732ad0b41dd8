//! The fast executor: the stages of [`model::stage`] as CUDA kernels.
//!
//! The kernels are compiled when the crate is and embedded in it; NVIDIA's driver library is looked for when the program runs. So the crate
//! builds and its binary starts on any machine: [`is_built`] says whether there are kernels, [`driver::Device`] whether there is a GPU.
//!
//! - [`driver`]: the CUDA driver's objects (device, stream, event, memory, module, graph) as owned values.
//! - [`arena`]: device memory, all of it planned and then allocated at once; [`residency`] watches that it stays there.
//! - [`upload`]: how weights get there.
//! - [`sampling`]: the next tokens from logits, without leaving the device.

pub mod arena;
mod args;
mod buffers;
mod decode;
pub mod driver;
mod error;
mod executor;
mod kernels;
mod launch;
mod layout;
mod load;
mod network;
mod observe;
mod options;
mod place;
mod prompt;
pub mod residency;
pub mod sampling;
mod staging;
pub mod upload;

#[cfg(test)]
#[path = "../build/recipe.rs"]
mod recipe;

pub use error::CudaError;
pub use executor::{CudaExecutor, LoadError};
pub use load::LoadStats;
pub use observe::Watch;
pub use options::{MAX_SLOTS, MemoryPlan, Options};
pub use place::Unsupported;

include!(concat!(env!("OUT_DIR"), "/modules.rs"));

/// Whether this build has kernels: whether a CUDA compiler was found when it was made.
#[must_use]
pub fn is_built() -> bool {
    TARGETS.is_some()
}

/// The architectures that the kernels were compiled for, such as `sm_90a+ptx`.
#[must_use]
pub fn targets() -> &'static [&'static str] {
    TARGETS.unwrap_or_default()
}

/// The fat binary of `kernels/NAME.cu`.
///
/// # Errors
/// [`CudaError::NotBuilt`] if this build has no kernels, [`CudaError::UnknownModule`] if it has none of this name.
pub fn module(name: &str) -> Result<&'static [u8], CudaError> {
    if !is_built() {
        return Err(CudaError::NotBuilt);
    }
    let found = MODULES.iter().find(|(module, _)| *module == name);
    found.map(|(_, fatbin)| *fatbin).ok_or_else(|| CudaError::UnknownModule { name: name.to_owned() })
}
