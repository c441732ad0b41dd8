//! Launches of attend_decode.cu and attend_prompt.cu.

use bytemuck::{Pod, Zeroable};

use crate::args::{ActOut, assert_size};
use crate::driver::DevicePtr;
use crate::kernels::Launch;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct PromptSpan {
    pub(crate) row0: i32,
    pub(crate) n_row: i32,
    pub(crate) slot: i32,
    pub(crate) start: i32,
}

assert_size!(PromptSpan, 16);

#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct AttendDecodeArgs {
    pub(crate) q: DevicePtr,
    pub(crate) k_cache: DevicePtr,
    pub(crate) v_cache: DevicePtr,
    pub(crate) rows: DevicePtr,
    pub(crate) page_tables: DevicePtr,
    pub(crate) out: ActOut,
    pub(crate) part: DevicePtr,
    pub(crate) counters: DevicePtr,
    pub(crate) sinks: DevicePtr,
    pub(crate) n_head: i32,
    pub(crate) n_kv_head: i32,
    pub(crate) group: i32,
    pub(crate) max_pages: i32,
    pub(crate) window: i32,
    pub(crate) split_shift: i32,
    pub(crate) early: i32,
    pub(crate) scale: f32,
}

assert_size!(AttendDecodeArgs, 128);

#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct AttendPromptArgs {
    pub(crate) q: DevicePtr,
    pub(crate) k_cache: DevicePtr,
    pub(crate) v_cache: DevicePtr,
    pub(crate) out: DevicePtr,
    pub(crate) spans: DevicePtr,
    pub(crate) page_tables: DevicePtr,
    pub(crate) sinks: DevicePtr,
    pub(crate) n_span: i32,
    pub(crate) n_head: i32,
    pub(crate) n_kv_head: i32,
    pub(crate) max_pages: i32,
    pub(crate) window: i32,
    pub(crate) scale: f32,
}

assert_size!(AttendPromptArgs, 80);

/// Blocks of up to 8 query heads over all key heads.
pub(crate) fn n_chunk(n_head: usize, n_kv_head: usize) -> usize {
    n_kv_head * (n_head / n_kv_head).div_ceil(8)
}

/// Splits of a row's positions are at most 2 to the power of this.
pub(crate) fn split_shift(n_head: usize, n_kv_head: usize) -> usize {
    (264 / n_chunk(n_head, n_kv_head)).clamp(1, 64).ilog2() as usize
}

/// Bytes of partial sums.
pub(crate) fn part_bytes(n_row: usize, n_head: usize, n_kv_head: usize, head_dim: usize) -> usize {
    n_row * n_chunk(n_head, n_kv_head) * (1 << split_shift(n_head, n_kv_head)) * 8 * (head_dim + 2) * 4
}

/// Rows at up to `n_position` positions.
pub(crate) fn decode_launch(
    head_dim: usize,
    n_row: usize,
    n_position: usize,
    args: &AttendDecodeArgs,
) -> Launch {
    let (n_head, n_kv_head) = (args.n_head as usize, args.n_kv_head as usize);
    let splits = n_position.div_ceil(128).min(1 << args.split_shift);
    Launch {
        name: format!("attend_decode_{head_dim}"),
        grid: [splits as u32, n_chunk(n_head, n_kv_head) as u32, n_row as u32],
        n_thread: if head_dim <= 128 { 256 } else { 128 },
        shared_bytes: 0,
    }
}

pub(crate) fn prompt_launch(head_dim: usize, spans: &[PromptSpan], args: &AttendPromptArgs) -> Launch {
    let tiles = if head_dim <= 128 { 2 } else { 1 };
    let group = args.n_head / args.n_kv_head;
    let n: usize = spans.iter().map(|s| ((s.n_row * group) as usize).div_ceil(64 * tiles)).sum();
    Launch {
        name: format!("attend_prompt_{head_dim}"),
        grid: [args.n_kv_head as u32, n as u32, 1],
        n_thread: 128,
        shared_bytes: (64 * (tiles + 2) * (head_dim + 8) * 2) as u32,
    }
}
