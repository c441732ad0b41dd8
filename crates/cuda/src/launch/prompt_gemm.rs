//! Products of the prompt rows, prompt_gemm.cu: arguments, which tile, and how many rows of weights at a time.
//!
//! Neither choice changes a bit of the result: a value is the same chain of tensor-core steps in every tile.

use bytemuck::{Pod, Zeroable};
use model::architecture::Activation;

use crate::args::assert_size;
use crate::driver::{DevicePtr, TensorMap};
use crate::launch::file::{End, File, Kernel};
use crate::launch::kernels::Launch;

/// Bytes of float16 weights that are unpacked at a time for products of many prompt rows: they stay in the L2 cache.
pub(crate) const SLAB_BYTES: usize = 32 << 20;

/// What is done with the sums; see prompt_gemm.cuh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PromptEpilogue {
    Store,
    Residual,
    Weighted,
    Gated,
    Plain,
}

impl PromptEpilogue {
    /// What the names of its kernels begin with.
    fn name(self) -> &'static str {
        match self {
            PromptEpilogue::Store => "prompt_gemm_store",
            PromptEpilogue::Residual => "prompt_gemm_residual",
            PromptEpilogue::Weighted => "prompt_gemm_weighted",
            PromptEpilogue::Gated => "prompt_gemm_gated",
            PromptEpilogue::Plain => "prompt_gemm_plain",
        }
    }
}

/// `g * sigmoid(alpha * g * (1 + beta * g^2)) * (u + shift)` with `g` at most, and `u` within, `limit`; see prompt_gemm.cuh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct PromptActivation {
    pub(crate) alpha: f32,
    pub(crate) beta: f32,
    pub(crate) limit: f32,
    pub(crate) shift: f32,
}

impl From<Activation> for PromptActivation {
    fn from(activation: Activation) -> PromptActivation {
        let plain = PromptActivation { alpha: 1.0, beta: 0.0, limit: f32::INFINITY, shift: 0.0 };
        match activation {
            Activation::Silu => plain,
            // 2 sqrt(2 / pi), because (1 + tanh(v)) / 2 = sigmoid(2 v).
            Activation::GeluTanh => PromptActivation { alpha: 1.595_769, beta: 0.044_715, ..plain },
            Activation::ClampedSwiglu { alpha, limit } => {
                PromptActivation { alpha, limit, shift: 1.0, ..plain }
            }
        }
    }
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
    /// Rows of A, of all experts together.
    pub(crate) m: i32,
    pub(crate) n: i32,
    pub(crate) k: i32,
    /// Columns of W: `k`, or half of it where they are taken twice.
    pub(crate) w_k: i32,
    pub(crate) ld: i32,
    pub(crate) column: i32,
    pub(crate) n_expert: i32,
    pub(crate) act: PromptActivation,
    pub(crate) scale: f32,
    /// Of hidden values: from the first term to the second; 0 without a second.
    pub(crate) low: i32,
    pub(crate) reserved: i32,
}

assert_size!(PromptGemmArgs, 112);

/// What the kernels on wgmma take.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct PromptGemmTmaArgs {
    /// Of A: boxes of [`Tile::n_row`] rows.
    pub(crate) a_map: TensorMap,
    /// Of W, all experts' rows: boxes of [`Tile::n_column`] rows.
    pub(crate) w_map: TensorMap,
    pub(crate) g: PromptGemmArgs,
    pub(crate) padding: [u64; 2],
}

assert_size!(PromptGemmTmaArgs, 384);

/// Which instruction of the tensor cores. A device uses one for all products, as their sums are rounded differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instruction {
    /// `mma.sync`, since compute capability 8.0.
    Mma,
    /// `wgmma`, of 9.0 only, with operands fetched by the copy engine.
    Wgmma,
}

impl Instruction {
    /// For a device, with kernels compiled for these targets ([`crate::built::targets`]).
    pub(crate) fn of(compute_capability: (u32, u32), targets: &[&str]) -> Instruction {
        let has_own = targets.iter().any(|target| target.trim_end_matches("+ptx") == "sm_90a");
        if compute_capability == (9, 0) && has_own { Instruction::Wgmma } else { Instruction::Mma }
    }
}

