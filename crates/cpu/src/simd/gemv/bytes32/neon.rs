//! 32 bytes in two registers of NEON: products by `sdot` where there are dot products, else by `smull` and `smlal`.
//!
//! Both multiply signed bytes. Without `sdot` products are added up in 16 bits, two at a time, or four in formats of small codes, and pairs
//! of those in 32. Sums are exact by either instruction, so the bits are the same, and those of AVX2.

use std::arch::aarch64::*;
use std::arch::asm;

use super::super::Columns;
use super::super::blocks::Blocks;
use super::super::dispatch::Job;
use super::Unpack;
use super::vector::{Bytes, is_small};
use crate::simd::isa::Isa;
use crate::simd::lanes::Neon;

/// Computes the product of the job. Only where `isa` was detected.
pub(in super::super) fn gemv<B: Unpack>(isa: Isa, job: &Job<'_>, out: &mut Columns<'_>) {
    // SAFETY: arm64 has NEON, and the entry of the module checked that the processor has what `isa` stands for.
    unsafe {
        match isa {
            Isa::Dotprod | Isa::I8mm => with_dot_products::<B>(job, out),
            _ => super::rows::<Pair<false>, B>(job, out),
        }
    }
}

#[target_feature(enable = "neon,dotprod")]
fn with_dot_products<B: Unpack>(job: &Job<'_>, out: &mut Columns<'_>) {
    // SAFETY: this function's own instruction set.
    unsafe { super::rows::<Pair<true>, B>(job, out) }
}

/// Two registers, the first 16 bytes in the first; with dot products or without.
#[derive(Clone, Copy)]
struct Pair<const DOT: bool>([uint8x16_t; 2]);

impl<const DOT: bool> Pair<DOT> {
    #[inline(always)]
    fn zip(self, b: Self, f: impl Fn(uint8x16_t, uint8x16_t) -> uint8x16_t) -> Self {
        Pair([f(self.0[0], b.0[0]), f(self.0[1], b.0[1])])
    }
}

