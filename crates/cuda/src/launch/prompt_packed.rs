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

/// Products of the same `m` rows of activations with matrices of `k` columns, which run beside each other: rows of each matrix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beside<'n> {
    pub(crate) m: usize,
    pub(crate) n: &'n [usize],
    pub(crate) k: usize,
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
    /// The one in which products beside each other take the shortest.
    fn shortest(shape: &Beside<'_>, n_sm: usize) -> Tile {
        TILES.into_iter().min_by_key(|tile| tile.cost(shape, n_sm)).unwrap_or(LARGE)
    }

    /// What they take for products that run beside each other, in hundredths of a microsecond.
    fn cost(&self, shape: &Beside<'_>, n_sm: usize) -> usize {
        let n_tile = self.count(shape).div_ceil(n_sm);
        let n_unit = shape.k.div_ceil(64);
        match self.time {
            Time::InTurn(of_tile, of_unit) => {
                n_tile * (of_tile + n_unit * of_unit[usize::from(shape.m > 64)])
            }
            Time::Beside(of_all, few, each) => {
                of_all + n_unit * few.get(n_tile.saturating_sub(1)).copied().unwrap_or(n_tile * each)
            }
        }
    }

    fn count(&self, shape: &Beside<'_>) -> usize {
        shape.n.iter().map(|n| shape.m.div_ceil(self.n_row) * n.div_ceil(self.n_column)).sum()
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

/// What a launch takes, in hundredths of a microsecond.
const LAUNCH: usize = 300;

/// Shared memory that keeps more than so many blocks from being on one of Hopper's multiprocessors: else those that start while the kernel before
/// ends would crowd the first that it leaves.
fn spread_bytes(tiles_per_sm: usize) -> u32 {
    match tiles_per_sm {
        0..=1 => 115 << 10,
        2 => 77 << 10,
        _ => 0,
    }
}

/// What products take, in hundredths of a microsecond.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Estimate {
    in_registers: usize,
    in_memory: usize,
}

impl Estimate {
    /// Of products beside each other, which the other way computes as one. Floats take fewer instructions to unpack than other weights.
    pub(crate) fn of(shape: &Beside<'_>, are_floats: bool, n_sm: u32) -> Estimate {
        let whole = Shape { n_matrix: 1, m: shape.m, n: shape.n.iter().sum(), k: shape.k };
        let tiles = Tile::shortest(shape, n_sm as usize).cost(shape, n_sm as usize);
        Estimate {
            in_registers: LAUNCH + if are_floats { tiles * 4 / 5 } else { tiles },
            in_memory: prompt_gemm::hundredths(whole, Instruction::Wgmma, n_sm),
        }
    }

    /// Of products after each other.
    pub(crate) fn then(self, other: Estimate) -> Estimate {
        Estimate {
            in_registers: self.in_registers + other.in_registers,
            in_memory: self.in_memory + other.in_memory,
        }
    }

    /// Whether weights are unpacked in registers: if these products, with `m` rows of activations, then gain enough.
    pub(crate) fn pays(self, m: usize, reader: Reader) -> bool {
        let gain = match reader {
            Reader::Other if m > HIDING_ROWS => GAIN_OF_HIDING,
            Reader::FeedForward | Reader::Other => GAIN,
        };
        self.in_registers * (100 + gain) < self.in_memory * 100
    }
}

/// What multiplies rows with matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Both products of one.
    FeedForward,
    /// A mixer, its output, the output of the model.
    Other,
}

/// Percent that products must gain by estimate, which is not exact.
const GAIN: usize = 7;

/// With more rows of activations than this, most of unpacking to memory runs beside the product before, but not beside one that unpacks in
/// registers. So a product must gain more percent, for itself and for the one after it. (The two of a feed-forward follow each other.)
const HIDING_ROWS: usize = 128;
const GAIN_OF_HIDING: usize = 20;

/// How the tiles of products beside each other are launched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tiling {
    tile: Tile,
    /// Tiles of all of them for each multiprocessor.
    tiles_per_sm: usize,
}

impl Tiling {
    /// In tiles of `n_column` rows of weights, if that is some tile's, or in those that take the shortest.
    pub(crate) fn of(shape: &Beside<'_>, n_column: Option<usize>, n_sm: usize) -> Tiling {
        let forced = TILES.into_iter().find(|tile| Some(tile.n_column) == n_column);
        let tile = forced.unwrap_or_else(|| Tile::shortest(shape, n_sm));
        Tiling { tile, tiles_per_sm: tile.count(shape).div_ceil(n_sm) }
    }