/// The part of the result that a block computes at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tile {
    pub(crate) instruction: Instruction,
    pub(crate) n_row: usize,
    pub(crate) n_column: usize,
    /// Steps of 64 in k that shared memory holds.
    n_stage: usize,
    n_thread: u32,
    blocks_per_sm: u32,
    /// Relative speed of a busy multiprocessor, measured on an H200.
    speed: u64,
    /// What a tile costs beside its products, as so many in k, likewise.
    overhead: u64,
}

const WGMMA: Tile = Tile {
    instruction: Instruction::Wgmma,
    n_row: 128,
    n_column: 256,
    n_stage: 4,
    n_thread: 384,
    blocks_per_sm: 1,
    speed: 53,
    overhead: 500,
};

/// A tile whose blocks leave room for those that unpack the next weights.
const BESIDE: Tile = Tile { n_thread: 288, ..WGMMA };

const MMA: Tile = Tile {
    instruction: Instruction::Mma,
    n_row: 128,
    n_column: 128,
    n_stage: 3,
    n_thread: 256,
    blocks_per_sm: 2,
    speed: 25,
    overhead: 150,
};

const WGMMA_TILES: [Tile; 4] = [
    WGMMA,
    Tile { n_column: 128, n_stage: 6, speed: 46, ..BESIDE },
    Tile { n_row: 64, n_stage: 5, speed: 41, ..BESIDE },
    Tile { n_row: 64, n_column: 128, blocks_per_sm: 2, speed: 30, overhead: 150, ..BESIDE },
];

const MMA_TILES: [Tile; 3] = [
    MMA,
    Tile { n_row: 64, n_thread: 128, speed: 23, ..MMA },
    Tile { n_row: 32, n_thread: 64, speed: 17, ..MMA },
];

/// A product as the choices see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    /// Matrices in one launch: 1, or experts.
    pub(crate) n_matrix: usize,
    /// Rows of A for each matrix; with experts a guess, as only the device knows.
    pub(crate) m: usize,
    /// Rows of each matrix.
    pub(crate) n: usize,
    pub(crate) k: usize,
}

impl Tile {
    /// Of all there are, the one that should take the shortest.
    pub(crate) fn choose(shape: Shape, instruction: Instruction, n_sm: u32) -> Tile {
        let tiles: &[Tile] = match instruction {
            Instruction::Mma => &MMA_TILES,
            Instruction::Wgmma => &WGMMA_TILES,
        };
        let best = tiles.iter().min_by_key(|tile| tile.cost(shape, n_sm));
        *best.unwrap_or(&tiles[0])
    }

    /// Time in arbitrary units: what the multiprocessor with the most tiles takes.
    fn cost(&self, shape: Shape, n_sm: u32) -> u64 {
        let n_tile = shape.n_matrix * shape.m.div_ceil(self.n_row) * shape.n.div_ceil(self.n_column);
        let area = (self.n_row * self.n_column) as u64;
        (n_tile as u64).div_ceil(u64::from(n_sm)) * area * (shape.k as u64 + self.overhead) / self.speed
    }

    /// Steps in k, and for wgmma their barriers and what it takes to begin at a multiple of 1024.
    fn shared_bytes(&self) -> usize {
        let stages = self.n_stage * (self.n_row + self.n_column) * 128;
        match self.instruction {
            Instruction::Mma => stages,
            Instruction::Wgmma => stages + 1024 + 16 * self.n_stage,
        }
    }

    /// The launch of a product. Blocks without a tile end at once.
    pub(crate) fn launch(&self, epilogue: PromptEpilogue, args: &PromptGemmArgs, n_sm: u32) -> Launch {
        let (m, n, n_expert) = (args.m as usize, args.n as usize, args.n_expert as usize);
        // Every expert may end in a tile that is not full.
        let n_tile = (m.div_ceil(self.n_row) + n_expert) * n.div_ceil(self.n_column);
        let kernel = Kernel::named(File::PromptGemm, epilogue.name());
        let kernel = match self.instruction {
            Instruction::Mma => kernel.with(End::Size("_mma_", self.n_row)),
            Instruction::Wgmma => {
                kernel.with(End::Size("_wgmma_", self.n_row)).with(End::Size("x", self.n_column))
            }
        };
        Launch {
            kernel,
            grid: [(n_tile as u32).min(n_sm * self.blocks_per_sm), 1, 1],
            n_thread: self.n_thread,
            shared_bytes: self.shared_bytes() as u32,
            cluster: 1,
        }
    }
}