// SAFETY of every block: arm64 has NEON, and the caller has dot products if `DOT` and pointers that reach what is read.
impl<const DOT: bool> Bytes for Pair<DOT> {
    type Floats = Neon;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: as said above.
        unsafe { Pair([vld1q_u8(from), vld1q_u8(from.add(16))]) }
    }
    #[inline(always)]
    unsafe fn splat(byte: u8) -> Self {
        // SAFETY: as said above.
        Pair([unsafe { vdupq_n_u8(byte) }; 2])
    }
    #[inline(always)]
    unsafe fn nibbles(from: *const u8) -> Self {
        // SAFETY: as said above.
        unsafe {
            let bytes = vld1q_u8(from);
            Pair([vandq_u8(bytes, vdupq_n_u8(15)), vshrq_n_u8::<4>(bytes)])
        }
    }
    #[inline(always)]
    unsafe fn of_bits(bits: u32) -> Self {
        // SAFETY: as said above.
        unsafe {
            let bytes = vreinterpretq_u8_u32(vdupq_n_u32(bits));
            let bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040_2010_0804_0201));
            let of = vcombine_u8(vdup_n_u8(0), vdup_n_u8(1));
            let more = vcombine_u8(vdup_n_u8(2), vdup_n_u8(3));
            Pair([vtstq_u8(vqtbl1q_u8(bytes, of), bit), vtstq_u8(vqtbl1q_u8(bytes, more), bit)])
        }
    }

    #[inline(always)]
    unsafe fn and(self, b: Self) -> Self {
        // SAFETY: as said above.
        self.zip(b, |a, b| unsafe { vandq_u8(a, b) })
    }
    #[inline(always)]
    unsafe fn or(self, b: Self) -> Self {
        // SAFETY: as said above.
        self.zip(b, |a, b| unsafe { vorrq_u8(a, b) })
    }
    #[inline(always)]
    unsafe fn xor(self, b: Self) -> Self {
        // SAFETY: as said above.
        self.zip(b, |a, b| unsafe { veorq_u8(a, b) })
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        // SAFETY: as said above.
        self.zip(b, |a, b| unsafe { vsubq_u8(a, b) })
    }
    #[inline(always)]
    unsafe fn equal(self, b: Self) -> Self {
        // SAFETY: as said above.
        self.zip(b, |a, b| unsafe { vceqq_u8(a, b) })
    }
    #[inline(always)]
    unsafe fn shifted_left<const N: i32>(self) -> Self {
        // SAFETY: as said above.
        unsafe { Pair([vshlq_n_u8::<N>(self.0[0]), vshlq_n_u8::<N>(self.0[1])]) }
    }
    #[inline(always)]
    unsafe fn shifted_right<const N: i32>(self) -> Self {
        // SAFETY: as said above.
        unsafe { Pair([vshrq_n_u8::<N>(self.0[0]), vshrq_n_u8::<N>(self.0[1])]) }
    }
    #[inline(always)]
    unsafe fn looked_up(self, table: &[i8; 16]) -> Self {
        // SAFETY: as said above.
        unsafe {
            let table = vld1q_u8(table.as_ptr().cast());
            Pair([vqtbl1q_u8(table, self.0[0]), vqtbl1q_u8(table, self.0[1])])
        }
    }

    #[inline(always)]
    unsafe fn transposed([a, b, c, d]: [Self; 4]) -> [Self; 4] {
        // SAFETY: as said above.
        let [low, high] = unsafe {
            [
                transposed_words([a.0[0], b.0[0], c.0[0], d.0[0]]),
                transposed_words([a.0[1], b.0[1], c.0[1], d.0[1]]),
            ]
        };
        [Pair([low[0], high[0]]), Pair([low[1], high[1]]), Pair([low[2], high[2]]), Pair([low[3], high[3]])]
    }

    #[inline(always)]
    unsafe fn products<B: Blocks>(w: &[Self; 4], x: *const i8) -> Neon {
        // SAFETY: as said above.
        unsafe {
            Neon([
                products::<B, DOT>([w[0].0[0], w[1].0[0], w[2].0[0], w[3].0[0]], x),
                products::<B, DOT>([w[0].0[1], w[1].0[1], w[2].0[1], w[3].0[1]], x.add(16)),
            ])
        }
    }

    #[inline(always)]
    unsafe fn half(bits: u16) -> f32 {
        // SAFETY: as said above.
        unsafe { vgetq_lane_f32::<0>(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(bits)))) }
    }
    #[inline(always)]
    unsafe fn halves_by_block([a, b, c, d, e, f, g, h]: [u16; 8]) -> [Neon; 2] {
        // SAFETY: as said above.
        unsafe {
            [four_halves(vcreate_u16(four([a, b, c, d]))), four_halves(vcreate_u16(four([e, f, g, h])))]
        }
    }
    #[inline(always)]
    unsafe fn pairs_by_block([a, b, c, d, e, f, g, h]: [u32; 8]) -> [[Neon; 2]; 2] {
        // SAFETY: as said above.
        unsafe {
            let low = vreinterpretq_u16_u64(vcombine_u64(vcreate_u64(two([a, b])), vcreate_u64(two([c, d]))));
            let high =
                vreinterpretq_u16_u64(vcombine_u64(vcreate_u64(two([e, f])), vcreate_u64(two([g, h]))));
            let (lows, highs) = (vuzp1q_u16(low, high), vuzp2q_u16(low, high));
            [
                [four_halves(vget_low_u16(lows)), four_halves(vget_high_u16(lows))],
                [four_halves(vget_low_u16(highs)), four_halves(vget_high_u16(highs))],
            ]
        }
    }
    #[inline(always)]
    unsafe fn bytes_by_block(bytes: u64, factor: f32) -> [Neon; 2] {
        // SAFETY: as said above.
        unsafe {
            let values = vmovl_u8(vcreate_u8(bytes));
            let low = vmulq_n_f32(vcvtq_f32_u32(vmovl_u16(vget_low_u16(values))), factor);
            let high = vmulq_n_f32(vcvtq_f32_u32(vmovl_high_u16(values)), factor);
            [Neon([low; 2]), Neon([high; 2])]
        }
    }
    #[inline(always)]
    unsafe fn bytes_by_group(bytes: &[u8; 16], factor: f32) -> [Neon; 2] {
        // SAFETY: as said above.
        unsafe {
            let bytes = vld1q_s8(bytes.as_ptr().cast());
            let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes));
            let (even, odd) = (vuzp1q_s16(low, high), vuzp2q_s16(low, high));
            let scaled = |values| vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(values)), factor);
            [
                Neon([scaled(vget_low_s16(even)), scaled(vget_low_s16(odd))]),
                Neon([scaled(vget_high_s16(even)), scaled(vget_high_s16(odd))]),
            ]
        }
    }
    #[inline(always)]
    unsafe fn by_group(values: &[f32; 16]) -> [Neon; 2] {
        let v = values.as_ptr();
        // SAFETY: as said above; there are 16 values.
        unsafe {
            let [a, b, c, d] = [vld1q_f32(v), vld1q_f32(v.add(4)), vld1q_f32(v.add(8)), vld1q_f32(v.add(12))];
            [Neon([vuzp1q_f32(a, b), vuzp2q_f32(a, b)]), Neon([vuzp1q_f32(c, d), vuzp2q_f32(c, d)])]
        }
    }
}

