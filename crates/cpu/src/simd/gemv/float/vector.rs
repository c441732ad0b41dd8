//! How do AVX2 and AVX-512 multiply stored floats? Four vectors of a weight row a step, each with up to four activation rows.
//!
//! One kernel, written over the few vector operations it needs and inlined into a function of each instruction set. A row's end
//! that does not fill a step is copied before zeros, which change no sum.

use std::arch::x86_64::*;

use super::{Bf16, F16, F32, Job, Stored};
use crate::simd::gemv::Columns;

/// How far ahead of the arithmetic weights are asked for, in bytes.
const PREFETCH: usize = 2048;
/// Values of the widest step.
const MAX_STEP: usize = 64;

/// Vectors of f32 of one instruction set.
///
/// # Safety
/// Every function asks for a processor with that instruction set.
trait Vector: Copy {
    /// Values of a vector.
    const LANES: usize;

    /// Loads stored floats, of which `LANES` can be read.
    unsafe fn weights<E: Element>(at: *const u8) -> Self;
    /// Loads f32, of which `LANES` can be read.
    unsafe fn load(at: *const f32) -> Self;
    unsafe fn zero() -> Self;
    /// `w * x + sum`.
    unsafe fn multiply_add(w: Self, x: Self, sum: Self) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    /// The sum of the lanes.
    unsafe fn total(self) -> f32;
}

impl Vector for __m256 {
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn weights<E: Element>(at: *const u8) -> __m256 {
        // SAFETY: the caller's.
        unsafe { E::eight(at) }
    }

    #[inline(always)]
    unsafe fn load(at: *const f32) -> __m256 {
        // SAFETY: the caller's.
        unsafe { _mm256_loadu_ps(at) }
    }

    #[inline(always)]
    unsafe fn zero() -> __m256 {
        // SAFETY: the caller's processor.
        unsafe { _mm256_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn multiply_add(w: __m256, x: __m256, sum: __m256) -> __m256 {
        // SAFETY: the caller's processor.
        unsafe { _mm256_fmadd_ps(w, x, sum) }
    }

    #[inline(always)]
    unsafe fn add(self, other: __m256) -> __m256 {
        // SAFETY: the caller's processor.
        unsafe { _mm256_add_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn total(self) -> f32 {
        // SAFETY: the caller's processor.
        unsafe {
            let quarter = _mm_add_ps(_mm256_castps256_ps128(self), _mm256_extractf128_ps::<1>(self));
            let pair = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
            _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)))
        }
    }
}

impl Vector for __m512 {
    const LANES: usize = 16;

    #[inline(always)]
    unsafe fn weights<E: Element>(at: *const u8) -> __m512 {
        // SAFETY: the caller's.
        unsafe { E::sixteen(at) }
    }

    #[inline(always)]
    unsafe fn load(at: *const f32) -> __m512 {
        // SAFETY: the caller's.
        unsafe { _mm512_loadu_ps(at) }
    }

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        // SAFETY: the caller's processor.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn multiply_add(w: __m512, x: __m512, sum: __m512) -> __m512 {
        // SAFETY: the caller's processor.
        unsafe { _mm512_fmadd_ps(w, x, sum) }
    }

