//! Eight float32 in two registers of NEON: as many as AVX2 has in one, so that both compute in the same order and give the same bits.

use std::arch::aarch64::*;

use super::Lanes;

/// Two registers, the first four values in the first.
#[derive(Clone, Copy)]
pub(crate) struct Neon(pub(crate) [float32x4_t; 2]);

impl Neon {
    #[inline(always)]
    fn zip(self, b: Self, f: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> Self {
        Neon([f(self.0[0], b.0[0]), f(self.0[1], b.0[1])])
    }
}

// SAFETY of every block: arm64 has NEON; the caller has pointers that reach 8 values.
impl Lanes for Neon {
    const LEN: usize = 8;
    // Four registers a pair; there are 32.
    const PAIRS: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: as said above.
        Neon([unsafe { vdupq_n_f32(x) }; 2])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: as said above.
        unsafe { Neon([vld1q_f32(from), vld1q_f32(from.add(4))]) }
    }
    #[inline(always)]
    unsafe fn load_half(from: *const u16) -> Self {
        // SAFETY: as said above.
        unsafe {
            let halves = vreinterpretq_f16_u16(vld1q_u16(from));
            Neon([vcvt_f32_f16(vget_low_f16(halves)), vcvt_high_f32_f16(halves)])
        }
    }
    #[inline(always)]
    unsafe fn load_bfloat(from: *const u16) -> Self {
        // SAFETY: as said above.
        unsafe {
            let bits = vld1q_u16(from);
            let (low, high) = (vshll_n_u16::<16>(vget_low_u16(bits)), vshll_high_n_u16::<16>(bits));
            Neon([vreinterpretq_f32_u32(low), vreinterpretq_f32_u32(high)])
        }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as said above.
        unsafe {
            vst1q_f32(to, self.0[0]);
            vst1q_f32(to.add(4), self.0[1]);
        }
    }
    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: as said above.
        unsafe { Neon([vfmaq_f32(c.0[0], self.0[0], b.0[0]), vfmaq_f32(c.0[1], self.0[1], b.0[1])]) }
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        // SAFETY: as said above.
        self.zip(b, |a, b| unsafe { vaddq_f32(a, b) })
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        // SAFETY: as said above.
        self.zip(b, |a, b| unsafe { vsubq_f32(a, b) })
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        // SAFETY: as said above.
        self.zip(b, |a, b| unsafe { vmulq_f32(a, b) })
    }
    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        // The instruction for a maximum would give a NaN for either one.
        // SAFETY: as said above.
        self.zip(b, |a, b| unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) })
    }
    #[inline(always)]
    unsafe fn scale(self, n: Self) -> Self {
        // SAFETY: as said above.
        self.zip(n, |a, n| unsafe {
            let exponent = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
            vmulq_f32(a, vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent)))
        })
    }
    #[inline(always)]
    unsafe fn where_above(self, x: Self, limit: f32) -> Self {
        // SAFETY: as said above.
        self.zip(x, |a, x| unsafe {
            let is_above = vcgtq_f32(x, vdupq_n_f32(limit));
            vreinterpretq_f32_u32(vandq_u32(is_above, vreinterpretq_u32_f32(a)))
        })
    }
    #[inline(always)]
    unsafe fn total(self) -> f32 {
        // SAFETY: as said above.
        unsafe {
            let quarter = vaddq_f32(self.0[0], self.0[1]);
            vpadds_f32(vadd_f32(vget_low_f32(quarter), vget_high_f32(quarter)))
        }
    }
}
