//! Launches of attend_decode*.cu and attend_prompt*.cu: arguments, grids and scratch as pure functions of shapes.
//!
//! Grids never change a bit of a result; the number of splits does, so it is derived from the model alone.

use bytemuck::{Pod, Zeroable};

use crate::args::{ActOut, PAGE, PlaceArgs, assert_size};
use crate::driver::{DevicePtr, TensorMap};
use crate::launch::file::{End, File, Kernel};
use crate::launch::kernels::Launch;
use crate::launch::prompt_gemm::Instruction;
use crate::sizes::Attending;

/// Of attend_stage.cuh.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct AttendDecodeArgs {
    /// `[n_row, n_head * head_dim]` float32, after RoPE; unused in [`AttendPlacedArgs`].
    pub(crate) q: DevicePtr,
    pub(crate) k_cache: DevicePtr,
    pub(crate) v_cache: DevicePtr,
    pub(crate) rows: DevicePtr,
    pub(crate) page_tables: DevicePtr,
    pub(crate) out: ActOut,
    /// [`part_bytes`].
    pub(crate) part: DevicePtr,
    /// `[n_row, n_chunk]`, 0 before and after.
    pub(crate) counters: DevicePtr,
    /// `[n_head]`, or none.
    pub(crate) sinks: DevicePtr,
    pub(crate) n_head: i32,
    pub(crate) n_kv_head: i32,
    /// `n_head / n_kv_head`.
    pub(crate) group: i32,
    pub(crate) max_pages: i32,
    /// 0: none.
    pub(crate) window: i32,
    /// [`split_shift`].
    pub(crate) split_shift: i32,
    /// Not 0: rows and page tables were complete before the first kernel of this chain of dependent launches started, so that they
    /// may be read, and keys and values fetched to the cache, before the kernel before this one ends.
    pub(crate) early: i32,
    pub(crate) scale: f32,
    /// `[n_row, 2, n_kv_head * head_dim]` float32: the rows' own keys and values, where the cache is of Q8_0; or none, also in [`AttendPlacedArgs`].
    pub(crate) fresh: DevicePtr,
}

assert_size!(AttendDecodeArgs, 144);

/// Of attend_decode_placed.cu: queries, keys and values are as products left them.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct AttendPlacedArgs {
    pub(crate) attend: AttendDecodeArgs,
    pub(crate) place: PlaceArgs,
}

assert_size!(AttendPlacedArgs, 288);

/// Rows of one sequence that follow each other; see attend.cuh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct PromptSpan {
    /// Of the step's rows.
    pub(crate) row0: i32,
    pub(crate) n_row: i32,
    pub(crate) slot: i32,
    /// Position of `row0`.
    pub(crate) start: i32,
}

assert_size!(PromptSpan, 16);

/// Of attend_prompt.cu.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct AttendPromptArgs {
    /// `[n_row, n_term, n_head * head_dim]` float16, after RoPE.
    pub(crate) q: DevicePtr,
    pub(crate) k_cache: DevicePtr,
    pub(crate) v_cache: DevicePtr,
    /// As `q`.
    pub(crate) out: DevicePtr,
    /// `[n_span]` of [`PromptSpan`].
    pub(crate) spans: DevicePtr,
    pub(crate) page_tables: DevicePtr,
    /// `[n_head]`, or none.
    pub(crate) sinks: DevicePtr,
    pub(crate) n_span: i32,
    pub(crate) n_head: i32,
    pub(crate) n_kv_head: i32,
    pub(crate) max_pages: i32,
    /// 0: none.
    pub(crate) window: i32,
    /// Above 0.
    pub(crate) scale: f32,
    /// 1: `out` is in the order of prompt_packed.cuh; by the kernels on wgmma alone.
    pub(crate) even_then_odd: i32,
    pub(crate) reserved: i32,
}

assert_size!(AttendPromptArgs, 88);

/// Of attend_prompt_wgmma.cu.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct AttendPromptTmaArgs {
    /// Of this layer's keys, a row a position: boxes of [`PAGE`] rows.
    pub(crate) k_map: TensorMap,
    /// Likewise of its values.
    pub(crate) v_map: TensorMap,
    pub(crate) a: AttendPromptArgs,
    pub(crate) padding: [u64; 5],
}