/// Of two more launches, one to unpack, in the units of [`Tile::cost`]: about 3 microseconds.
const LAUNCH_COST: u64 = 150_000;

/// Estimate of the time of a product whose weights are unpacked to memory, in hundredths of a microsecond, as measured on an H200: that of
/// unpacking, as far as it does not overlap with the product before, and that of one launch for the whole matrix.
pub(crate) fn hundredths(shape: Shape, instruction: Instruction, n_sm: u32) -> usize {
    let unpacking = shape.n * shape.k / 18_000;
    let product = Tile::choose(shape, instruction, n_sm).cost(shape, n_sm) + LAUNCH_COST;
    // A launch takes 3 microseconds.
    unpacking + (product / (LAUNCH_COST / 300)) as usize
}

/// How many of a matrix's rows to unpack and multiply at a time: a multiple of `step`, up to `most` (but `step` at least), such that the
/// launches keep all multiprocessors busy to their end.
pub(crate) fn slab_rows(
    shape: Shape,
    [step, most]: [usize; 2],
    instruction: Instruction,
    n_sm: u32,
) -> usize {
    let cost = |n: usize| {
        let shape = Shape { n, ..shape };
        if n == 0 { 0 } else { Tile::choose(shape, instruction, n_sm).cost(shape, n_sm) + LAUNCH_COST }
    };
    let in_all = |rows: &usize| (shape.n / rows) as u64 * cost(*rows) + cost(shape.n % rows);
    let most = most.min(shape.n.next_multiple_of(step));
    // The largest among equals: fewer launches.
    (1..=most / step).rev().map(|i| i * step).min_by_key(in_all).unwrap_or(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dense(m: usize, n: usize, k: usize) -> Shape {
        Shape { n_matrix: 1, m, n, k }
    }

    #[test]
    fn tiles_fit_the_shared_memory() {
        for tile in WGMMA_TILES {
            assert!(tile.blocks_per_sm as usize * (tile.shared_bytes() + 1024) <= 228 << 10, "{tile:?}");
        }
        for tile in MMA_TILES {
            assert!(tile.shared_bytes() <= 99 << 10, "{tile:?}");
        }
    }

    #[test]
    fn few_rows_take_small_tiles_and_many_large_ones() {
        let rows = |m, n, k| {
            let tile = Tile::choose(dense(m, n, k), Instruction::Wgmma, 132);
            [tile.n_row, tile.n_column]
        };
        assert_eq!(rows(4096, 4096, 4096), [128, 256]);
        assert_eq!(rows(512, 4096, 4096), [128, 128]);
        assert_eq!(rows(1, 896, 896), [64, 128]);
        assert_eq!(Tile::choose(dense(1, 4096, 4096), Instruction::Mma, 108).n_row, 32);
    }

    #[test]
    fn slabs_fill_the_last_wave() {
        // Llama-3-8B's down projection, 1170 rows of which fit: 1152 would be 160 tiles for 132 multiprocessors.
        let rows = slab_rows(dense(4096, 4096, 14336), [64, 1170], Instruction::Wgmma, 132);
        assert_eq!(rows, 1024);
        assert_eq!(slab_rows(dense(16, 40, 96), [64, 4096], Instruction::Wgmma, 132), 64);
        assert_eq!(slab_rows(dense(16, 128, 96), [64, 10], Instruction::Mma, 132), 64);
    }

    #[test]
    fn only_hopper_with_its_own_code_uses_its_own_instruction() {
        assert_eq!(Instruction::of((9, 0), &["sm_80+ptx", "sm_90a"]), Instruction::Wgmma);
        assert_eq!(Instruction::of((9, 0), &["sm_90a+ptx"]), Instruction::Wgmma);
        assert_eq!(Instruction::of((9, 0), &["sm_80+ptx"]), Instruction::Mma);
        assert_eq!(Instruction::of((10, 0), &["sm_90a"]), Instruction::Mma);
    }
}
