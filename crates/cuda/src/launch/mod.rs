//! Which kernel, over which grid? Argument structures and pure functions of shapes, a file for each subject of the kernels.
//!
//! [`mod@file`] has the files of kernels by type, [`kernels`] finds what a launch names and queues it.

pub(crate) mod attend;
pub(crate) mod attend_rows;
pub(crate) mod file;
pub(crate) mod kernels;
pub(crate) mod kv;
pub(crate) mod latent;
pub(crate) mod per_layer;
pub(crate) mod product;
pub(crate) mod product_half;
pub(crate) mod prompt_gemm;
pub(crate) mod prompt_packed;
pub(crate) mod recurrence;
pub(crate) mod repack;
pub(crate) mod route;
pub(crate) mod rows;
pub(crate) mod unpack;
pub(crate) mod variant;
