//! The products of the prefill: Y = X W^T for weights W in their file's format and many activation rows X.
//!
//! A panel of weight rows is dequantised into a small scratch and multiplied with every activation row of the step, so
//! that the cost of dequantising is shared by all of them. Activations are brought into a kernel's layout once a step
//! ([`Prepared`]) and shared among threads and among matrices that read them. Shapes: X `n_rows` x `n_cols`, W
//! `n_out` x `n_cols`, Y `n_rows` x `n_out`, all row-major.
//!
//! The bits of `Y[r][o]` depend on the kernel, row `r` of X and row `o` of W alone: every product runs over `n_cols` in
//! one fixed order, rows are padded with zeros to a whole tile, and no sum crosses rows. Threads may take any weight rows.

#[cfg(target_arch = "x86_64")]
mod amx;
mod buffer;
mod float;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) mod integer;
#[cfg(target_arch = "x86_64")]
mod layout;
mod portable;
mod prepared;
#[cfg(test)]
pub(in crate::simd) mod sample;
#[cfg(test)]
mod tests;

pub use prepared::{Part, Prepared};

use super::columns::Columns;
use super::dequant;
use super::isa::{Isa, Vectors};
use buffer::Buffer;
use quant::Format;

/// Weight rows of a panel. Split a matrix among threads at multiples of it, or padding rows are computed for nothing.
pub const PANEL: usize = 32;

/// Columns of W that are dequantised at a time, a multiple of every format's block: what the caches hold.
pub(super) const CHUNK: usize = 512;

/// Activation rows that share one dequantised panel.
const MAX_ROWS: usize = 512;

/// How a product is computed. Only [`Kernel::choose`] makes one, so a kernel that exists runs on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    isa: Isa,
    arithmetic: Arithmetic,
}

/// What a kernel multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// Float32.
    Float,
    /// 16-bit integers, 128 columns under a scale; with AVX2, AVX-512 and i8mm.
    Integer,
    /// Bfloat16; with AMX.
    Bfloat,
}

impl Kernel {
    /// The kernel for weights of `format` on `isa` (or on the best set that this machine runs, if it lacks `isa`).
    ///
    /// AMX rounds weights and activations to bfloat16, the kernels for AVX2, AVX-512 and i8mm to 16-bit integers; with NEON or dot products
    /// alone those are no faster than `f32`. F32 weights are small and sensitive ones, such as the routers of experts, or belong to models
    /// that are kept in F32 or F16 for exactness; their products stay in `f32`.
    #[must_use]
    pub fn choose(isa: Isa, format: Format) -> Kernel {
        let isa = isa.or_best();
        let arithmetic = match isa {
            _ if matches!(format, Format::F32 | Format::F16) => Arithmetic::Float,
            Isa::Scalar | Isa::Neon | Isa::Dotprod => Arithmetic::Float,
            Isa::Amx => Arithmetic::Bfloat,
            _ => Arithmetic::Integer,
        };
        Kernel { isa, arithmetic }
    }

    /// The instruction set that the kernel uses.
    #[must_use]
    pub fn isa(self) -> Isa {
        self.isa
    }

    /// What it multiplies.
    #[must_use]
    pub fn arithmetic(self) -> Arithmetic {
        self.arithmetic
    }

    /// Activation rows of a block: the lanes of a vector, or the columns of a tile.
    fn lanes(self) -> usize {
        match self.isa.vectors() {
            Vectors::Portable | Vectors::Neon | Vectors::Bits256 => 8,
            Vectors::Bits512 => 16,
        }
    }

    /// Words of a block of activation rows: one `f32` for each number, or one pair of bfloat16 for two, or what `integer` says.
    fn block_words(self, n_cols: usize) -> usize {
        match self.arithmetic {
            Arithmetic::Bfloat => self.lanes() * n_cols.next_multiple_of(32) / 2,
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            Arithmetic::Integer => integer::block_words(self.lanes(), n_cols),
            _ => self.lanes() * n_cols,
        }
    }

