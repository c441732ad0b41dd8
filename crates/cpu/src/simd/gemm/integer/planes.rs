//! 16-bit integers as two planes of bytes, for `smmla`, which multiplies two rows of eight bytes by two others and adds the four sums up.
//!
//! An integer is `256 * high + low`, both signed, so a product of two is four of bytes, whose sums are exact as well: the bits are those of
//! the instructions that multiply 16-bit integers.
//!
//! Layouts: of eight columns a weight row has the high bytes, then the low ones; a block of eight activation rows has, for each two rows,
//! the high bytes of one and of the other, then the low ones.
//!
//! Source: Arm Architecture Reference Manual for A-profile, SMMLA (vector).

use std::arch::aarch64::*;
use std::arch::asm;

use super::{SPAN, Tiles, UNIT, span_words};
use crate::simd::lanes::{Lanes, Neon};

/// Activation rows of a block.
const LANES: usize = 8;
/// Words of eight columns of a block.
const WORDS: usize = LANES * UNIT / 2;
/// Weight rows of a tile.
const W: usize = 4;

/// The high and the low byte, both signed.
#[inline(always)]
fn bytes(q: i16) -> [u8; 2] {
    // The largest magnitude is 4095: no overflow.
    [((q + 128) >> 8) as u8, q as u8]
}

/// Integers to bytes, eight at a time, in place.
pub(super) fn split(row: &mut [i16]) {
    for eight in row.as_chunks_mut::<UNIT>().0 {
        let planes = planes(eight);
        for (to, pair) in eight.iter_mut().zip(planes.as_chunks::<2>().0) {
            *to = i16::from_le_bytes(*pair);
        }
    }
}

/// The high bytes of eight integers, then their low ones.
#[inline(always)]
fn planes(eight: &[i16; UNIT]) -> [u8; 2 * UNIT] {
    let mut planes = [0; 2 * UNIT];
    for (i, q) in eight.iter().enumerate() {
        [planes[i], planes[UNIT + i]] = bytes(*q);
    }
    planes
}

/// Undoes [`split`].
#[cfg(test)]
pub(in crate::simd) fn joined(row: &mut [i16]) {
    for eight in row.as_chunks_mut::<UNIT>().0 {
        let mut planes = [0; 2 * UNIT];
        for (pair, q) in planes.as_chunks_mut::<2>().0.iter_mut().zip(&*eight) {
            *pair = q.to_le_bytes();
        }
        for (i, q) in eight.iter_mut().enumerate() {
            *q = i16::from(planes[i].cast_signed()) * 256 + i16::from(planes[UNIT + i].cast_signed());
        }
    }
}

/// Writes the integers of eight rows as a block, as many columns as `words` has room for.
pub(super) fn interleave(rows: &[[i16; SPAN]; LANES], words: &mut [u32]) {
    for (unit, words) in words.as_chunks_mut::<WORDS>().0.iter_mut().enumerate() {
        for (r, row) in rows.iter().enumerate() {
            let eight = row.as_chunks::<UNIT>().0[unit];
            let planes = planes(&eight);
            let [a, b, c, d] = [0, 4, 8, 12]
                .map(|i| u32::from_le_bytes([planes[i], planes[i + 1], planes[i + 2], planes[i + 3]]));
            let at = r / 2 * 8 + r % 2 * 2;
            (words[at], words[at + 1]) = (a, b);
            (words[at + 4], words[at + 5]) = (c, d);
        }
    }
}

/// The product of all tiles of 4 weight rows x 8 activation rows: 24 of 32 registers are sums.
///
/// # Safety
/// The processor has i8mm, and `t` holds what it says.
#[target_feature(enable = "neon,i8mm")]
pub(super) unsafe fn smmla(t: &Tiles) {
    const { assert!(super::super::PANEL.is_multiple_of(W)) };
    for block in 0..t.n_blocks {
        for row in (0..t.group).step_by(W) {
            // SAFETY: the caller's; the tiles cover blocks below `n_blocks` and weight rows below `group`.
            unsafe { tile(t, row, block) };
        }
    }
}

/// Sums of products of high bytes, of high with low ones, and of low ones.
type Sums = [int32x4_t; 3];

