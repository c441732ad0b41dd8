//! The next tokens, chosen on the device: for the same logits, parameters, mask and history the very tokens and log probabilities
//! of [`device::sampling::Sampler`], whatever else is sampled in the same step.
//!
//! The device works with the sampler's integers alone (kernels/sample/sample.cu). What takes a logarithm or a generator of random
//! numbers is done by the host, with the CPU sampler's own code: the random bits before a step ([`StepRows`]), the log probabilities after
//! it ([`SampleOut::sampled`]).
//!
//! A step: fill [`StepRows`], copy its rows and its area to the device; [`SampleKernels::begin`] for slots in which a sequence starts;
//! [`SampleKernels::launch`] behind the kernel that wrote the logits; copy the [`SampleOut`]s to the host. All but `begin` may be a captured
//! graph: the grid depends on the number of rows alone, and what a row asks for is read on the device. Each sampled token is also in
//! `last[slot]`, for the next step's embedding, and counted in `counts`.

mod args;
mod kernels;
mod shape;
mod step;

pub use args::{SampleBegin, SampleOut, SampleRow};
pub use kernels::{SampleBuffers, SampleKernels};
pub use shape::{SampleBytes, SampleLimits};
pub use step::{Choice, StepRows};