assert_size!(AttendPromptTmaArgs, 384);

/// Head sizes that the kernels are compiled for: multiples of 32, as `attend_decode` writes blocks of 32 values.
pub(crate) const HEAD_DIMS: [usize; 6] = [32, 64, 96, 128, 192, 256];

/// Query heads that a key head may have: as many as were tested. Kernels take any number; with some 1,000, the tiles of a step's prompt
/// rows would exceed a grid.
pub(crate) const MAX_GROUP: usize = 256;

/// Query heads that a block of `attend_decode` computes together.
const HEADS: usize = 8;

/// Positions of a split are a multiple of this.
const PART: usize = 128;

/// Up to this many positions are one split.
const ALONE: usize = 2 * PART;

/// From here on, splits have two parts or more.
const SHORT: usize = 8 * PART;

/// Blocks of `attend_decode` that a multiprocessor runs at once, about.
const BLOCKS: usize = 2;

/// Key heads times the blocks of up to 8 query heads of each.
pub(crate) fn n_chunk(n_head: usize, n_kv_head: usize) -> usize {
    n_kv_head * (n_head / n_kv_head).div_ceil(HEADS)
}

/// Binary logarithm of the largest number of splits of a row's positions: 4 to 64, so that one row occupies about 256 blocks.
pub(crate) fn split_shift(n_head: usize, n_kv_head: usize) -> i32 {
    (256 / n_chunk(n_head, n_kv_head)).clamp(4, 64).ilog2() as i32
}

/// Bytes of partial sums of `n_row` rows.
pub(crate) fn part_bytes(n_row: usize, n_head: usize, n_kv_head: usize, head_dim: usize) -> usize {
    let n_split = (n_row * n_chunk(n_head, n_kv_head)) << split_shift(n_head, n_kv_head);
    let n_place = match n_head / n_kv_head {
        0..=2 => 2,
        3..=4 => 4,
        _ => HEADS,
    };
    n_split * (n_place * head_dim + 2 * HEADS) * 4
}

/// Blocks for `n_row` rows at up to `n_position` positions, on a device of `n_sm` multiprocessors. The bound only sizes the grid: longer rows
/// are computed as well.
fn decode_grid([n_row, n_position]: [usize; 2], n_sm: usize, args: &AttendDecodeArgs) -> [usize; 3] {
    let n_chunk = n_chunk(args.n_head as usize, args.n_kv_head as usize);
    let seen = match args.window {
        0 => n_position,
        window => n_position.min(window as usize + PAGE - 1),
    };
    let n_split = match seen {
        0..=ALONE => 1,
        n if n <= SHORT => n.div_ceil(PART),
        _ => seen.div_ceil(2 * PART).max(SHORT / PART),
    };
    let n_split = n_split.min(1 << args.split_shift);
    // Blocks that find no room come a turn later, and each takes its part of the splits, one after the other.
    let (n_column, at_once) = (n_row.max(1) * n_chunk, BLOCKS * n_sm);
    let turns = |n: usize| (n * n_column).div_ceil(at_once) * n_split.div_ceil(n);
    let n_part = (1..=n_split).min_by_key(|&n| turns(n)).unwrap_or(1);
    [n_part, n_chunk, n_row]
}

/// Whether no multiprocessor needs two blocks: then none need be short of registers.
pub(crate) fn has_few_blocks(bounds: [usize; 2], n_sm: usize, args: &AttendDecodeArgs) -> bool {
    decode_grid(bounds, n_sm, args).iter().product::<usize>() <= n_sm
}

/// Of generated rows.
pub(crate) fn decode_launch(
    head_dim: usize,
    bounds: [usize; 2],
    n_sm: usize,
    args: &AttendDecodeArgs,
) -> Launch {
    let file = if args.fresh == DevicePtr(0) { File::AttendDecode } else { File::AttendDecodeQ8 };
    let few = head_dim <= 128 && has_few_blocks(bounds, n_sm, args);
    let kernel = Kernel::of(file).with(End::Size(if few { "_few_" } else { "_" }, head_dim));
    launch_of(kernel, head_dim, decode_grid(bounds, n_sm, args))
}

