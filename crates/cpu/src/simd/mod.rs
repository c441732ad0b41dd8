//! The fast kernels: the same results as the exact executor within a stated bound, many times sooner.

// Elsewhere the kernels use a part of what all share.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, unused_imports, unused_variables))]

pub(crate) mod activate;
#[cfg(target_arch = "x86_64")]
mod amx;
pub(crate) mod attend;
mod cache;
pub mod columns;
mod cores;
pub mod delta;
mod dequant;
pub mod fast;
pub mod gemm;
pub mod gemv;
pub mod isa;
pub(crate) mod lanes;
pub(crate) mod math;
pub mod pool;
pub mod quantize;
pub mod sample;
pub mod shared;
#[cfg(target_arch = "x86_64")]
mod vector;
