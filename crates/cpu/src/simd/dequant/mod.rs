//! Panels: some columns of some weight rows, dequantised into the layout that a product reads.
//!
//! The values are those of `quant`, bit for bit; the bfloat16 panels round them to nearest even. Layouts: `f32`
//! [rows][cols + 16] (the padding is left as it was); bfloat16 [rows / 32][cols / 32][32 rows][32 columns], with zeros in
//! columns past the last. Rows past the last weight row are zeros.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod integers;
#[cfg(target_arch = "x86_64")]
mod k_quants;
#[cfg(target_arch = "x86_64")]
mod legacy;
#[cfg(target_arch = "x86_64")]
mod nibbles;
#[cfg(target_arch = "x86_64")]
mod nibbles512;
#[cfg(target_arch = "x86_64")]
mod plain;
#[cfg(target_arch = "x86_64")]
mod sink;
#[cfg(target_arch = "x86_64")]
mod table;
#[cfg(test)]
mod tests;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use super::gemm::integer;
use super::gemm::{self, Weights};
use super::isa::{Isa, Vectors};
use super::lanes::prefetch;
use quant::Format;
use std::ops::Range;

/// Padding at the end of a row of an `f32` panel, in numbers.
pub(super) const PAD: usize = 16;

/// Columns of a bfloat16 panel that are written together: a block of every format.
#[cfg(target_arch = "x86_64")]
const RUN: usize = 256;

/// What every caller has seen to.
const WHOLE: &str = "a row and a chunk are whole numbers of blocks";

/// The bytes of columns `cols` of every row.
fn row_slices<'a>(weights: &Weights<'a>, cols: &Range<usize>) -> impl Iterator<Item = &'a [u8]> {
    let format = weights.format;
    let bytes_for = |n| format.bytes_for(n).expect(WHOLE);
    let bytes = bytes_for(cols.start)..bytes_for(cols.end);
    weights.bytes.chunks_exact(bytes_for(weights.n_cols)).map(move |row| &row[bytes.clone()])
}

/// Columns `cols` of `weights` as `f32`, in `panel` of a whole number of rows.
///
/// `isa` must be one that this machine runs.
pub(super) fn panel_f32(isa: Isa, weights: &Weights<'_>, cols: Range<usize>, panel: &mut [f32]) {
    let n = cols.len();
    let mut rows = panel.chunks_exact_mut(n + PAD);
    for (bytes, row) in row_slices(weights, &cols).zip(&mut rows) {
        let row = &mut row[..n];
        row_f32(isa, weights.format, bytes, row);
    }
    for row in rows {
        row[..n].fill(0.0);
    }
}

/// One row's numbers, of which `row` is one for each.
///
/// `isa` must be one that this machine runs.
fn row_f32(isa: Isa, format: Format, bytes: &[u8], row: &mut [f32]) {
    assert_eq!(format.bytes_for(row.len()), Some(bytes.len()), "{WHOLE}");
    match isa.vectors() {
        #[cfg(target_arch = "x86_64")]
        Vectors::Bits512 => {
            let target = Target { dst: row.as_mut_ptr().cast(), step: 128 };
            // SAFETY: the row has room for the numbers of `bytes`, 32 of which are 128 bytes, and the machine runs AVX-512.
            unsafe { dequantize::<false>(format, bytes, target) };
        }
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the machine runs AVX2.
        Vectors::Bits256 => unsafe { avx2::dequantize(format, bytes, row) },
        _ => format.dequantize(bytes, row).expect(WHOLE),
    }
}

/// Asks for what is wanted of a row when the rows after it have had their turn: the bytes of its next columns, which are behind these `bytes`, or those of
/// the first columns of the row that is as far behind it as `weights` are long. They are too few and too far from those of the next row for
/// the processor to see that by itself.
fn prefetch_after(weights: &Weights<'_>, bytes: &[u8], is_last: bool, row_bytes: usize) {
    let next = match is_last {
        false => bytes.as_ptr_range().end,
        true => bytes.as_ptr_range().end.wrapping_add(weights.bytes.len() - row_bytes),
    };
    for line in (0..bytes.len()).step_by(64) {
        prefetch(next.wrapping_add(line));
    }
}

/// Columns `cols` of `weights` as 16-bit integers and their scales, in a panel of a whole number of rows ([`integer`]); only where a
/// kernel multiplies those. `isa` must be one that this machine runs.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) fn panel_i16(
    isa: Isa,
    weights: &Weights<'_>,
    cols: Range<usize>,
    (panel, scales): (&mut [i16], &mut [f32]),
) {
    let mut floats = [0.0; gemm::CHUNK];
    let row_bytes = weights.format.bytes_for(weights.n_cols).expect(WHOLE);
    let mut rows = panel
        .chunks_exact_mut(integer::panel_stride(cols.len()))
        .zip(scales.chunks_exact_mut(cols.len().div_ceil(integer::SPAN)));
    for (bytes, (row, scales)) in row_slices(weights, &cols).zip(&mut rows) {
        prefetch_after(weights, bytes, cols.end == weights.n_cols, row_bytes);
        let n_done = whole_spans(isa, weights.format, bytes, (&mut *row, &mut *scales));
        if n_done < cols.len() {
            let bytes = &bytes[weights.format.bytes_for(n_done).expect(WHOLE)..];
            let floats = &mut floats[..cols.len() - n_done];
            row_f32(isa, weights.format, bytes, floats);
            integer::quantize_weights(
                isa,
                floats,
                (&mut row[n_done..], &mut scales[n_done / integer::SPAN..]),
            );
        }
    }
    for (row, scales) in rows {
        row.fill(0);
        scales.fill(0.0);
    }
}