    /// Weight rows that are dequantised at a time, a multiple of [`PANEL`].
    fn group(self) -> usize {
        match self.arithmetic {
            Arithmetic::Bfloat => 128,
            _ => 64,
        }
    }
}

/// Some rows of a weight matrix, as the file stores them.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    /// How `bytes` are to be read.
    pub format: Format,
    /// The rows, one after another.
    pub bytes: &'a [u8],
    /// Numbers of a row.
    pub n_cols: usize,
}

/// One thread's working memory; use it again for the next product.
#[derive(Default)]
pub struct Scratch {
    /// Dequantised weights: for AMX [group / 32][chunk / 32][32][32] bfloat16; integers as `integer` says; else [group][chunk + 16] `f32`.
    panel: Buffer,
    /// The scales of integers: [group][chunk / 128].
    scales: Buffer,
    /// Sums so far: [row blocks][group][lanes].
    sums: Buffer,
}

/// A dequantised group of weight rows and the part of X that it meets: what a kernel multiplies.
struct Job<'a> {
    /// Weight rows of the group, a multiple of [`PANEL`]; those past the matrix are zeros.
    group: usize,
    /// Columns of the chunk.
    cols: std::ops::Range<usize>,
    /// Row blocks of X that take part.
    blocks: std::ops::Range<usize>,
    x: &'a Prepared,
    /// True for the first chunk: the sums start at zero.
    first: bool,
    /// The weight rows, which are columns of Y, if this is the last chunk.
    done: Option<std::ops::Range<usize>>,
}

/// Y = X W^T: writes `out[r][o]` for every activation row `r` and every row `o` of `weights`.
///
/// # Panics
/// If the shapes do not agree: `weights` has `out.n_cols()` rows of `x.n_cols()` numbers, and `out` has a row for every
/// row of `x`.
pub fn gemm(weights: &Weights<'_>, x: &Prepared, out: &mut Columns<'_>, scratch: &mut Scratch) {
    let row_bytes = weights.format.bytes_for(weights.n_cols).expect("a row is a whole number of blocks");
    assert_eq!(weights.n_cols, x.n_cols(), "weights and activations have the same columns");
    assert_eq!(weights.bytes.len(), row_bytes * out.n_cols(), "a weight row for each column of the output");
    assert_eq!(x.n_rows(), out.n_rows(), "an output row for each activation row");
    if row_bytes == 0 || x.n_rows() == 0 {
        return;
    }
    let kernel = x.kernel();
    let lanes = kernel.lanes();
    let blocks = x.n_rows().div_ceil(lanes);
    let blocks_at_once = (MAX_ROWS / lanes).min(blocks);
    for first_block in (0..blocks).step_by(blocks_at_once) {
        let blocks = first_block..(first_block + blocks_at_once).min(blocks);
        for first_row in (0..out.n_cols()).step_by(kernel.group()) {
            let rows = kernel.group().min(out.n_cols() - first_row);
            let group = rows.next_multiple_of(PANEL);
            for start in (0..x.n_cols()).step_by(CHUNK) {
                let cols = start..(start + CHUNK).min(x.n_cols());
                let bytes = &weights.bytes[first_row * row_bytes..(first_row + rows) * row_bytes];
                let weights = Weights { bytes, ..*weights };
                let done = (cols.end == x.n_cols()).then_some(first_row..first_row + rows);
                let job = Job { group, cols, blocks: blocks.clone(), x, first: start == 0, done };
                multiply(&weights, &job, out, scratch);
            }
        }
    }
}

