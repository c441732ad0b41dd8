//! What do a weight's bytes mean?
//!
//! A GGUF tensor is a sequence of blocks; a block holds `block_len` weights in `block_bytes` bytes. This crate has one
//! file per block format, with the field names of ggml's block structs, and the dequantisation that defines each format.
//! No kernel lives here: executors read blocks in their own way and are checked against `dequantize`.

mod block;
mod dequantize;
mod f32;
mod format;
mod grid;
mod half;
mod iq1_m;
mod iq1_s;
mod iq2_s;
mod iq2_xs;
mod iq2_xxs;
mod iq3_s;
mod iq3_xxs;
mod iq4_nl;
mod iq4_xs;
mod mxfp4;
mod nvfp4;
mod q1_0;
mod q2_0;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod scaled;
mod tq1_0;
mod tq2_0;

pub use crate::block::{Block, QuantError, cast, dequantize};
pub use crate::f32::Float;
pub use crate::format::Format;
pub use crate::grid::grid_points;
pub use crate::half::{Bf16, Half};
pub use crate::iq1_m::BlockIq1M;
pub use crate::iq1_s::BlockIq1S;
pub use crate::iq2_s::BlockIq2S;
pub use crate::iq2_xs::BlockIq2Xs;
pub use crate::iq2_xxs::BlockIq2Xxs;
pub use crate::iq3_s::BlockIq3S;
pub use crate::iq3_xxs::BlockIq3Xxs;
pub use crate::iq4_nl::{BlockIq4Nl, IQ4_NL_VALUES};
pub use crate::iq4_xs::BlockIq4Xs;
pub use crate::mxfp4::{BlockMxfp4, E2M1_DOUBLED, e8m0_half};
pub use crate::nvfp4::{BlockNvfp4, ue4m3_half};
pub use crate::q1_0::BlockQ1_0;
pub use crate::q2_0::BlockQ2_0;
pub use crate::q2_k::BlockQ2K;
pub use crate::q3_k::BlockQ3K;
pub use crate::q4_0::BlockQ4_0;
pub use crate::q4_1::BlockQ4_1;
pub use crate::q4_k::{BlockQ4K, scale_min};
pub use crate::q5_0::BlockQ5_0;
pub use crate::q5_1::BlockQ5_1;
pub use crate::q5_k::BlockQ5K;
pub use crate::q6_k::BlockQ6K;
pub use crate::q8_0::BlockQ8_0;
pub use crate::scaled::{Scaled, Stepped};
pub use crate::tq1_0::BlockTq1_0;
pub use crate::tq2_0::BlockTq2_0;
