//! Small arithmetic that compilers vectorise: fused multiply-add, exp, half precision, each compiled once an instruction set.
//!
//! A function marked `#[inline(always)]` takes the instruction set of its caller, so one body serves all; `FMA` says whether a fused
//! multiply-add is one instruction there (in portable code it would be a call).

use crate::simd::isa::Isa;
use crate::simd::isa::Vectors;
use crate::simd::pool::Pool;

/// `a * b + c`, fused where that is one instruction.
#[inline(always)]
pub(crate) fn mul_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// `exp(x)` for `x <= 88`, relative error below 3e-7; 0 below -87. NaN gives NaN.
///
/// `2^n * exp(r)` with `|r| <= ln(2) / 2` and the Taylor polynomial of degree 7.
#[inline(always)]
pub(crate) fn exp<const FMA: bool>(x: f32) -> f32 {
    /// Adding and subtracting it rounds to an integer, for magnitudes below 2^22.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.0, 88.0);
    let n = mul_add::<FMA>(clamped, std::f32::consts::LOG2_E, ROUND) - ROUND;
    // ln(2) in two parts, the first with few enough bits that its product with n is exact.
    let r = mul_add::<FMA>(n, -1.428_606_8e-6, mul_add::<FMA>(n, -0.693_145_75, clamped));
    let mut p = 1.0 / 5040.0;
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = mul_add::<FMA>(p, r, c);
    }
    // The float n + ROUND has n in its low bits; shifted into the exponent it is 2^n.
    let power = f32::from_bits(((n + ROUND).to_bits() << 23).wrapping_add(0x3f80_0000));
    if x < -87.0 { 0.0 } else { p * power }
}

/// To half precision, nearest even; what is too large becomes the largest finite value, since an infinity times a weight of 0
/// would spoil a whole sum.
pub(crate) fn narrow(isa: Isa, pool: &Pool, from: &[f32], to: &mut [u16]) {
    const PIECE: usize = 1 << 14;
    assert_eq!(from.len(), to.len());
    pool.chunks(to, PIECE, &|piece, to| {
        let from = &from[piece * PIECE..][..to.len()];
        match isa.vectors() {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the instruction set was found on this machine.
            Vectors::Bits256 | Vectors::Bits512 => unsafe { narrow_f16c(from, to) },
            #[cfg(target_arch = "aarch64")]
            Vectors::Neon => narrow_neon(from, to),
            _ => narrow_each(from, to),
        }
    });
}

/// The largest finite half-precision value.
const MAX_HALF: f32 = 65504.0;

fn narrow_each(from: &[f32], to: &mut [u16]) {
    for (to, &from) in to.iter_mut().zip(from) {
        *to = half::f16::from_f32(from.clamp(-MAX_HALF, MAX_HALF)).to_bits();
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c")]
fn narrow_f16c(from: &[f32], to: &mut [u16]) {
    use std::arch::x86_64::{
        _MM_FROUND_TO_NEAREST_INT, _mm_storeu_si128, _mm256_cvtps_ph, _mm256_loadu_ps, _mm256_max_ps,
        _mm256_min_ps, _mm256_set1_ps,
    };
    let (from8, from_rest) = from.as_chunks::<8>();
    let (to8, to_rest) = to.as_chunks_mut::<8>();
    let (most, least) = (_mm256_set1_ps(MAX_HALF), _mm256_set1_ps(-MAX_HALF));
    for (from, to) in from8.iter().zip(to8) {
        // SAFETY: reads the 32 bytes of a chunk of 8 values.
        let values = unsafe { _mm256_loadu_ps(from.as_ptr()) };
        // The second operand is what both instructions give for a NaN, which so stays one.
        let bounded = _mm256_min_ps(most, _mm256_max_ps(least, values));
        let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(bounded);
        // SAFETY: writes the 16 bytes of a chunk of 8 values.
        unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), halves) };
    }
    narrow_each(from_rest, to_rest);
}

#[cfg(target_arch = "aarch64")]
fn narrow_neon(from: &[f32], to: &mut [u16]) {
    use std::arch::aarch64::{
        vcvt_f16_f32, vdupq_n_f32, vld1q_f32, vmaxq_f32, vminq_f32, vreinterpret_u16_f16, vst1_u16,
    };
    let (from4, from_rest) = from.as_chunks::<4>();
    let (to4, to_rest) = to.as_chunks_mut::<4>();
    for (from, to) in from4.iter().zip(to4) {
        // SAFETY: arm64 has NEON; reads 4 values and writes 4. Both bounds give a NaN for a NaN.
        unsafe {
            let bounded = vmaxq_f32(vdupq_n_f32(-MAX_HALF), vld1q_f32(from.as_ptr()));
            let bounded = vminq_f32(vdupq_n_f32(MAX_HALF), bounded);
            vst1_u16(to.as_mut_ptr(), vreinterpret_u16_f16(vcvt_f16_f32(bounded)));
        }
    }
    narrow_each(from_rest, to_rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_everywhere() {
        let mut worst = 0f64;
        for i in -87_000..88_000 {
            let x = i as f32 / 1000.0;
            for got in [exp::<true>(x), exp::<false>(x)] {
                worst = worst.max((f64::from(got) / f64::from(x).exp() - 1.0).abs());
            }
        }
        assert!(worst < 3e-7, "{worst:e}");
        assert_eq!((exp::<true>(-88.0), exp::<false>(f32::NEG_INFINITY), exp::<true>(0.0)), (0.0, 0.0, 1.0));
        assert!(exp::<true>(f32::NAN).is_nan());
    }

    #[test]
    fn narrow_is_nearest_even_and_finite() {
        let from: Vec<f32> = (0..100_000u32)
            .map(|i| f32::from_bits(i.wrapping_mul(2_654_435_761)))
            .filter(|f| !f.is_nan())
            .collect();
        let (mut fast, mut each) = (vec![0; from.len()], vec![0; from.len()]);
        narrow(Isa::detect(), &Pool::new(1), &from, &mut fast);
        narrow_each(&from, &mut each);
        assert_eq!(fast, each);
        assert!(each.iter().all(|&b| half::f16::from_bits(b).is_finite()));
    }
}