/// Dequantises the job's panel, adds its product to the sums and, after the last chunk, writes them to Y.
fn multiply(weights: &Weights<'_>, job: &Job<'_>, out: &mut Columns<'_>, scratch: &mut Scratch) {
    let Kernel { isa, arithmetic } = job.x.kernel();
    let n_sums = job.blocks.len() * job.group * job.x.kernel().lanes();
    scratch.sums.reserve::<f32>(n_sums);
    #[cfg(target_arch = "x86_64")]
    if arithmetic == Arithmetic::Bfloat {
        let n_panel = job.group * job.cols.len().next_multiple_of(32);
        scratch.panel.reserve::<u16>(n_panel);
        let panel = scratch.panel.get_mut::<u16>(n_panel);
        dequant::panel_bf16(weights, job.cols.clone(), panel);
        amx::multiply(job, panel, scratch.sums.get_mut(n_sums), out);
        return;
    }
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    if arithmetic == Arithmetic::Integer {
        let n_panel = job.group * integer::panel_stride(job.cols.len());
        let n_scales = job.group * job.cols.len().div_ceil(integer::SPAN);
        scratch.panel.reserve::<i16>(n_panel);
        scratch.scales.reserve::<f32>(n_scales);
        let (panel, scales) = (scratch.panel.get_mut(n_panel), scratch.scales.get_mut(n_scales));
        dequant::panel_i16(isa, weights, job.cols.clone(), (&mut *panel, &mut *scales));
        let sums = scratch.sums.get_mut(n_sums);
        integer::multiply(job, (panel, scales), sums, out);
        if let Some(cols) = &job.done {
            store(job, cols.clone(), sums, out);
        }
        return;
    }
    // The padding keeps the rows from falling on the same sets of the cache.
    let stride = job.cols.len() + dequant::PAD;
    scratch.panel.reserve::<f32>(job.group * stride);
    let panel = scratch.panel.get_mut::<f32>(job.group * stride);
    dequant::panel_f32(isa, weights, job.cols.clone(), panel);
    let sums = scratch.sums.get_mut(n_sums);
    float::multiply(isa, job, panel, sums);
    if let Some(cols) = &job.done {
        store(job, cols.clone(), sums, out);
    }
}

/// What the vector kernels read and write, as pointers and strides in numbers.
///
/// Invariant: `panel` reaches `group` rows of `n_cols` numbers `panel_stride` apart; `x` reaches `n_blocks` blocks of
/// `n_cols` x lanes numbers `x_stride` apart; `sums` is [n_blocks][group][lanes]; `group` is a multiple of [`PANEL`].
struct F32Tiles {
    panel: *const f32,
    panel_stride: usize,
    x: *const f32,
    x_stride: usize,
    sums: *mut f32,
    n_blocks: usize,
    group: usize,
    n_cols: usize,
    first: bool,
}

/// Checks a job's slices against their shapes.
fn f32_tiles(job: &Job<'_>, lanes: usize, panel: &[f32], sums: &mut [f32]) -> F32Tiles {
    let n_cols = job.cols.len();
    let (panel_stride, x_stride) = (n_cols + dequant::PAD, job.x.n_cols() * lanes);
    assert!(job.group.is_multiple_of(PANEL) && panel.len() == job.group * panel_stride);
    assert_eq!(sums.len(), job.blocks.len() * job.group * lanes);
    let x = &job.x.words()[job.blocks.start * x_stride..job.blocks.end * x_stride];
    assert!(job.cols.end <= job.x.n_cols());
    F32Tiles {
        panel: panel.as_ptr(),
        panel_stride,
        x: x[job.cols.start * lanes..].as_ptr().cast(),
        x_stride,
        sums: sums.as_mut_ptr(),
        n_blocks: job.blocks.len(),
        group: job.group,
        n_cols,
        first: job.first,
    }
}

/// Writes the sums [row blocks][group][lanes] to columns `cols` of Y.
fn store(job: &Job<'_>, cols: std::ops::Range<usize>, sums: &[f32], out: &mut Columns<'_>) {
    let lanes = job.x.kernel().lanes();
    for (block, sums) in job.blocks.clone().zip(sums.chunks_exact(job.group * lanes)) {
        #[cfg(target_arch = "x86_64")]
        if lanes == 16 {
            layout::store_block(sums, block * lanes, cols.clone(), out);
            continue;
        }
        for lane in 0..lanes.min(out.n_rows() - block * lanes) {
            let row = out.row(block * lanes + lane, cols.clone());
            for (value, sums) in row.iter_mut().zip(sums.chunks_exact(lanes)) {
                *value = sums[lane];
            }
        }
    }
}
