//! How are 256 small integers under a scale for each 16 unpacked? In memory, by what defines the format; then put into lanes.

use std::arch::x86_64::*;

use quant::Scaled;

use super::{Unpack, Unpacked, lanes};
use crate::simd::gemv::blocks::{Blocks, Scales};
use crate::simd::gemv::integers::Integers;

impl<B: Scaled<N>, const N: usize> Unpack for Integers<B, N> {
    const BYTES: usize = <Self as Blocks>::BYTES;

    #[inline(always)]
    unsafe fn unpack(tile: *const u8) -> Unpacked {
        // SAFETY: the caller's bytes.
        let tile = unsafe { std::slice::from_raw_parts(tile, <Self as Blocks>::BYTES) };
        let mut codes = [0; 256];
        Self::codes(tile, &mut codes);
        let Scales { d, .. } = Self::scales(tile);
        // SAFETY: the caller's processor; four vectors are the 256 codes, one the 16 scales.
        unsafe {
            let words = |i: usize| _mm512_loadu_si512(codes.as_ptr().add(64 * i).cast());
            let words = [words(0), words(1), words(2), words(3)];
            // Lanes 0 to 7 have groups of the first half of the words, the others of the second.
            let vector = |table| {
                let table = lanes(table);
                let first = _mm512_permutex2var_epi32(words[0], table, words[1]);
                let second = _mm512_permutex2var_epi32(words[2], table, words[3]);
                _mm512_mask_blend_epi32(0xff00, first, second)
            };
            let d = _mm512_permutexvar_ps(lanes(by_group!(|g| g)), _mm512_loadu_ps(d.as_ptr()));
            Unpacked {
                q: [
                    vector(by_group!(|g| g % 8 * 4)),
                    vector(by_group!(|g| g % 8 * 4 + 1)),
                    vector(by_group!(|g| g % 8 * 4 + 2)),
                    vector(by_group!(|g| g % 8 * 4 + 3)),
                ],
                d,
                m: _mm512_mul_ps(d, _mm512_set1_ps(-f32::from(Self::OFFSET))),
            }
        }
    }
}
