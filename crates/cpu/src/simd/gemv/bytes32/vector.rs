//! What do the kernels of block formats ask of a processor? Operations on 32 bytes, which AVX2 holds in one register and NEON in two.
//!
//! Lanes of four bytes are in the order of [`crate::simd::quantize::Tile`]: half a tile's groups of 16 weights, even ones first. Every
//! method is inlined into a function that enables the instruction set. What calls them must be `#[inline(always)]` too, which closures
//! are not.

use super::super::blocks::Blocks;
use crate::simd::lanes::Lanes;

/// 32 bytes.
pub(in super::super) trait Bytes: Copy {
    /// Eight float32: one for each lane of four bytes.
    type Floats: Lanes;

    /// Reads 32 bytes.
    ///
    /// # Safety
    /// Here and below: the machine has the instruction set, and pointers reach what is read.
    unsafe fn load(from: *const u8) -> Self;
    /// The same in every byte.
    unsafe fn splat(byte: u8) -> Self;
    /// 16 bytes as 32 codes: their low nibbles, then their high ones.
    unsafe fn nibbles(from: *const u8) -> Self;
    /// 255 where bit `i` of `bits` is set, for byte `i`; else 0.
    unsafe fn of_bits(bits: u32) -> Self;

    /// `self & b`.
    unsafe fn and(self, b: Self) -> Self;
    /// `self | b`.
    unsafe fn or(self, b: Self) -> Self;
    /// `self ^ b`.
    unsafe fn xor(self, b: Self) -> Self;
    /// `self - b` in every byte, modulo 256.
    unsafe fn sub(self, b: Self) -> Self;
    /// 255 where bytes are the same, else 0.
    unsafe fn equal(self, b: Self) -> Self;
    /// Bytes shifted to the left; their lowest `N` bits may be anything.
    unsafe fn shifted_left<const N: i32>(self) -> Self;
    /// Bytes shifted to the right; their highest `N` bits may be anything.
    unsafe fn shifted_right<const N: i32>(self) -> Self;
    /// What a table has for codes below 16.
    unsafe fn looked_up(self, table: &[i8; 16]) -> Self;

    /// Four blocks of 32 as four vectors, of which each takes four bytes of every group of 16, even groups first.
    unsafe fn transposed(blocks: [Self; 4]) -> [Self; 4];

    /// Exact sums of the products of 16 weights a lane with 8-bit activations. Those of vector `v` are at `x + 64 * v`.
    ///
    /// Weights are signed bytes, from 0 on in formats without offset and table.
    unsafe fn products<B: Blocks>(weights: &[Self; 4], x: *const i8) -> Self::Floats;

    /// A half-precision number.
    unsafe fn half(bits: u16) -> f32;
    /// A half-precision number for each of eight blocks, as the lanes of two halves of a tile.
    unsafe fn halves_by_block(halves: [u16; 8]) -> [Self::Floats; 2];
    /// The same for the low and for the high halves of words.
    unsafe fn pairs_by_block(pairs: [u32; 8]) -> [[Self::Floats; 2]; 2];
    /// Eight unsigned bytes times a factor, one for each block.
    unsafe fn bytes_by_block(bytes: u64, factor: f32) -> [Self::Floats; 2];
    /// Sixteen signed bytes times a factor, one for each group.
    unsafe fn bytes_by_group(bytes: &[u8; 16], factor: f32) -> [Self::Floats; 2];
    /// Numbers for each group.
    unsafe fn by_group(values: &[f32; 16]) -> [Self::Floats; 2];
}

/// Whether no weight's magnitude exceeds 32, so that four pairs of products, at most 4 * 2 * 32 * 127 = 32,512, fit 16 bits.
pub(super) const fn is_small<B: Blocks>() -> bool {
    let Some(table) = B::TABLE else { return B::OFFSET <= 32 };
    let mut i = 0;
    while i < table.len() {
        if table[i].unsigned_abs() > 32 {
            return false;
        }
        i += 1;
    }
    true
}