/// The integers of whole spans of a row, where there is a way to them without floats; gives the first column that is left.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn whole_spans(isa: Isa, format: Format, bytes: &[u8], row: (&mut [i16], &mut [f32])) -> usize {
    match isa.vectors() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the machine runs AVX2.
        Vectors::Bits256 => unsafe { nibbles::spans(format, bytes, row) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the machine runs AVX-512, with which AVX2 comes.
        Vectors::Bits512 => unsafe { nibbles512::spans(format, bytes, row) },
        _ => {
            let _ = (format, bytes, row);
            0
        }
    }
}

/// Columns `cols` of `weights` as bfloat16, in `panel` of a whole number of 32 rows; only where there is AMX.
#[cfg(target_arch = "x86_64")]
pub(super) fn panel_bf16(weights: &Weights<'_>, cols: Range<usize>, panel: &mut [u16]) {
    let steps = cols.len().div_ceil(32);
    assert!(panel.len().is_multiple_of(steps * 1024), "a whole number of 32 rows");
    let n_rows = panel.len() / (steps * 32);
    let rows = weights.bytes.len() / weights.format.bytes_for(weights.n_cols).expect(WHOLE);
    assert!(rows <= n_rows, "the panel has a row for every weight row");
    // A few columns of every row at a time: what 32 rows write is then a run of memory that the first cache holds.
    for first in (0..cols.len()).step_by(RUN) {
        let run = cols.start + first..(cols.start + first + RUN).min(cols.end);
        for (row, bytes) in row_slices(weights, &run).enumerate() {
            let at = (row / 32 * steps + first / 32) * 1024 + row % 32 * 32;
            let target = Target { dst: panel[at..].as_mut_ptr().cast(), step: 2048 };
            // SAFETY: from `at`, the panel has a group of 32 numbers for each 32 columns of the run, 1024 numbers (2048
            // bytes) apart, and AMX comes with AVX-512 and its bfloat16 conversions.
            unsafe { dequantize::<true>(weights.format, bytes, target) };
        }
    }
    for row in rows..n_rows {
        for step in 0..steps {
            let at = (row / 32 * steps + step) * 1024 + row % 32 * 32;
            panel[at..at + 32].fill(0);
        }
    }
}

/// Where a row goes: 32 numbers at `dst`, the next 32 `step` bytes further, and so on.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct Target {
    dst: *mut u8,
    step: usize,
}

/// A row of whole blocks, as bfloat16 or `f32`.
///
/// # Safety
/// The machine runs what [`Isa::Avx512`] stands for, and AVX-512 BF16 if `BF16`. `target` has room for the row's numbers,
/// and if `BF16` for a multiple of 32 of them.
#[cfg(target_arch = "x86_64")]
unsafe fn dequantize<const BF16: bool>(format: Format, bytes: &[u8], target: Target) {
    // SAFETY: the caller's promises are those of each function.
    unsafe {
        match format {
            Format::F32 => plain::f32::<BF16>(bytes, target),
            Format::F16 => plain::f16::<BF16>(bytes, target),
            Format::BF16 => plain::bf16::<BF16>(bytes, target),
            Format::Q4_0 => table::q4_0::<BF16>(bytes, target),
            Format::Q4_1 => table::q4_1::<BF16>(bytes, target),
            Format::IQ4_NL => table::iq4_nl::<BF16>(bytes, target),
            Format::IQ4_XS => table::iq4_xs::<BF16>(bytes, target),
            Format::MXFP4 => table::mxfp4::<BF16>(bytes, target),
            Format::Q4_K => table::q4_k::<BF16>(bytes, target),
            Format::Q5_0 => legacy::q5_0::<BF16>(bytes, target),
            Format::Q5_1 => legacy::q5_1::<BF16>(bytes, target),
            Format::Q8_0 => legacy::q8_0::<BF16>(bytes, target),
            Format::Q2_K => k_quants::q2_k::<BF16>(bytes, target),
            Format::Q3_K => k_quants::q3_k::<BF16>(bytes, target),
            Format::Q5_K => k_quants::q5_k::<BF16>(bytes, target),
            Format::Q6_K => k_quants::q6_k::<BF16>(bytes, target),
            Format::IQ2_XXS => integers::scaled::<quant::BlockIq2Xxs, _, BF16>(bytes, target),
            Format::IQ2_XS => integers::scaled::<quant::BlockIq2Xs, _, BF16>(bytes, target),
            Format::IQ2_S => integers::scaled::<quant::BlockIq2S, _, BF16>(bytes, target),
            Format::IQ3_XXS => integers::scaled::<quant::BlockIq3Xxs, _, BF16>(bytes, target),
            Format::IQ3_S => integers::scaled::<quant::BlockIq3S, _, BF16>(bytes, target),
            Format::IQ1_S => integers::scaled::<quant::BlockIq1S, _, BF16>(bytes, target),
            Format::IQ1_M => integers::scaled::<quant::BlockIq1M, _, BF16>(bytes, target),
            Format::TQ1_0 => integers::scaled::<quant::BlockTq1_0, _, BF16>(bytes, target),
            Format::TQ2_0 => integers::scaled::<quant::BlockTq2_0, _, BF16>(bytes, target),
            Format::NVFP4 => integers::scaled::<quant::BlockNvfp4, _, BF16>(bytes, target),
            Format::Q1_0 => integers::scaled::<quant::BlockQ1_0, _, BF16>(bytes, target),
            Format::Q2_0 => integers::scaled::<quant::BlockQ2_0, _, BF16>(bytes, target),
        }
    }
}
