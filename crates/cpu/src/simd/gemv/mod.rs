//! How are a few rows of activations multiplied by a weight matrix, straight from the file's bytes?
//!
//! `out[x_row][w_row]` is the dot product of an activation row and a weight row. With one to some sixteen activation rows the time
//! goes into reading the weights, so a block is unpacked in registers once and used for several activation rows. Block
//! formats meet activations in 8-bit integers ([`QuantizedRows`]), float formats meet f32.
//!
//! The bits of a dot product depend on its two rows and on the instruction set alone: its additions happen in the same order
//! however many activation rows are passed and however the weight rows are divided among threads.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod blocks;
mod bytes32;
mod dispatch;
mod float;
mod integers;
mod scalar;
#[cfg(test)]
pub(crate) mod tests;

use quant::Format;

use super::columns::Columns;
use super::isa::Isa;
use super::lanes::prefetch;
use super::quantize::{self, QuantizedRows};

/// How far ahead of the arithmetic weights are asked for, in bytes.
const AHEAD: usize = 2048;

/// Asks for the weights that come [`AHEAD`] bytes after the `n_bytes` at `weights`.
#[inline(always)]
fn ask_ahead(weights: *const u8, n_bytes: usize) {
    ask(weights.wrapping_add(AHEAD), n_bytes);
}

/// Asks for the `n_bytes` at `weights`, which need not be there.
#[inline(always)]
fn ask(weights: *const u8, n_bytes: usize) {
    for line in 0..n_bytes.div_ceil(64) {
        prefetch(weights.wrapping_add(64 * line));
    }
}

/// Rows of a weight matrix, as they stand in the file: `[n_rows][n_cols]`, at any alignment.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    /// How the rows are stored.
    pub format: Format,
    /// Weights of a row, a whole number of blocks.
    pub n_cols: usize,
    /// The rows, without padding.
    pub bytes: &'a [u8],
}

/// Rows of activations, `[n_rows][n_cols]`, in the form that the weights' format asks for: see [`wants_floats`].
#[derive(Clone, Copy, Debug)]
pub enum Activations<'a> {
    /// For F32, F16 and BF16.
    Float(&'a [f32]),
    /// For all other formats.
    Quantized(&'a QuantizedRows),
}

/// Whether weights of this format meet activations in f32, not in 8-bit integers.
#[must_use]
pub fn wants_floats(format: Format) -> bool {
    format.block_len() == 1
}

/// Computes `out[x_row][w_row]` for all rows of `x` and of `weights`.
///
/// # Panics
/// If the shapes do not fit each other, `x` is not in the form that the format asks for, or this machine has no `isa`.
pub fn gemv(isa: Isa, weights: Weights<'_>, x: Activations<'_>, out: &mut Columns<'_>) {
    quantize::assert_available(isa);
    let Weights { format, n_cols, bytes } = weights;
    let row_bytes = format.bytes_for(n_cols).unwrap_or(0);
    assert!(row_bytes > 0, "n_cols: expected a multiple of {}, found {n_cols}", format.block_len());
    assert!(
        bytes.len() == out.n_cols() * row_bytes,
        "expected {} rows of weights, found {} bytes",
        out.n_cols(),
        bytes.len()
    );
    let (n_rows, x_cols) = match x {
        Activations::Float(x) => (x.len() / n_cols, if x.len().is_multiple_of(n_cols) { n_cols } else { 0 }),
        Activations::Quantized(x) => (x.n_rows(), x.n_cols()),
    };
    assert!(n_rows == out.n_rows(), "expected {} rows of activations, found {n_rows}", out.n_rows());
    assert!(x_cols == n_cols, "expected {n_cols} activations a row, found {x_cols}");
    match x {
        Activations::Float(x) => float::gemv(isa, weights, x, out),
        Activations::Quantized(x) => dispatch::gemv(isa, &dispatch::Job { weights, row_bytes, x }, out),
    }
}
