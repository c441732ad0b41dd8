//! Launches of attend_rows.cu.

use bytemuck::{Pod, Zeroable};

use crate::args::assert_size;
use crate::driver::DevicePtr;
use crate::kernels::Launch;

/// Of attend_rows.cu.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct AttendRowsArgs {
    /// `[n_row, n_head * head_dim]` float32: queries after RoPE, which their results replace.
    pub(crate) x: DevicePtr,
    /// The rows' own keys and values included.
    pub(crate) k_cache: DevicePtr,
    pub(crate) v_cache: DevicePtr,
    pub(crate) rows: DevicePtr,
    pub(crate) page_tables: DevicePtr,
    /// `[n_head]`, or none.
    pub(crate) sinks: DevicePtr,
    pub(crate) n_head: i32,
    pub(crate) n_kv_head: i32,
    pub(crate) head_dim: i32,
    pub(crate) max_pages: i32,
    /// 0: none.
    pub(crate) window: i32,
    pub(crate) scale: f32,
    /// 0: none.
    pub(crate) cap: f32,
    pub(crate) reserved: i32,
}

assert_size!(AttendRowsArgs, 80);

/// Heads may have any multiple of [`STEP`] values up to this.
pub(crate) const MAX_HEAD_DIM: usize = 512;
pub(crate) const STEP: usize = 16;

/// Query heads that a block computes.
const HEADS: usize = 8;

/// `n_row` rows over a cache of Q8_0, or of float16.
pub(crate) fn launch(n_row: usize, is_q8: bool, args: &AttendRowsArgs) -> Launch {
    let chunks = (args.n_head / args.n_kv_head) as usize;
    let n_block = args.n_kv_head as usize * chunks.div_ceil(HEADS);
    let kind = if is_q8 { "q8" } else { "f16" };
    Launch::new(format!("attend_rows_{kind}"), [n_row as u32, n_block as u32], 256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_has_the_heads_of_one_key_head() {
        let grid = |n_head, n_kv_head| {
            launch(3, false, &AttendRowsArgs { n_head, n_kv_head, ..AttendRowsArgs::default() }).grid
        };
        assert_eq!([grid(8, 8), grid(16, 2), grid(18, 2)], [[3, 8, 1], [3, 2, 1], [3, 4, 1]]);
    }
}