    #[inline(always)]
    unsafe fn add(self, other: __m512) -> __m512 {
        // SAFETY: the caller's processor.
        unsafe { _mm512_add_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn total(self) -> f32 {
        // SAFETY: the caller's processor.
        unsafe { _mm256_add_ps(_mm512_castps512_ps256(self), _mm512_extractf32x8_ps::<1>(self)).total() }
    }
}

/// A stored float that vectors can be loaded of.
///
/// # Safety
/// Every function asks for a processor with the vector's instruction set.
pub(super) trait Element: Stored {
    /// Loads eight consecutive values, which can be read.
    unsafe fn eight(at: *const u8) -> __m256;
    /// Loads sixteen consecutive values, which can be read.
    unsafe fn sixteen(at: *const u8) -> __m512;
}

impl Element for F32 {
    #[inline(always)]
    unsafe fn eight(at: *const u8) -> __m256 {
        // SAFETY: the caller's.
        unsafe { _mm256_loadu_ps(at.cast()) }
    }

    #[inline(always)]
    unsafe fn sixteen(at: *const u8) -> __m512 {
        // SAFETY: the caller's.
        unsafe { _mm512_loadu_ps(at.cast()) }
    }
}

impl Element for F16 {
    #[inline(always)]
    unsafe fn eight(at: *const u8) -> __m256 {
        // SAFETY: the caller's.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(at.cast())) }
    }

    #[inline(always)]
    unsafe fn sixteen(at: *const u8) -> __m512 {
        // SAFETY: the caller's.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())) }
    }
}

impl Element for Bf16 {
    #[inline(always)]
    unsafe fn eight(at: *const u8) -> __m256 {
        // SAFETY: the caller's.
        unsafe {
            let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(at.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
        }
    }

    #[inline(always)]
    unsafe fn sixteen(at: *const u8) -> __m512 {
        // SAFETY: the caller's.
        unsafe {
            let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(at.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
        }
    }
}

/// Computes the product of the job.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn avx2<E: Element>(job: &Job<'_>, out: &mut Columns<'_>) {
    // SAFETY: this function's features.
    unsafe { rows::<__m256, E>(job, out) }
}

/// Computes the product of the job.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma,f16c")]
pub(super) fn avx512<E: Element>(job: &Job<'_>, out: &mut Columns<'_>) {
    // SAFETY: this function's features.
    unsafe { rows::<__m512, E>(job, out) }
}

/// # Safety
/// The processor has the vectors' instruction set.
#[inline(always)]
unsafe fn rows<V: Vector, E: Element>(job: &Job<'_>, out: &mut Columns<'_>) {
    for (col, w) in job.weights.chunks_exact(job.n_cols * E::BYTES).enumerate() {
        let mut first = 0;
        while first < out.n_rows() {
            // SAFETY: the caller's processor.
            unsafe {
                match out.n_rows() - first {
                    1 => dots::<V, E, 1>(job, (w, col), first, out),
                    2 => dots::<V, E, 2>(job, (w, col), first, out),
                    3 => dots::<V, E, 3>(job, (w, col), first, out),
                    _ => dots::<V, E, 4>(job, (w, col), first, out),
                }
            }
            first += 4;
        }
    }
}

/// The dot products of a weight row with `N` activation rows from `first` on.
///
/// # Safety
/// The processor has the vectors' instruction set.
#[inline(always)]
unsafe fn dots<V: Vector, E: Element, const N: usize>(
    job: &Job<'_>,
    (w, col): (&[u8], usize),
    first: usize,
    out: &mut Columns<'_>,
) {
    let step = 4 * V::LANES;
    let mut x = [&job.x[..0]; N];
    for (r, x) in x.iter_mut().enumerate() {
        *x = &job.x[(first + r) * job.n_cols..][..job.n_cols];
    }
    // SAFETY: the caller's processor.
    let mut sums = unsafe { [[V::zero(); 4]; N] };
    let whole = job.n_cols / step * step;
    let mut at = 0;
    while at < whole {
        for line in 0..(step * E::BYTES).div_ceil(64) {
            // A prefetch of any address is allowed.
            let address = w.as_ptr().wrapping_add(at * E::BYTES + PREFETCH + 64 * line);
            // SAFETY: every x86-64 processor has this instruction.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
        }
        // SAFETY: the caller's processor; a step from `at` on is inside the rows.
        unsafe { add::<V, E, N>(w.as_ptr().add(at * E::BYTES), x.map(|x| x.as_ptr().add(at)), &mut sums) };
        at += step;
    }
    if whole < job.n_cols {
        let (mut w_end, mut x_end) = ([0; MAX_STEP * 4], [[0.0; MAX_STEP]; N]);
        w_end[..w.len() - whole * E::BYTES].copy_from_slice(&w[whole * E::BYTES..]);
        for (end, x) in x_end.iter_mut().zip(x) {
            end[..job.n_cols - whole].copy_from_slice(&x[whole..]);
        }
        let mut x = [std::ptr::null(); N];
        for (x, end) in x.iter_mut().zip(&x_end) {
            *x = end.as_ptr();
        }
        // SAFETY: the caller's processor; the copies have room for the largest step.
        unsafe { add::<V, E, N>(w_end.as_ptr(), x, &mut sums) };
    }
    for (r, [a, b, c, d]) in sums.into_iter().enumerate() {
        // SAFETY: the caller's processor.
        out.set(first + r, col, unsafe { a.add(b).add(c.add(d)).total() });
    }
}

/// Adds the products of a step.
///
/// # Safety
/// The processor has the vectors' instruction set, and four vectors can be read of each operand.
#[inline(always)]
unsafe fn add<V: Vector, E: Element, const N: usize>(
    w: *const u8,
    x: [*const f32; N],
    sums: &mut [[V; 4]; N],
) {
    for v in 0..4 {
        // SAFETY: the caller's.
        unsafe {
            let w = V::weights::<E>(w.add(v * V::LANES * E::BYTES));
            for (x, sums) in x.iter().zip(&mut *sums) {
                sums[v] = V::multiply_add(w, V::load(x.add(v * V::LANES)), sums[v]);
            }
        }
    }
}
