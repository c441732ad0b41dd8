//! Which kernel, over which grid? Argument structures and pure functions of shapes, a file for each kernel's file.

pub(crate) mod attend;
pub(crate) mod attend_rows;
pub(crate) mod kernels;
pub(crate) mod kv;
pub(crate) mod latent;
pub(crate) mod product;
pub(crate) mod product_half;
pub(crate) mod prompt_gemm;
pub(crate) mod recurrence;
pub(crate) mod route;
