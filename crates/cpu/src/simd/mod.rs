//! The fast kernels: the same results as the exact executor within a stated bound, many times sooner.

#[cfg(target_arch = "x86_64")]
mod amx;
mod dequant;
pub mod gemm;
pub mod isa;
#[cfg(target_arch = "x86_64")]
mod vector;
