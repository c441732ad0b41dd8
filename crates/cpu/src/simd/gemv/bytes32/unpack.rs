//! How do the weights of 32 columns reach vectors? Straight from the file's bytes in the formats that models are mostly
//! stored in; of the others through [`Blocks::codes`], whose portable loops the compiler vectorises.
//!
//! Layouts and values as in [`super::super::blocks`]. A tile may end early, after any number of blocks of 32 (a row is no whole number of
//! tiles); blocks past its end are not asked for, and their scales are zeros.

use quant::Scaled;

use super::super::blocks::{
    Blocks, Iq4Nl, Iq4Xs, Mxfp4, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0, six_bit_pairs,
};
use super::super::integers::Integers;
use super::vector::Bytes;
use crate::simd::lanes::Lanes;
use crate::simd::quantize::TILE;

/// Scales, then minimums, of each half of a tile: lane `l` of a half is of the group that lane has in
/// [`crate::simd::quantize::Tile`].
pub(in super::super) type Factors<V> = [[<V as Bytes>::Floats; 2]; 2];

/// A block format's tiles in vectors.
pub(in super::super) trait Unpack: Blocks {
    /// What is unpacked before the blocks are.
    type Held;

    /// Unpacks what all blocks need.
    ///
    /// # Safety
    /// Here and below: the processor has the vectors' instruction set; `tile` is whole blocks of the format, of at most 256 weights.
    unsafe fn hold(tile: &[u8]) -> Self::Held;

    /// The codes of block `b` of 32 weights, which is in the tile, in their order.
    unsafe fn codes_of<V: Bytes>(tile: &[u8], held: &Self::Held, b: usize) -> V;

    /// Scales and minimums.
    unsafe fn factors<V: Bytes>(tile: &[u8]) -> Factors<V>;
}

/// 32 bytes at `at`.
#[inline(always)]
unsafe fn load32<V: Bytes>(tile: &[u8], at: usize) -> V {
    debug_assert!(at + 32 <= tile.len());
    // SAFETY: the caller asks for bytes of the tile.
    unsafe { V::load(tile.as_ptr().add(at)) }
}

/// 16 bytes as 32 codes: their low nibbles, then their high ones.
#[inline(always)]
unsafe fn nibbles<V: Bytes>(tile: &[u8], at: usize) -> V {
    debug_assert!(at + 16 <= tile.len());
    // SAFETY: the caller asks for bytes of the tile.
    unsafe { V::nibbles(tile.as_ptr().add(at)) }
}

/// Low or high nibbles of 32 bytes.
#[inline(always)]
unsafe fn half_nibbles<V: Bytes>(bytes: V, high: bool) -> V {
    // SAFETY: the caller has the instruction set.
    unsafe { if high { bytes.shifted_right::<4>() } else { bytes }.and(V::splat(15)) }
}

/// 16 where bit `i` of `bits` is set, for code `i`; else 0.
#[inline(always)]
unsafe fn fifth_bits<V: Bytes>(bits: u32) -> V {
    // SAFETY: the caller has the instruction set.
    unsafe { V::of_bits(bits).and(V::splat(16)) }
}

#[inline(always)]
fn word(tile: &[u8], at: usize) -> u32 {
    match tile.get(at..at + 4) {
        Some(b) => u32::from_le_bytes([b[0], b[1], b[2], b[3]]),
        None => 0,
    }
}

#[inline(always)]
fn half_word(tile: &[u8], at: usize) -> u16 {
    match tile.get(at..at + 2) {
        Some(b) => u16::from_le_bytes([b[0], b[1]]),
        None => 0,
    }
}

#[inline(always)]
unsafe fn none<V: Bytes>() -> [V::Floats; 2] {
    // SAFETY: the caller has the instruction set.
    unsafe { [V::Floats::splat(0.0); 2] }
}

/// The scales of blocks of `N` bytes that begin with a scale in half precision.
#[inline(always)]
unsafe fn scale_first<V: Bytes, const N: usize>(tile: &[u8]) -> Factors<V> {
    let mut halves = [0; 8];
    for (b, half) in halves.iter_mut().enumerate() {
        *half = half_word(tile, b * N);
    }
    // SAFETY: the caller has the instruction set.
    unsafe { [V::halves_by_block(halves), none::<V>()] }
}

/// The scales and minimums of blocks of `N` bytes that begin with both in half precision.
#[inline(always)]
unsafe fn scale_and_minimum_first<V: Bytes, const N: usize>(tile: &[u8]) -> Factors<V> {
    let mut pairs = [0; 8];
    for (b, pair) in pairs.iter_mut().enumerate() {
        *pair = word(tile, b * N);
    }
    // SAFETY: the caller has the instruction set.
    unsafe { V::pairs_by_block(pairs) }
}

/// The scales and minimums of Q4_K and Q5_K.
#[inline(always)]
unsafe fn six_bit_factors<V: Bytes>(tile: &[u8]) -> Factors<V> {
    let (scales, minimums) = six_bit_pairs(word(tile, 4), word(tile, 8), word(tile, 12));
    // SAFETY: the caller has the instruction set.
    unsafe {
        let (d, least) = (V::half(half_word(tile, 0)), V::half(half_word(tile, 2)));
        [V::bytes_by_block(scales, d), V::bytes_by_block(minimums, -least)]
    }
}

