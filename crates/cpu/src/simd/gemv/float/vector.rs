//! How do AVX2, AVX-512 and NEON multiply stored floats? Four vectors of a weight row a step, each with up to four activation rows.
//!
//! One kernel over [`Lanes`], inlined into a function of each instruction set. A row's end that does not fill a step is copied before
//! zeros, which change no sum.

use super::{Job, Stored};
use crate::simd::gemv::{Columns, ask_ahead};
use crate::simd::lanes::Lanes;
#[cfg(target_arch = "x86_64")]
use crate::simd::lanes::{Avx2, Avx512};

/// Values of the widest step.
const MAX_STEP: usize = 64;

/// Computes the product of the job.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn avx2<E: Stored>(job: &Job<'_>, out: &mut Columns<'_>) {
    // SAFETY: this function's features.
    unsafe { rows::<Avx2, E>(job, out) }
}

/// Computes the product of the job.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma,f16c")]
pub(super) fn avx512<E: Stored>(job: &Job<'_>, out: &mut Columns<'_>) {
    // SAFETY: this function's features.
    unsafe { rows::<Avx512, E>(job, out) }
}

/// # Safety
/// The processor has the vectors' instruction set.
#[inline(always)]
pub(super) unsafe fn rows<L: Lanes, E: Stored>(job: &Job<'_>, out: &mut Columns<'_>) {
    for (col, w) in job.weights.chunks_exact(job.n_cols * E::BYTES).enumerate() {
        let mut first = 0;
        while first < out.n_rows() {
            // SAFETY: the caller's processor.
            unsafe {
                match out.n_rows() - first {
                    1 => dots::<L, E, 1>(job, (w, col), first, out),
                    2 => dots::<L, E, 2>(job, (w, col), first, out),
                    3 => dots::<L, E, 3>(job, (w, col), first, out),
                    _ => dots::<L, E, 4>(job, (w, col), first, out),
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
unsafe fn dots<L: Lanes, E: Stored, const N: usize>(
    job: &Job<'_>,
    (w, col): (&[u8], usize),
    first: usize,
    out: &mut Columns<'_>,
) {
    let step = 4 * L::LEN;
    let mut x = [&job.x[..0]; N];
    for (r, x) in x.iter_mut().enumerate() {
        *x = &job.x[(first + r) * job.n_cols..][..job.n_cols];
    }
    // SAFETY: the caller's processor.
    let mut sums = unsafe { [[L::splat(0.0); 4]; N] };
    let whole = job.n_cols / step * step;
    let mut at = 0;
    while at < whole {
        ask_ahead(w.as_ptr().wrapping_add(at * E::BYTES), step * E::BYTES);
        // SAFETY: the caller's processor; a step from `at` on is inside the rows.
        unsafe { add::<L, E, N>(w.as_ptr().add(at * E::BYTES), x.map(|x| x.as_ptr().add(at)), &mut sums) };
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
        unsafe { add::<L, E, N>(w_end.as_ptr(), x, &mut sums) };
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
unsafe fn add<L: Lanes, E: Stored, const N: usize>(w: *const u8, x: [*const f32; N], sums: &mut [[L; 4]; N]) {
    for v in 0..4 {
        // SAFETY: the caller's.
        unsafe {
            let w = E::load::<L>(w.add(v * L::LEN * E::BYTES));
            for (x, sums) in x.iter().zip(&mut *sums) {
                sums[v] = w.mul_add(L::load(x.add(v * L::LEN)), sums[v]);
            }
        }
    }
}