    /// Of experts: every one may end in a tile that is not full.
    pub(crate) fn of_experts(shape: &Beside<'_>, n_expert: usize, n_sm: usize) -> Tiling {
        let n_tile = shape.n.iter().map(|n| n.div_ceil(LARGE.n_column)).sum::<usize>() * n_expert;
        Tiling { tile: LARGE, tiles_per_sm: (LARGE.count(shape) + n_tile).div_ceil(n_sm) }
    }
}

/// The launch of a product of these rows with a matrix, or with those of experts. Blocks without a tile end at once.
pub(crate) fn launch(
    epilogue: PromptEpilogue,
    format: Format,
    (args, n_sm): (&PromptGemmArgs, usize),
    Tiling { tile, tiles_per_sm }: Tiling,
) -> Launch {
    let (m, n, n_expert) = (args.m as usize, args.n as usize, args.n_expert as usize);
    let n_tile = (m.div_ceil(tile.n_row) + n_expert) * n.div_ceil(tile.n_column);
    let kernel = Kernel::of(File::PromptPacked(Layout::of(format))).with(End::Word(match epilogue {
        PromptEpilogue::Store => "_store",
        PromptEpilogue::Residual => "_residual",
        PromptEpilogue::Weighted => "_weighted",
        PromptEpilogue::Gated => "_gated",
        PromptEpilogue::Plain => unreachable!("a product without such a kernel"),
    }));
    let grid = [n_tile.min(n_sm * tile.blocks_per_sm) as u32, 1];
    let shared_bytes = (tile.shared_bytes(format) as u32).max(spread_bytes(tiles_per_sm));
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
        let launch = |epilogue, format, args: PromptGemmArgs, tiling| {
            launch(epilogue, format, (&args, 132), tiling).kernel.to_string()
        };
        let experts = Beside { m: 64, n: &[5760], k: 2880 };
        let args = PromptGemmArgs { m: 64, n: 5760, k: 2880, n_expert: 32, ..PromptGemmArgs::default() };
        let tiling = Tiling::of_experts(&experts, 32, 132);
        let name = |epilogue, format| launch(epilogue, format, args, tiling);
        assert_eq!(name(PromptEpilogue::Gated, Format::MXFP4), "prompt_packed_mxfp4_gated_192");
        assert_eq!(name(PromptEpilogue::Weighted, Format::IQ2_XS), "prompt_packed_table16_weighted_192");
        let dense = |m: usize, n: usize, beside: &[usize]| {
            let args = PromptGemmArgs { m: m as i32, n: n as i32, k: 4096, ..PromptGemmArgs::default() };
            let tiling = Tiling::of(&Beside { m, n: beside, k: 4096 }, None, 132);
            launch(PromptEpilogue::Store, Format::Q4_K, args, tiling)
        };
        assert_eq!(dense(64, 4096, &[4096]), "prompt_packed_q4_k_store_64");
        assert_eq!(dense(512, 4096, &[4096]), "prompt_packed_q4_k_store_128");
        assert_eq!(dense(512, 5120, &[5120]), "prompt_packed_q4_k_store_192");
        assert_eq!(dense(512, 1024, &[1024]), "prompt_packed_q4_k_store_64");
        // All three fill the device together.
        assert_eq!(dense(256, 3072, &[3072; 3]), "prompt_packed_q4_k_store_192");
    }

    #[test]
    fn few_rows_of_large_matrices_are_unpacked_in_registers() {
        let of =
            |m, (n, k): (&[usize], usize), are_floats| Estimate::of(&Beside { m, n, k }, are_floats, 132);
        // Of Llama-3-8B: queries, keys and values, attention's output, gate and up, down.
        let matrices: [(&[usize], usize); 4] =
            [(&[4096, 1024, 1024], 4096), (&[4096], 4096), (&[28672], 4096), (&[4096], 14336)];
        let pays = |m| {
            let [qkv, attn_out, input, down] = matrices.map(|matrices| of(m, matrices, false));
            let mixer = [qkv, attn_out].map(|estimate| estimate.pays(m, Reader::Other));
            (mixer, input.then(down).pays(m, Reader::FeedForward))
        };
        for m in [1, 16, 64, 128] {
            assert_eq!(pays(m), ([true; 2], true), "{m} rows");
        }
        // Attention's output would gain, but not as much as unpacking gate and up beside it does.
        assert_eq!(pays(256), ([true, false], true));
        assert_eq!(pays(2048), ([false; 2], false));
        // A vocabulary's, for the last row of a prompt.
        assert!(of(1, (&[151_936], 896), false).pays(1, Reader::Other));
        // Small models: a launch more than the tile takes.
        assert!(!of(16, (&[576], 576), false).pays(16, Reader::Other));
        let gate_and_up: (&[usize], usize) = (&[16_384], 2048);
        let pays = [false, true].map(|are_floats| of(512, gate_and_up, are_floats).pays(512, Reader::Other));
        assert_eq!(pays, [false, true]);
    }
}