/// Implements [`Unpack`] for formats of which nothing is held.
macro_rules! direct {
    ($name:ident, |$tile:ident, $b:ident| $codes:expr, |$of:ident| $factors:expr) => {
        // SAFETY of every block: the caller's promises, which are the helpers' own; block `b` is in the tile.
        impl Unpack for $name {
            type Held = ();

            #[inline(always)]
            unsafe fn hold(_: &[u8]) {}

            #[inline(always)]
            unsafe fn codes_of<V: Bytes>($tile: &[u8], (): &(), $b: usize) -> V {
                // SAFETY: as said above.
                unsafe { $codes }
            }

            #[inline(always)]
            unsafe fn factors<V: Bytes>($of: &[u8]) -> Factors<V> {
                // SAFETY: as said above.
                unsafe { $factors }
            }
        }
    };
}

direct!(Q4_0, |tile, b| nibbles(tile, 18 * b + 2), |tile| scale_first::<V, 18>(tile));
direct!(Q4_1, |tile, b| nibbles(tile, 20 * b + 4), |tile| scale_and_minimum_first::<V, 20>(tile));
direct!(Q5_0, |tile, b| nibbles::<V>(tile, 22 * b + 6).or(fifth_bits(word(tile, 22 * b + 2))), |tile| {
    scale_first::<V, 22>(tile)
});
direct!(Q5_1, |tile, b| nibbles::<V>(tile, 24 * b + 8).or(fifth_bits(word(tile, 24 * b + 4))), |tile| {
    scale_and_minimum_first::<V, 24>(tile)
});
direct!(Q8_0, |tile, b| load32::<V>(tile, 34 * b + 2).xor(V::splat(0x80)), |tile| scale_first::<V, 34>(tile));
direct!(Iq4Nl, |tile, b| nibbles(tile, 18 * b + 2), |tile| scale_first::<V, 18>(tile));
direct!(Q4K, |tile, b| half_nibbles(load32(tile, 16 + b / 2 * 32), b % 2 == 1), |tile| six_bit_factors::<V>(
    tile
));
direct!(
    Q5K,
    |tile, b| {
        let bit = V::splat(1 << b);
        let fifth = load32::<V>(tile, 16).and(bit).equal(bit).and(V::splat(16));
        half_nibbles(load32::<V>(tile, 48 + b / 2 * 32), b % 2 == 1).or(fifth)
    },
    |tile| six_bit_factors::<V>(tile)
);
direct!(
    Q6K,
    |tile, b| {
        let (half, j) = (b / 4, b % 4);
        let low = half_nibbles(load32::<V>(tile, 64 * half + 32 * (j % 2)), j > 1);
        let pairs = load32::<V>(tile, 128 + 32 * half);
        // Bits 2j and 2j + 1 to bits 4 and 5.
        let moved = match j {
            0 => pairs.shifted_left::<4>(),
            1 => pairs.shifted_left::<2>(),
            2 => pairs,
            _ => pairs.shifted_right::<2>(),
        };
        low.or(moved.and(V::splat(0x30)))
    },
    |tile| {
        let scales = tile[192..208].as_array().expect("16 bytes");
        [V::bytes_by_group(scales, V::half(half_word(tile, 208))), none::<V>()]
    }
);

/// All codes of a tile.
#[repr(align(64))]
pub(in super::super) struct Codes([u8; TILE]);

/// A tile that ends early, with zeros past its end: zero blocks of every format add zero.
#[inline(always)]
fn padded(tile: &[u8]) -> [u8; 512] {
    let mut whole = [0; 512];
    whole[..tile.len()].copy_from_slice(tile);
    whole
}

/// Implements [`Unpack`] by way of [`Blocks`]' arrays.
macro_rules! through_arrays {
    ($(($($generics:tt)*) $name:ty),*) => {$(
        // SAFETY of every block: the caller has the instruction set, and block `b` is one of eight.
        impl<$($generics)*> Unpack for $name {
            type Held = Codes;

            #[inline(always)]
            unsafe fn hold(tile: &[u8]) -> Codes {
                let mut codes = Codes([0; TILE]);
                if tile.len() == Self::BYTES {
                    Self::codes(tile, &mut codes.0);
                } else {
                    Self::codes(&padded(tile)[..Self::BYTES], &mut codes.0);
                }
                codes
            }

            #[inline(always)]
            unsafe fn codes_of<V: Bytes>(_: &[u8], codes: &Codes, b: usize) -> V {
                // SAFETY: as said above.
                unsafe { load32(&codes.0, 32 * b) }
            }

            #[inline(always)]
            unsafe fn factors<V: Bytes>(tile: &[u8]) -> Factors<V> {
                let scales = if tile.len() == Self::BYTES {
                    Self::scales(tile)
                } else {
                    Self::scales(&padded(tile)[..Self::BYTES])
                };
                // SAFETY: as said above.
                unsafe { [V::by_group(&scales.d), V::by_group(&scales.m)] }
            }
        }
    )*};
}

through_arrays!(() Mxfp4, () Q2K, () Q3K, () Iq4Xs, (B: Scaled<N>, const N: usize) Integers<B, N>);
