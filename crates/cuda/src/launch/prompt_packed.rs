//! Products of the prompt rows with weights that are unpacked in registers, prompt_packed.cuh: arguments and launches.
//!
//! The bits are those of prompt_gemm.cu, whatever the number of rows.

use bytemuck::{Pod, Zeroable};
use quant::Format;

use crate::args::assert_size;
use crate::driver::{DevicePtr, TensorMap};
use crate::launch::file::{End, File, Kernel};
use crate::launch::kernels::Launch;
use crate::launch::product_half;
use crate::launch::prompt_gemm::{self, Instruction, PromptEpilogue, PromptGemmArgs, Shape};
use crate::memory::layout::{Layout, unit_bytes};

#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct PromptPackedArgs {
    /// Of A: boxes of [`BOX`] rows.
    pub(crate) a_map: TensorMap,
    pub(crate) g: PromptGemmArgs,
    pub(crate) w: DevicePtr,
    pub(crate) stride: u64,
    pub(crate) n_unit: i32,
    pub(crate) n_tile: i32,
    /// 0 where rows are stored in the tiles' order.
    pub(crate) head_dim: i32,
    pub(crate) half_rot: i32,
    pub(crate) adjacent: i32,
    /// 1: it runs beside the kernel before it, another product of this kind that reads the same and has waited for that.
    pub(crate) beside: i32,
    pub(crate) reserved: [u64; 5],
}

assert_size!(PromptPackedArgs, 320);

/// Rows of activations that are copied at a time.
pub(crate) const BOX: u32 = 64;

/// Whether a format's weights have these kernels.
pub(crate) fn has(format: Format) -> bool {
    product_half::has(format)
}

/// The tile that a block computes: `PackedStage` of prompt_packed.cuh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tile {
    /// Rows of activations.
    n_row: usize,
    /// Rows of weights.
    n_column: usize,
    n_thread: u32,
    blocks_per_sm: usize,
    name: &'static str,
    time: Time,
}

/// What tiles take, in hundredths of a microsecond, measured on an H200 with Q4_K.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Time {
    /// One after the other on a multiprocessor: of each tile, and of each of its units of 64 columns for up to 64 rows of activations, or more.
    InTurn(usize, [usize; 2]),
    /// Up to three beside each other: of all, and of a unit where there is one, two or three; for each of more.
    Beside(usize, [usize; 3], usize),
}

const LARGE: Tile = Tile {
    n_row: 128,
    n_column: 192,
    n_thread: 512,
    blocks_per_sm: 1,
    name: "_192",
    time: Time::InTurn(600, [53, 66]),
};

const TILES: [Tile; 3] = [
    LARGE,
    Tile { n_column: 128, n_thread: 320, name: "_128", time: Time::InTurn(550, [40, 50]), ..LARGE },
    Tile {
        n_row: 64,
        n_column: 64,
        n_thread: 192,
        blocks_per_sm: 3,
        name: "_64",
        time: Time::Beside(500, [30, 44, 61], 21),
    },
];

impl Tile {
    /// For `m` rows of activations and a matrix of `n` rows of `k` columns that is no expert's: what takes the shortest.
    fn choose(shape: [usize; 3], n_sm: usize) -> Tile {
        TILES.into_iter().min_by_key(|tile| tile.cost(shape, n_sm)).unwrap_or(LARGE)
    }

    /// What they take, in hundredths of a microsecond.
    fn cost(&self, [m, n, k]: [usize; 3], n_sm: usize) -> usize {
        let n_tile = (m.div_ceil(self.n_row) * n.div_ceil(self.n_column)).div_ceil(n_sm);
        let n_unit = k.div_ceil(64);
        match self.time {
            Time::InTurn(of_tile, of_unit) => n_tile * (of_tile + n_unit * of_unit[usize::from(m > 64)]),
            Time::Beside(of_all, few, each) => {
                of_all + n_unit * few.get(n_tile.saturating_sub(1)).copied().unwrap_or(n_tile * each)
            }
        }
    }

    /// `PackedStage::SHARED`.
    fn shared_bytes(self, format: Format) -> usize {
        let (rows, columns, (unit, tail)) = (self.n_row, self.n_column, unit_bytes(format));
        let n_unit = if unit > 1024 && tail == 0 { 2 } else { 4 };
        let (activations, weights) = (2 * rows * 128, columns / 16 * (n_unit * unit + tail));
        let sums = columns / 64 * 32 * (64 + 4) * 4;
        let room = (228 << 10) / self.blocks_per_sm - 1024 - 1024 - 256 - sums;
        let n_weights = if 3 * weights + 2 * activations <= room { 3 } else { 2 };
        let n_activations = ((room - n_weights * weights) / activations).min(6);
        n_activations * activations + n_weights * weights + sums + 16 * (n_activations + n_weights) + 1024
    }
}

/// Up to how many rows of an expert, in the mean, its weights are unpacked in registers. With 512, a prompt of gpt-oss-20b is a seventh faster so on
/// an H200; with more, an estimate sees no difference.
pub(crate) const MOST_OF_EXPERT: usize = 512;

