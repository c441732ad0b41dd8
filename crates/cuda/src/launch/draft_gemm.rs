//! Launches of prompt_gemm.cu.

use bytemuck::{Pod, Zeroable};

use crate::args::assert_size;
use crate::driver::DevicePtr;
use crate::kernels::Launch;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum PromptEpilogue {
    Store,
    Residual,
    Gated,
    Plain,
    Weighted,
}

#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct PromptGemmArgs {
    pub(crate) a: DevicePtr,
    pub(crate) w: DevicePtr,
    pub(crate) bias: DevicePtr,
    pub(crate) out: DevicePtr,
    pub(crate) offsets: DevicePtr,
    pub(crate) uses: DevicePtr,
    pub(crate) weights: DevicePtr,
    pub(crate) m: i32,
    pub(crate) n: i32,
    pub(crate) k: i32,
    pub(crate) ld: i32,
    pub(crate) column: i32,
    pub(crate) epilogue: i32,
    pub(crate) activation: i32,
    pub(crate) n_expert: i32,
    pub(crate) scale: f32,
    pub(crate) alpha: f32,
    pub(crate) limit: f32,
    pub(crate) reserved: i32,
}

assert_size!(PromptGemmArgs, 104);

pub(crate) fn launch(args: &PromptGemmArgs, n_sm: u32) -> Launch {
    let m = args.m as usize;
    let per_expert = if args.n_expert > 0 { m.div_ceil(args.n_expert as usize) } else { m };
    let bm = if per_expert <= 32 {
        32
    } else if per_expert <= 64 {
        64
    } else {
        128
    };
    let tiles = (m.div_ceil(bm) + args.n_expert as usize) * (args.n as usize).div_ceil(128);
    Launch {
        name: format!("prompt_gemm_mma_{bm}"),
        grid: [(tiles as u32).min(2 * n_sm), 1, 1],
        n_thread: 2 * bm as u32,
        shared_bytes: (3 * (bm * 128 + 128 * 128)) as u32,
    }
}
