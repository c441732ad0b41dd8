//! What is a kernel for products, and what must it do? What [`product`](super::product) and [`product_half`](super::product_half) choose by.

use quant::Format;

use crate::launch::file::Kernel;
use crate::launch::kernels::Launch;
use crate::memory::layout::tile_scale_bytes;
use crate::sizes::Columns;

/// Warps of a block.
pub(crate) const WARPS: usize = 8;

/// A kernel for products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Variant {
    pub(crate) kernel: Kernel,
    /// Columns that a block computes.
    pub(crate) n_column: usize,
    /// Tiles that a block computes.
    pub(crate) n_tile: usize,
    /// Blocks that share these.
    pub(crate) parts: Parts,
    /// Threads of a block.
    pub(crate) n_thread: u32,
    /// Dynamic shared memory.
    pub(crate) shared_bytes: u32,
}

/// How many blocks share tiles and columns, each of them some ranges of the width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    /// One has it all.
    One,
    /// A cluster.
    Cluster(u32),
    /// Four or eight that hand each other their sums through memory: product_half_wide.cuh. All of the launch have room at once.
    Apart(u32),
}

impl Parts {
    pub(crate) fn count(self) -> u32 {
        match self {
            Parts::One => 1,
            Parts::Cluster(n) | Parts::Apart(n) => n,
        }
    }

    /// What the kernel is told.
    pub(crate) fn apart(self) -> i32 {
        match self {
            Parts::Apart(n) => n as i32,
            _ => 0,
        }
    }
}

impl Variant {
    /// With so much shared memory that `n_block` blocks spread over all multiprocessors.
    pub(crate) fn spread(mut self, n_block: usize, wanted: &Wanted) -> Variant {
        if wanted.max_shared_bytes >= HOPPER_SHARED_BYTES {
            self.shared_bytes = self.shared_bytes.max(spread_bytes(n_block, wanted.n_sm));
        }
        self
    }

    /// For so many times `n_tile` tiles, and times `n_column` columns or matrices.
    pub(crate) fn launch(self, [n_block, y]: [usize; 2]) -> Launch {
        Launch {
            kernel: self.kernel,
            grid: [n_block as u32 * self.parts.count(), y as u32, 1],
            n_thread: self.n_thread,
            shared_bytes: self.shared_bytes,
            cluster: if let Parts::Cluster(n) = self.parts { n } else { 1 },
        }
    }
}

/// How products with a matrix are computed. One for all numbers of columns, as their sums are rounded differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    /// Integers of weights and of activations: product_integer.cuh.
    Ints,
    /// Float32 activations, of float weights: product_float.cuh.
    Floats,
    /// Float16 of both: product_half.cuh.
    Halves,
}

/// What a product must do, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) arithmetic: Arithmetic,
    /// Tiles of the matrix.
    pub(crate) n_tile: usize,
    /// Units of a tile.
    pub(crate) n_unit: usize,
    /// Matrices at once: of experts.
    pub(crate) n_matrix: usize,
    /// Whether they are experts', each with columns of its own.
    pub(crate) of_experts: bool,
    /// Columns of the activations; of an expert, the most that it may have.
    pub(crate) n_col: usize,
    /// About as many: fewer where rows spread over experts.
    pub(crate) n_expected: usize,
    /// How many of them are computed at once.
    pub(crate) at_once: Columns,
    /// The epilogue combines rows of four tiles.
    pub(crate) needs_groups: bool,
    /// Shared memory that the device gives a block.
    pub(crate) max_shared_bytes: u32,
    /// Multiprocessors of the device.
    pub(crate) n_sm: usize,
}

/// Shared memory that Hopper gives a block.
pub(crate) const HOPPER_SHARED_BYTES: u32 = 227 << 10;

/// From how many tiles on a block computes several, of few columns: more blocks of one tile than three a multiprocessor would come in turns.
pub(crate) fn many_narrow_tiles(n_sm: usize) -> usize {
    3 * n_sm + 1
}

/// Shared memory that keeps so few blocks from being put on few multiprocessors: while the kernel before still runs on some, the others
/// would take as many blocks as fit. For multiprocessors of 228 KiB, of which a block takes one for itself.
fn spread_bytes(n_block: usize, n_sm: usize) -> u32 {
    if n_block <= 2 * n_sm {
        77 << 10 // two fit
    } else if n_block <= 3 * n_sm {
        57 << 10
    } else {
        0
    }
}

/// `EarlyArea` of product_early.cuh.
pub(crate) fn early_bytes(format: Format, p: usize, m: usize) -> usize {
    let tile_scales = if tile_scale_bytes(format) > 0 { 16 } else { 0 };
    tile_scales + if m == 1 { 192 + 288 * p } else { 4 * (32 * m + 16 * m * p + 4 * p) }
}