/// For attention that places its heads. Only where [`has_few_blocks`].
pub(crate) fn placed_launch(
    head_dim: usize,
    bounds: [usize; 2],
    n_sm: usize,
    args: &AttendDecodeArgs,
) -> Launch {
    let kernel = Kernel::of(File::AttendDecodePlaced).with(End::Size("_", head_dim));
    launch_of(kernel, head_dim, decode_grid(bounds, n_sm, args))
}

fn launch_of(kernel: Kernel, head_dim: usize, grid: [usize; 3]) -> Launch {
    let n_thread = if head_dim <= 128 { 256 } else { 128 };
    Launch { kernel, grid: grid.map(|n| n as u32), n_thread, shared_bytes: 0, cluster: 1 }
}

/// How the prompt rows of a layer attend: bits follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PromptAttention {
    pub(crate) head_dim: usize,
    /// 1 or 2: float16 terms of queries, of their weights and of results.
    pub(crate) n_term: usize,
    /// Of the device's products.
    pub(crate) instruction: Instruction,
}

impl PromptAttention {
    /// Whether the kernel of attend_prompt_wgmma.cu does it.
    pub(crate) fn is_on_wgmma(self) -> bool {
        self.instruction == Instruction::Wgmma && self.n_term == 1 && self.head_dim >= 64
    }

    /// Pairs of a row and a query head that a block computes; on wgmma 64 for each warpgroup, of which there is one where the rows are few.
    fn n_pair(self, few: bool) -> usize {
        match self.head_dim {
            _ if few => 64,
            0..=64 if self.is_on_wgmma() => 192,
            _ if self.is_on_wgmma() => 128,
            0..=128 => 128 / self.n_term,
            _ => 64 / self.n_term,
        }
    }

    /// For wgmma queries and two blocks of keys and of values, a row's values in columns of 64, barriers, and what it takes to begin at a
    /// multiple of 1024. Else queries, a page of keys and one of values; rows are padded by 16 bytes.
    fn shared_bytes(self, few: bool) -> usize {
        if self.is_on_wgmma() {
            let n_position = if self.head_dim <= 128 { 128 } else { 64 };
            return (self.n_pair(few) + 4 * n_position) * 128 * self.head_dim.div_ceil(64) + 1024 + 9 * 8;
        }
        (self.n_term * self.n_pair(false) + 2 * PAGE) * (self.head_dim + 8) * 2
    }