/// Word `j` of vector `i` becomes word `i` of vector `j`.
///
/// # Safety
/// None: arm64 has NEON.
#[inline(always)]
unsafe fn transposed_words(v: [uint8x16_t; 4]) -> [uint8x16_t; 4] {
    // SAFETY: arm64 has NEON.
    unsafe {
        let [a, b, c, d] = v.map(|v| vreinterpretq_u32_u8(v));
        let (ab_low, ab_high) =
            (vreinterpretq_u64_u32(vzip1q_u32(a, b)), vreinterpretq_u64_u32(vzip2q_u32(a, b)));
        let (cd_low, cd_high) =
            (vreinterpretq_u64_u32(vzip1q_u32(c, d)), vreinterpretq_u64_u32(vzip2q_u32(c, d)));
        [
            vreinterpretq_u8_u64(vzip1q_u64(ab_low, cd_low)),
            vreinterpretq_u8_u64(vzip2q_u64(ab_low, cd_low)),
            vreinterpretq_u8_u64(vzip1q_u64(ab_high, cd_high)),
            vreinterpretq_u8_u64(vzip2q_u64(ab_high, cd_high)),
        ]
    }
}

/// The sums of four lanes: 16 products each, of the weights of four vectors and what is at `x`, 64 bytes apart.
///
/// # Safety
/// If `DOT`, the processor has dot products; 16 bytes can be read at each place.
#[inline(always)]
unsafe fn products<B: Blocks, const DOT: bool>(w: [uint8x16_t; 4], x: *const i8) -> float32x4_t {
    // SAFETY: the caller's.
    unsafe {
        let [a, b, c, d] = [
            vreinterpretq_s8_u8(w[0]),
            vreinterpretq_s8_u8(w[1]),
            vreinterpretq_s8_u8(w[2]),
            vreinterpretq_s8_u8(w[3]),
        ];
        let [p, q, r, s] = [vld1q_s8(x), vld1q_s8(x.add(64)), vld1q_s8(x.add(128)), vld1q_s8(x.add(192))];
        let total = if DOT {
            add_products(add_products(add_products(add_products(vdupq_n_s32(0), a, p), b, q), c, r), d, s)
        } else {
            let [ab_low, ab_high] = two_products((a, p), (b, q));
            let [cd_low, cd_high] = two_products((c, r), (d, s));
            let (low, high) = if const { is_small::<B>() } {
                // The largest sum of four is 4 * 32 * 127.
                (vpaddlq_s16(vaddq_s16(ab_low, cd_low)), vpaddlq_s16(vaddq_s16(ab_high, cd_high)))
            } else {
                // The largest sum of two is 2 * 128 * 127.
                (vpadalq_s16(vpaddlq_s16(ab_low), cd_low), vpadalq_s16(vpaddlq_s16(ab_high), cd_high))
            };
            vpaddq_s32(low, high)
        };
        vcvtq_f32_s32(total)
    }
}

/// Byte by byte `a * p + b * q`, of the low and of the high halves.
///
/// # Safety
/// None: arm64 has NEON.
#[inline(always)]
unsafe fn two_products((a, p): (int8x16_t, int8x16_t), (b, q): (int8x16_t, int8x16_t)) -> [int16x8_t; 2] {
    // SAFETY: arm64 has NEON.
    unsafe {
        let low = vmull_s8(vget_low_s8(a), vget_low_s8(p));
        let high = vmull_high_s8(a, p);
        [vmlal_s8(low, vget_low_s8(b), vget_low_s8(q)), vmlal_high_s8(high, b, q)]
    }
}

/// `sum` and four products of signed bytes, in each lane: the instruction, whose intrinsic is not stable yet.
///
/// # Safety
/// The processor has dot products.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn add_products(mut sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: this function's instruction set; it reads and writes registers only.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {a:v}.16b, {b:v}.16b",
            sum = inout(vreg) sum,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

/// A half-precision number for each of four blocks, as the lanes of half a tile.
///
/// # Safety
/// None: arm64 has NEON.
#[inline(always)]
unsafe fn four_halves(halves: uint16x4_t) -> Neon {
    // SAFETY: arm64 has NEON.
    Neon([unsafe { vcvt_f32_f16(vreinterpret_f16_u16(halves)) }; 2])
}

#[inline(always)]
fn four([a, b, c, d]: [u16; 4]) -> u64 {
    u64::from(a) | u64::from(b) << 16 | u64::from(c) << 32 | u64::from(d) << 48
}

#[inline(always)]
fn two([a, b]: [u32; 2]) -> u64 {
    u64::from(a) | u64::from(b) << 32
}
