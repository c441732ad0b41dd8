//! Launches of attend_rows.cu.

use bytemuck::{Pod, Zeroable};

use crate::args::{PAGE, assert_size};
use crate::driver::DevicePtr;
use crate::launch::file::{End, File, Kernel};
use crate::launch::kernels::Launch;

/// Of attend_rows.cu.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct AttendRowsArgs {
    /// `[n_row, n_head * head_dim]` float32: queries after RoPE.
    pub(crate) x: DevicePtr,
    /// `[n_row, n_head * n_value]` float32; may be where the queries are if there are as many.
    pub(crate) out: DevicePtr,
    /// The rows' own keys and values included.
    pub(crate) k_cache: DevicePtr,
    /// That of the keys where they are the values too.
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
    /// Not 0: rows are cut into splits.
    pub(crate) splits: i32,
    /// [`part_bytes`], where they are.
    pub(crate) part: DevicePtr,
    /// Of a head of values.
    pub(crate) n_value: i32,
    /// Where they begin in what is kept of a position.
    pub(crate) value_at: i32,
}

assert_size!(AttendRowsArgs, 104);

/// Heads may have any multiple of [`STEP`] values up to this, and keys of which values are a part up to [`MAX_KEY`].
pub(crate) const MAX_HEAD_DIM: usize = 512;
pub(crate) const MAX_KEY: usize = 640;
pub(crate) const STEP: usize = 16;

/// Query heads that a block computes.
const HEADS: usize = 8;

/// A row has at most so many splits, each of at least so many pages.
const SPLITS: usize = 16;
const SPLIT_PAGES: usize = 8;

/// Bytes of what the splits of `n_row` rows leave.
pub(crate) fn part_bytes(n_row: usize, n_head: usize, head_dim: usize) -> usize {
    n_row * n_head * SPLITS * (head_dim + 2) * 4
}

/// `n_row` rows over a cache of Q8_0, or of float16, and what adds their splits where rows at up to `n_position` positions have several. A
/// prompt's rows, of which there are many, are not cut.
pub(crate) fn launches(
    (n_row, n_position): (usize, Option<usize>),
    is_q8: bool,
    args: &AttendRowsArgs,
) -> (Launch, Option<Launch>) {
    let chunks = (args.n_head / args.n_kv_head) as usize;
    let n_block = args.n_kv_head as usize * chunks.div_ceil(HEADS);
    let kind = if is_q8 { "_q8" } else { "_f16" };
    let n_page = n_position.map_or(0, |n| n.div_ceil(PAGE));
    let n_split = n_page.div_ceil(SPLIT_PAGES).clamp(1, SPLITS);
    let grid = [n_row as u32, n_block as u32, n_split as u32];
    let kernel = |end| Kernel::of(File::AttendRows).with(End::Word(end));
    let attend = Launch { grid, ..Launch::new(kernel(kind), [1, 1], 256) };
    let combine = Launch::new(kernel("_combine"), [n_row as u32, args.n_head as u32], 256);
    (attend, (n_split > 1).then_some(combine))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_has_the_heads_of_one_key_head() {
        let grid = |n_head, n_kv_head| {
            let args = AttendRowsArgs { n_head, n_kv_head, ..AttendRowsArgs::default() };
            launches((3, None), false, &args).0.grid
        };
        assert_eq!([grid(8, 8), grid(16, 2), grid(18, 2)], [[3, 8, 1], [3, 2, 1], [3, 4, 1]]);
    }

    #[test]
    fn long_rows_are_cut_and_combined() {
        let args = AttendRowsArgs { n_head: 8, n_kv_head: 2, ..AttendRowsArgs::default() };
        let splits = |n_position| {
            let (attend, combine) = launches((1, Some(n_position)), true, &args);
            (attend.grid[2], combine.is_some())
        };
        assert_eq!([512, 513, 1 << 20].map(splits), [(1, false), (2, true), (16, true)]);
    }
}