/// What a launch takes, in hundredths of a microsecond, and percent of its estimate that a product must be faster for.
const LAUNCH: usize = 300;
const MARGIN: usize = 105;

/// Shared memory that keeps more than so many blocks from being on one of Hopper's multiprocessors: else those that start while the kernel before
/// ends would crowd the first that it leaves.
fn spread_bytes(n_block: usize) -> u32 {
    match n_block {
        0..=1 => 115 << 10,
        2 => 77 << 10,
        _ => 0,
    }
}

/// Whether it takes less time to unpack a matrix's weights in registers than to memory, where that is `n` rows of `k` columns for `m` rows of
/// activations. Floats take fewer instructions to unpack than other weights.
pub(crate) fn pays([m, n, k]: [usize; 3], are_floats: bool, n_sm: u32) -> bool {
    let shape = Shape { n_matrix: 1, m, n, k };
    let tiles = Tile::choose([m, n, k], n_sm as usize).cost([m, n, k], n_sm as usize);
    let packed = LAUNCH + if are_floats { tiles * 4 / 5 } else { tiles };
    packed * MARGIN < prompt_gemm::hundredths(shape, Instruction::Wgmma, n_sm) * 100
}

/// The launch of a product of these rows with a matrix, or with those of experts; of a matrix in tiles of `n_column` rows of weights, if that is
/// some tile's. Blocks without a tile end at once.
pub(crate) fn launch(
    epilogue: PromptEpilogue,
    format: Format,
    (args, n_sm): (&PromptGemmArgs, usize),
    n_column: Option<usize>,
) -> Launch {
    let (m, n, n_expert) = (args.m as usize, args.n as usize, args.n_expert as usize);
    let forced = TILES.into_iter().find(|tile| Some(tile.n_column) == n_column);
    let tile = match forced {
        _ if n_expert > 0 => LARGE,
        Some(tile) => tile,
        None => Tile::choose([m, n, args.k as usize], n_sm),
    };
    // Every expert may end in a tile that is not full.
    let n_tile = (m.div_ceil(tile.n_row) + n_expert) * n.div_ceil(tile.n_column);
    let kernel = Kernel::of(File::PromptPacked(Layout::of(format))).with(End::Word(match epilogue {
        PromptEpilogue::Store => "_store",
        PromptEpilogue::Residual => "_residual",
        PromptEpilogue::Weighted => "_weighted",
        PromptEpilogue::Gated => "_gated",
        PromptEpilogue::Plain => unreachable!("a product without such a kernel"),
    }));
    let grid = [n_tile.min(n_sm * tile.blocks_per_sm) as u32, 1];
    let shared_bytes = (tile.shared_bytes(format) as u32).max(spread_bytes(n_tile.div_ceil(n_sm)));
    Launch { shared_bytes, ..Launch::new(kernel.with(End::Word(tile.name)), grid, tile.n_thread) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_fit_the_shared_memory() {
        for format in Format::ALL.into_iter().filter(|format| has(*format)) {
            for tile in TILES {
                let bytes = tile.blocks_per_sm * (tile.shared_bytes(format) + 1024);
                assert!((150 << 10..=228 << 10).contains(&bytes), "{format}, {tile:?}: {bytes}");
            }
        }
    }

    #[test]
    fn kernels_follow_the_rows_and_the_layout() {
        let name = |epilogue, format, [m, n, n_expert]: [i32; 3]| {
            let args = PromptGemmArgs { m, n, k: 4096, n_expert, ..PromptGemmArgs::default() };
            launch(epilogue, format, (&args, 132), None).kernel.to_string()
        };
        let experts = [64, 5760, 32];
        assert_eq!(name(PromptEpilogue::Gated, Format::MXFP4, experts), "prompt_packed_mxfp4_gated_192");
        assert_eq!(
            name(PromptEpilogue::Weighted, Format::IQ2_XS, experts),
            "prompt_packed_table16_weighted_192"
        );
        let dense = |m, n| name(PromptEpilogue::Store, Format::Q4_K, [m, n, 0]);
        assert_eq!(dense(64, 4096), "prompt_packed_q4_k_store_64");
        assert_eq!(dense(512, 4096), "prompt_packed_q4_k_store_128");
        assert_eq!(dense(512, 5120), "prompt_packed_q4_k_store_192");
        assert_eq!(dense(512, 1024), "prompt_packed_q4_k_store_64");
    }

    #[test]
    fn few_rows_of_large_matrices_are_unpacked_in_registers() {
        let of_8b = [[6144, 4096], [4096, 4096], [28672, 4096], [4096, 14336]];
        let pays = |m, [n, k]: [usize; 2]| pays([m, n, k], false, 132);
        for m in [1, 16, 64, 128, 512] {
            assert_eq!(of_8b.map(|matrix| pays(m, matrix)), [true; 4], "{m} rows");
        }
        assert_eq!(of_8b.map(|matrix| pays(2048, matrix)), [false; 4]);
        // A vocabulary's, for the last row of a prompt.
        assert!(pays(1, [151_936, 896]));
        let gate_and_up = [512, 16_384, 2048];
        assert_eq!([false, true].map(|are_floats| super::pays(gate_and_up, are_floats, 132)), [false, true]);
    }
}
