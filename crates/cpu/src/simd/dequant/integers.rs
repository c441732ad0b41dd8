//! Rows of the formats of small integers under a scale for each 16 weights.

use super::Target;
use super::sink::{load32, put, widen};
use quant::{Scaled, cast};
use std::arch::x86_64::*;

/// # Safety
/// As [`super::dequantize`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
pub(super) unsafe fn scaled<B: Scaled<N>, const N: usize, const BF16: bool>(
    bytes: &[u8],
    mut target: Target,
) {
    let blocks: &[B] = cast(bytes).expect(super::WHOLE);
    let mut integers = [0; N];
    for block in blocks {
        block.integers(&mut integers);
        let integers = integers.map(i8::cast_unsigned);
        for i in 0..N / 32 {
            let (low, high) = widen(load32(&integers, 32 * i));
            let low = _mm512_mul_ps(low, _mm512_set1_ps(block.scale(2 * i)));
            let high = _mm512_mul_ps(high, _mm512_set1_ps(block.scale(2 * i + 1)));
            // SAFETY: the caller's promises.
            unsafe { put::<BF16>(&mut target, low, high) };
        }
    }
}
