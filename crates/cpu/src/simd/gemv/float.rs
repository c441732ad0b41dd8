//! How are f32, f16 and bfloat16 weights multiplied? With f32 activations, in f32.
//!
//! Running sums take every so many-th product each (32 of them; 64 with AVX-512) and are added up in a fixed order at the end.
//! Only processors with FMA fuse the multiplication and the addition.

use quant::Format;

use super::blocks::f16;
use super::{Columns, Weights};
use crate::simd::isa::{Isa, Vectors};
use crate::simd::lanes::Lanes;

mod vector;

/// A stored float.
trait Stored {
    /// Bytes of it.
    const BYTES: usize;

    /// The value of `BYTES` bytes.
    fn value(bytes: &[u8]) -> f32;

    /// The values of `L::LEN` of them, at any alignment.
    ///
    /// # Safety
    /// As the methods of [`Lanes`].
    unsafe fn load<L: Lanes>(at: *const u8) -> L;
}

struct F32;
impl Stored for F32 {
    const BYTES: usize = 4;

    #[inline(always)]
    fn value(bytes: &[u8]) -> f32 {
        f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    #[inline(always)]
    unsafe fn load<L: Lanes>(at: *const u8) -> L {
        // SAFETY: the caller's.
        unsafe { L::load(at.cast()) }
    }
}

struct F16;
impl Stored for F16 {
    const BYTES: usize = 2;

    #[inline(always)]
    fn value(bytes: &[u8]) -> f32 {
        f16([bytes[0], bytes[1]])
    }

    #[inline(always)]
    unsafe fn load<L: Lanes>(at: *const u8) -> L {
        // SAFETY: the caller's.
        unsafe { L::load_half(at.cast()) }
    }
}

struct Bf16;
impl Stored for Bf16 {
    const BYTES: usize = 2;

    #[inline(always)]
    fn value(bytes: &[u8]) -> f32 {
        f32::from_bits(u32::from(u16::from_le_bytes([bytes[0], bytes[1]])) << 16)
    }

    #[inline(always)]
    unsafe fn load<L: Lanes>(at: *const u8) -> L {
        // SAFETY: the caller's.
        unsafe { L::load_bfloat(at.cast()) }
    }
}

/// A product of whole rows: `x` is `[n_x][n_cols]`.
struct Job<'a> {
    weights: &'a [u8],
    n_cols: usize,
    x: &'a [f32],
}

/// Computes `out[x_row][w_row]`.
pub(super) fn gemv(isa: Isa, weights: Weights<'_>, x: &[f32], out: &mut Columns<'_>) {
    let job = Job { weights: weights.bytes, n_cols: weights.n_cols, x };
    match weights.format {
        Format::F32 => rows::<F32>(isa, &job, out),
        Format::F16 => rows::<F16>(isa, &job, out),
        Format::BF16 => rows::<Bf16>(isa, &job, out),
        other => panic!("{other} takes quantised activations"),
    }
}

fn rows<E: Stored>(isa: Isa, job: &Job<'_>, out: &mut Columns<'_>) {
    match isa.vectors() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the entry of the module checked that the processor has what `Isa::Avx2` stands for.
        Vectors::Bits256 => unsafe { vector::avx2::<E>(job, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the entry of the module checked that the processor has what `Isa::Avx512` stands for.
        Vectors::Bits512 => unsafe { vector::avx512::<E>(job, out) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: arm64 has NEON.
        Vectors::Neon => unsafe { vector::rows::<crate::simd::lanes::Neon, E>(job, out) },
        _ => portable::<E>(job, out),
    }
}

fn portable<E: Stored>(job: &Job<'_>, out: &mut Columns<'_>) {
    for (col, row) in job.weights.chunks_exact(job.n_cols * E::BYTES).enumerate() {
        for (x_row, x) in job.x.chunks_exact(job.n_cols).enumerate() {
            out.set(x_row, col, dot::<E>(row, x));
        }
    }
}

fn dot<E: Stored>(w: &[u8], x: &[f32]) -> f32 {
    const LANES: usize = 32;
    let mut sums = [0.0f32; LANES];
    for (w, x) in w.chunks(LANES * E::BYTES).zip(x.chunks(LANES)) {
        for ((sum, w), x) in sums.iter_mut().zip(w.chunks_exact(E::BYTES)).zip(x) {
            *sum += E::value(w) * x;
        }
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