/// # Safety
/// As [`smmla`]; `row + W` is at most `group`, `block` below `n_blocks`.
#[inline]
#[target_feature(enable = "neon,i8mm")]
unsafe fn tile(t: &Tiles, row: usize, block: usize) {
    // SAFETY: the caller's, and `t` vouches for the memory up to those.
    unsafe {
        let n_spans = t.n_cols.div_ceil(SPAN);
        let mut totals = [Neon::splat(0.0); W];
        for span in 0..n_spans {
            let n_units = (t.n_cols - span * SPAN).min(SPAN).div_ceil(UNIT);
            let w = t.panel.add(row * t.panel_stride + span * SPAN);
            let x = t.x.add(block * t.x_stride + span * span_words(LANES));
            let mut sums: [[Sums; LANES / 2]; W / 2] = [[[vdupq_n_s32(0); 3]; LANES / 2]; W / 2];
            for unit in 0..n_units {
                let mut weights = [[vdupq_n_s8(0); 2]; W / 2];
                for (p, weights) in weights.iter_mut().enumerate() {
                    let at = w.add(2 * p * t.panel_stride + UNIT * unit);
                    let one = vreinterpretq_s64_s16(vld1q_s16(at));
                    let other = vreinterpretq_s64_s16(vld1q_s16(at.add(t.panel_stride)));
                    *weights = [
                        vreinterpretq_s8_s64(vzip1q_s64(one, other)),
                        vreinterpretq_s8_s64(vzip2q_s64(one, other)),
                    ];
                }
                for p in 0..LANES / 2 {
                    let at = x.add(LANES + WORDS * unit + 8 * p);
                    let high = vreinterpretq_s8_u32(vld1q_u32(at));
                    let low = vreinterpretq_s8_u32(vld1q_u32(at.add(4)));
                    for (sums, weights) in sums.iter_mut().zip(&weights) {
                        let [top, middle, bottom] = &mut sums[p];
                        *top = add_products(*top, weights[0], high);
                        *middle = add_products(*middle, weights[0], low);
                        *middle = add_products(*middle, weights[1], high);
                        *bottom = add_products(*bottom, weights[1], low);
                    }
                }
            }
            let x_scales = Neon::load(x.cast());
            for (p, sums) in sums.iter().enumerate() {
                // Two weight rows by two activation rows each.
                let [a, b, c, d] =
                    [joined_sum(&sums[0]), joined_sum(&sums[1]), joined_sum(&sums[2]), joined_sum(&sums[3])];
                let of_rows = [[vzip1q_s64(a, b), vzip1q_s64(c, d)], [vzip2q_s64(a, b), vzip2q_s64(c, d)]];
                for (r, [low, high]) in of_rows.into_iter().enumerate() {
                    let r = 2 * p + r;
                    let sum = Neon([
                        vcvtq_f32_s32(vreinterpretq_s32_s64(low)),
                        vcvtq_f32_s32(vreinterpretq_s32_s64(high)),
                    ]);
                    let scale = Neon::splat(*t.scales.add((row + r) * n_spans + span)).mul(x_scales);
                    totals[r] = sum.mul_add(scale, totals[r]);
                }
            }
        }
        for (r, total) in totals.into_iter().enumerate() {
            let sum = t.sums.add((block * t.group + row + r) * LANES);
            let total = if t.first { total } else { Neon::load(sum).add(total) };
            total.store(sum);
        }
    }
}

/// Sums of products of the integers, as pairs of 32 bits.
#[inline]
#[target_feature(enable = "neon")]
fn joined_sum([top, middle, bottom]: &Sums) -> int64x2_t {
    let upper = vaddq_s32(vshlq_n_s32::<8>(*top), *middle);
    vreinterpretq_s64_s32(vaddq_s32(vshlq_n_s32::<8>(upper), *bottom))
}

/// `sum` and the products of two rows of eight bytes each: the instruction, whose intrinsic is not stable yet.
///
/// # Safety
/// The processor has i8mm.
#[inline]
#[target_feature(enable = "neon,i8mm")]
unsafe fn add_products(mut sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: this function's instruction set; it reads and writes registers only.
    unsafe {
        asm!(
            "smmla {sum:v}.4s, {a:v}.16b, {b:v}.16b",
            sum = inout(vreg) sum,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}
