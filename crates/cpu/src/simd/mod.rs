//! The fast kernels: the same results as the exact executor within a stated bound, many times sooner.

#[cfg(target_arch = "x86_64")]
mod amx;
mod dequant;
pub mod gemm;
pub mod gemv;
pub mod isa;
pub mod quantize;
#[cfg(target_arch = "x86_64")]
mod vector;
