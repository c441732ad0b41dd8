//! The formats of small integers under a scale for each 16 weights ([`quant::Scaled`]), seen as tiles of 256 weights.

use std::marker::PhantomData;

use quant::Scaled;

use super::blocks::{Blocks, Scales};
use crate::simd::quantize::TILE;

/// Blocks `B` of `N` weights.
pub(super) struct Integers<B, const N: usize>(PhantomData<B>);

impl<B: Scaled<N>, const N: usize> Integers<B, N> {
    /// The blocks of a tile.
    #[inline(always)]
    fn blocks(tile: &[u8]) -> &[B] {
        quant::cast::<B, N>(tile).expect("a whole tile")
    }
}

impl<B: Scaled<N>, const N: usize> Blocks for Integers<B, N> {
    const BYTES: usize = TILE / N * size_of::<B>();
    const OFFSET: u8 = B::LARGEST;

    #[inline(always)]
    fn codes(tile: &[u8], codes: &mut [u8; 256]) {
        let mut integers = [0; N];
        for (block, codes) in Self::blocks(tile).iter().zip(codes.as_chunks_mut::<N>().0) {
            block.integers(&mut integers);
            for (code, integer) in codes.iter_mut().zip(integers) {
                *code = integer.cast_unsigned().wrapping_add(Self::OFFSET);
            }
        }
    }

    #[inline(always)]
    fn scales(tile: &[u8]) -> Scales {
        let (blocks, per_block) = (Self::blocks(tile), N / 16);
        let d = std::array::from_fn(|g| blocks[g / per_block].scale(g % per_block));
        Scales { d, m: [0.0; 16] }
    }
}
