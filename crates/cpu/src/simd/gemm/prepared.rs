//! How do activations reach the kernels? Once a step they are brought into the layout of the kernel that will read them.
//!
//! Rows are grouped in blocks of as many rows as a vector has lanes (8, or 16). For the `f32` kernels a block is
//! `[n_cols][lanes]`; for AMX it is `[n_cols / 32]` tiles of `[16 pairs of columns][16 rows][2]` bfloat16, the second
//! operand of TDPBF16PS (Intel SDM volume 2); for integers see `integer`. Rows past the last and columns past `n_cols` are zeros.

use super::buffer::Buffer;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use super::integer;
#[cfg(target_arch = "x86_64")]
use super::layout;
use super::{Arithmetic, Kernel, Vectors};
use std::ops::Range;

/// The activations of a step, in one kernel's layout. Reusable: [`Prepared::reset`] keeps the memory.
pub struct Prepared {
    kernel: Kernel,
    n_rows: usize,
    n_cols: usize,
    /// [row blocks][block words]
    words: Buffer,
}

/// Some rows of a [`Prepared`] that one thread fills.
pub struct Part<'a> {
    kernel: Kernel,
    rows: Range<usize>,
    n_cols: usize,
    words: &'a mut [u32],
}

impl Prepared {
    /// No rows yet.
    #[must_use]
    pub fn new(kernel: Kernel) -> Prepared {
        Prepared { kernel, n_rows: 0, n_cols: 0, words: Buffer::default() }
    }

    /// Makes room for `n_rows` rows of `n_cols` numbers, which must then be filled.
    pub fn reset(&mut self, kernel: Kernel, n_rows: usize, n_cols: usize) {
        *self = Prepared { kernel, n_rows, n_cols, words: std::mem::take(&mut self.words) };
        self.words.reserve::<u32>(self.n_words());
    }

    /// The rows in parts of about `rows_per_part` (rounded up to a whole block), each to be filled by any thread.
    pub fn parts(&mut self, rows_per_part: usize) -> impl Iterator<Item = Part<'_>> + Send {
        let (kernel, n_rows, n_cols) = (self.kernel, self.n_rows, self.n_cols);
        let rows_per_part = rows_per_part.clamp(1, n_rows.max(1)).next_multiple_of(kernel.lanes());
        // At least one word, for rows of no columns.
        let words = (rows_per_part / kernel.lanes() * kernel.block_words(n_cols)).max(1);
        let n_words = self.n_words();
        self.words.get_mut::<u32>(n_words).chunks_mut(words).enumerate().map(move |(i, words)| {
            let rows = i * rows_per_part..((i + 1) * rows_per_part).min(n_rows);
            Part { kernel, rows, n_cols, words }
        })
    }

    /// Fills every row from a row-major matrix.
    ///
    /// # Panics
    /// If `x` is not `n_rows` x `n_cols` numbers.
    pub fn fill(&mut self, x: &[f32]) {
        let n_cols = self.n_cols;
        assert_eq!(x.len(), self.n_rows * n_cols, "a row-major matrix of the shape that was set");
        for mut part in self.parts(usize::MAX) {
            part.fill(|row| &x[row * n_cols..(row + 1) * n_cols]);
        }
    }

    /// Rows of the step.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Numbers of a row.
    #[must_use]
    pub fn n_cols(&self) -> usize {
        self.n_cols
    }

    /// The kernel whose layout this is.
    #[must_use]
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    fn n_words(&self) -> usize {
        self.n_rows.div_ceil(self.kernel.lanes()) * self.kernel.block_words(self.n_cols)
    }

    /// Every row block: [row blocks][block words].
    pub(super) fn words(&self) -> &[u32] {
        self.words.get(self.n_words())
    }
}

impl Part<'_> {
    /// Which rows the part holds.
    #[must_use]
    pub fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// Fills the part; `row(r)` is row `r` of the step, `n_cols` numbers.
    ///
    /// # Panics
    /// If a row has another length.
    pub fn fill<'x>(&mut self, row: impl Fn(usize) -> &'x [f32]) {
        let lanes = self.kernel.lanes();
        let block_words = self.kernel.block_words(self.n_cols);
        if block_words == 0 {
            return;
        }
        let blocks = self.words.chunks_exact_mut(block_words);
        for (first, words) in (self.rows.start..).step_by(lanes).zip(blocks) {
            let mut rows: [&[f32]; 16] = [&[]; 16];
            let n_rows = lanes.min(self.rows.end - first);
            for (i, slot) in rows.iter_mut().enumerate().take(n_rows) {
                *slot = row(first + i);
                assert_eq!(slot.len(), self.n_cols, "a row of the step");
            }
            match (self.kernel.arithmetic(), self.kernel.isa().vectors()) {
                #[cfg(target_arch = "x86_64")]
                (Arithmetic::Bfloat, _) => layout::prepare_pairs(&rows[..n_rows], words),
                #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
                (Arithmetic::Integer, _) => integer::prepare_block(self.kernel.isa(), &rows[..n_rows], words),
                #[cfg(target_arch = "x86_64")]
                (_, Vectors::Bits512) => layout::prepare_block(&rows[..n_rows], words),
                _ => prepare_block(&rows[..n_rows], lanes, words),
            }
        }
    }
}

/// Writes up to `lanes` rows as [n_cols][lanes].
fn prepare_block(rows: &[&[f32]], lanes: usize, words: &mut [u32]) {
    for (col, words) in words.chunks_exact_mut(lanes).enumerate() {
        words.fill(0);
        for (word, row) in words.iter_mut().zip(rows) {
            *word = row[col].to_bits();
        }
    }
}
