//! Which kernel, over which grid? Argument structures and pure functions of shapes, a file for each kernel's file.

#[path = "draft_attend.rs"]
pub(crate) mod attend;
pub(crate) mod product;
#[path = "draft_gemm.rs"]
pub(crate) mod prompt_gemm;
#[path = "draft_route.rs"]
pub(crate) mod route_prompt;