    /// All rows of the spans, on a device of `n_sm` multiprocessors. The grid may be larger than this one.
    pub(crate) fn launch(
        self,
        spans: &[PromptSpan],
        args: &AttendPromptArgs,
        (n_sm, attending): (usize, Attending),
    ) -> Launch {
        let group = (args.n_head / args.n_kv_head) as usize;
        let n_tile = |few| -> usize {
            spans.iter().map(|span| (span.n_row as usize * group).div_ceil(self.n_pair(few))).sum()
        };
        // Blocks of one warpgroup, if all of them run at once. Of heads of 64 a multiprocessor has room for two, but where most have two, wide
        // blocks are faster.
        let at_once = if self.head_dim <= 64 { n_sm * 3 / 2 } else { n_sm };
        let few = self.is_on_wgmma()
            && match attending {
                Attending::Fastest => args.n_kv_head as usize * n_tile(true) <= at_once,
                Attending::Narrow => true,
                Attending::Wide => false,
            };
        let n_pair = self.n_pair(few);
        let (file, n_thread) = match self.n_term {
            // A warpgroup of 128 threads for 64 pairs, and a warpgroup that copies, or in narrow blocks a warp.
            1 if self.is_on_wgmma() => {
                (File::AttendPromptWgmma, n_pair as u32 / 64 * 128 + if few { 32 } else { 128 })
            }
            1 => (File::AttendPrompt, 128),
            _ => (File::AttendPromptSplit, if n_pair == 32 { 64 } else { 128 }),
        };
        Launch {
            kernel: Kernel::of(file).with(End::Size(if few { "_few_" } else { "_" }, self.head_dim)),
            grid: [args.n_kv_head as u32, n_tile(few) as u32, 1],
            n_thread,
            shared_bytes: self.shared_bytes(few) as u32,
            cluster: 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sizes::MANY_ROWS;

    #[test]
    fn one_row_occupies_the_device_whatever_the_heads() {
        for (n_head, n_kv_head) in [(14, 2), (32, 8), (32, 32), (64, 8), (9, 3), (71, 1), (12, 1), (256, 1)] {
            let blocks = n_chunk(n_head, n_kv_head) << split_shift(n_head, n_kv_head);
            assert!((64..=512).contains(&blocks), "{n_head} {n_kv_head}: {blocks}");
        }
    }

    #[test]
    fn shared_memory_fits_every_device() {
        let args = AttendPromptArgs { n_head: 8, n_kv_head: 2, ..AttendPromptArgs::default() };
        let spans = [PromptSpan { row0: 0, n_row: 33, slot: 0, start: 0 }];
        for attention in all() {
            let most = if attention.is_on_wgmma() { 227 << 10 } else { 99 << 10 };
            for n_sm in [1, 132] {
                let launch = attention.launch(&spans, &args, (n_sm, Attending::Fastest));
                assert!(launch.shared_bytes <= most, "{launch:?}");
                let few = attention.is_on_wgmma() && n_sm == 132;
                assert_eq!(launch.grid[1] as usize, 132_usize.div_ceil(attention.n_pair(few)));
                assert_eq!(launch.kernel.to_string().contains("_few_"), few, "{launch:?}");
            }
        }
    }

    /// Of all head sizes, terms and instructions.
    fn all() -> impl Iterator<Item = PromptAttention> {
        let of = |instruction| {
            HEAD_DIMS.into_iter().flat_map(move |head_dim| {
                [1, 2].map(|n_term| PromptAttention { head_dim, n_term, instruction })
            })
        };
        of(Instruction::Mma).chain(of(Instruction::Wgmma))
    }

    #[test]
    fn tiles_of_the_largest_groups_fit_a_grid() {
        let args = AttendPromptArgs { n_head: MAX_GROUP as i32, n_kv_head: 1, ..AttendPromptArgs::default() };
        let spans = [PromptSpan { row0: 0, n_row: MANY_ROWS as i32, slot: 0, start: 0 }];
        for attention in all() {
            assert!(
                attention.launch(&spans, &args, (132, Attending::Narrow)).grid[1] <= 65_535,
                "{attention:?}"
            );
        }
    }

    #[test]
    fn a_grid_is_no_larger_than_the_splits() {
        let args =
            AttendDecodeArgs { n_head: 14, n_kv_head: 2, group: 7, split_shift: 6, ..Default::default() };
        assert_eq!(decode_launch(64, [1, 256], 132, &args).grid, [1, 2, 1]);
        assert_eq!(decode_launch(64, [1, 1000], 132, &args).grid, [8, 2, 1]);
        assert_eq!(decode_launch(64, [1, 32768], 132, &args).grid, [64, 2, 1]);
        // With three parts, of 384 blocks 120 would come a turn later.
        assert_eq!(decode_launch(64, [64, 32768], 132, &args).grid, [2, 2, 64]);
        assert_eq!(decode_launch(64, [64, 32768], 264, &args).grid, [4, 2, 64]);
        assert_eq!(decode_launch(64, [16, 32768], 132, &args).grid, [8, 2, 16]);
        let name = |shape| decode_launch(64, shape, 132, &args).kernel.to_string();
        assert_eq!([name([1, 32768]), name([2, 32768])], ["attend_decode_few_64", "attend_decode_64"]);
        let few = |shape| has_few_blocks(shape, 132, &args);
        assert_eq!(
            [few([1, 32768]), few([2, 32768]), few([64, 256]), few([67, 256])],
            [true, false, true, false]
        );
        let windowed = AttendDecodeArgs { window: 128, ..args };
        assert_eq!(decode_launch(64, [1, 32768], 132, &windowed).grid, [1, 2, 1]);
    }
}
