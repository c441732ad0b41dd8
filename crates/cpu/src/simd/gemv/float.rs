//! How are f32, f16 and bfloat16 weights multiplied? With f32 activations, in f32.
//!
//! 32 running sums take every 32nd product each and are added up in a fixed order at the end. The code is plain Rust that the
//! compiler vectorises for each instruction set; only processors with FMA fuse the multiplication and the addition.

use quant::Format;

use super::blocks::f16;
use super::{Columns, Weights};
use crate::simd::isa::Isa;

/// Running sums of a dot product.
const LANES: usize = 32;

/// A stored float.
trait Element {
    /// Bytes of it.
    type Bytes: Copy;
    /// Its value.
    fn value(bytes: Self::Bytes) -> f32;
    /// The values that `row` holds, and what is left of it.
    fn split(row: &[u8]) -> &[Self::Bytes];
}

struct F32;
impl Element for F32 {
    type Bytes = [u8; 4];

    #[inline(always)]
    fn value(bytes: [u8; 4]) -> f32 {
        f32::from_le_bytes(bytes)
    }

    #[inline(always)]
    fn split(row: &[u8]) -> &[[u8; 4]] {
        row.as_chunks().0
    }
}

struct F16;
impl Element for F16 {
    type Bytes = [u8; 2];

    #[inline(always)]
    fn value(bytes: [u8; 2]) -> f32 {
        f16(bytes)
    }

    #[inline(always)]
    fn split(row: &[u8]) -> &[[u8; 2]] {
        row.as_chunks().0
    }
}

struct Bf16;
impl Element for Bf16 {
    type Bytes = [u8; 2];

    #[inline(always)]
    fn value(bytes: [u8; 2]) -> f32 {
        f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)
    }

    #[inline(always)]
    fn split(row: &[u8]) -> &[[u8; 2]] {
        row.as_chunks().0
    }
}

/// Computes `out[x_row][w_row]` of whole rows.
pub(super) fn gemv(isa: Isa, weights: Weights<'_>, x: &[f32], out: &mut Columns<'_>) {
    match weights.format {
        Format::F32 => rows::<F32>(isa, weights, x, out),
        Format::F16 => rows::<F16>(isa, weights, x, out),
        Format::BF16 => rows::<Bf16>(isa, weights, x, out),
        other => panic!("{other} takes quantised activations"),
    }
}

fn rows<E: Element>(isa: Isa, weights: Weights<'_>, x: &[f32], out: &mut Columns<'_>) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn avx2<E: Element>(weights: Weights<'_>, x: &[f32], out: &mut Columns<'_>) {
            portable::<E, true>(weights, x, out);
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
        fn avx512<E: Element>(weights: Weights<'_>, x: &[f32], out: &mut Columns<'_>) {
            portable::<E, true>(weights, x, out);
        }
        match isa {
            Isa::Scalar => {}
            // SAFETY: the entry of the module checked that the processor has what `Isa::Avx2` stands for.
            Isa::Avx2 => return unsafe { avx2::<E>(weights, x, out) },
            // SAFETY: the entry of the module checked that the processor has what `Isa::Avx512` stands for.
            Isa::Avx512 | Isa::Amx => return unsafe { avx512::<E>(weights, x, out) },
        }
    }
    let _ = isa;
    portable::<E, false>(weights, x, out);
}

#[inline(always)]
fn portable<E: Element, const FMA: bool>(weights: Weights<'_>, x: &[f32], out: &mut Columns<'_>) {
    let n_cols = weights.n_cols;
    let row_bytes = n_cols * size_of::<E::Bytes>();
    for (col, row) in weights.bytes.chunks_exact(row_bytes).enumerate() {
        let row = E::split(row);
        for (x_row, x) in x.chunks_exact(n_cols).enumerate() {
            out.set(x_row, col, dot::<E, FMA>(row, x));
        }
    }
}

#[inline(always)]
fn dot<E: Element, const FMA: bool>(w: &[E::Bytes], x: &[f32]) -> f32 {
    let add = |sum: f32, w: E::Bytes, x: f32| {
        if FMA { E::value(w).mul_add(x, sum) } else { sum + E::value(w) * x }
    };
    let mut sums = [0.0f32; LANES];
    let ((w, w_rest), (x, x_rest)) = (w.as_chunks::<LANES>(), x.as_chunks::<LANES>());
    for (w, x) in w.iter().zip(x) {
        for ((sum, &w), &x) in sums.iter_mut().zip(w).zip(x) {
            *sum = add(*sum, w, x);
        }
    }
    for ((sum, &w), &x) in sums.iter_mut().zip(w_rest).zip(x_rest) {
        *sum = add(*sum, w, x);
    }
    let mut n = LANES / 2;
    while n > 0 {
        for i in 0..n {
            sums[i] += sums[i + n];
        }
        n /= 2;
    }
    sums[0]
}
