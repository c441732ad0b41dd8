//! Which numbers do the indices of IQ1, IQ2 and IQ3 stand for? Points of a grid: 8 or 4 small numbers, with signs beside them.
//!
//! The points were chosen by ggml's authors, so they can only be listed. A point is an integer of 64 or 32 bits, the first number
//! in its lowest byte.

mod iq1;
mod iq2;
mod iq3;

use crate::format::Format;

/// Points of 8 numbers, each one of four levels.
const fn eights<const N: usize>(points: &[u16; N], levels: [i8; 4]) -> [u64; N] {
    let mut grid = [0; N];
    let mut i = 0;
    while i < 8 * N {
        let level = levels[(points[i / 8] >> (2 * (i % 8)) & 3) as usize];
        grid[i / 8] |= (level as u8 as u64) << (8 * (i % 8));
        i += 1;
    }
    grid
}

/// Points of 4 numbers, each one of eight levels.
const fn fours<const N: usize>(points: &[u16; N], levels: [i8; 8]) -> [u32; N] {
    let mut grid = [0; N];
    let mut i = 0;
    while i < 4 * N {
        let level = levels[(points[i / 4] >> (4 * (i % 4)) & 7) as usize];
        grid[i / 4] |= (level as u32) << (8 * (i % 4));
        i += 1;
    }
    grid
}

/// The points of a format's grid, packed: 8 numbers of 2 bits, or 4 of 4 bits for IQ3, each of which picks a level. None where it has no grid.
#[must_use]
pub fn grid_points(format: Format) -> Option<&'static [u16]> {
    match format {
        Format::IQ1_S | Format::IQ1_M => Some(&iq1::IQ1),
        Format::IQ2_XXS => Some(&iq2::IQ2_XXS),
        Format::IQ2_XS => Some(&iq2::IQ2_XS),
        Format::IQ2_S => Some(&iq2::IQ2_S),
        Format::IQ3_XXS => Some(&iq3::IQ3_XXS),
        Format::IQ3_S => Some(&iq3::IQ3_S),
        _ => None,
    }
}

/// Eight times the numbers: the offset of IQ1 is an eighth.
pub(crate) static IQ1: [u64; 2048] = eights(&iq1::IQ1, [-8, 0, 8, 0]);

const IQ2_LEVELS: [i8; 4] = [8, 25, 43, 0];
pub(crate) static IQ2_XXS: [u64; 256] = eights(&iq2::IQ2_XXS, IQ2_LEVELS);
pub(crate) static IQ2_XS: [u64; 512] = eights(&iq2::IQ2_XS, IQ2_LEVELS);
pub(crate) static IQ2_S: [u64; 1024] = eights(&iq2::IQ2_S, IQ2_LEVELS);

pub(crate) static IQ3_XXS: [u32; 256] = fours(&iq3::IQ3_XXS, [4, 12, 20, 28, 36, 44, 52, 62]);
pub(crate) static IQ3_S: [u32; 512] = fours(&iq3::IQ3_S, [1, 3, 5, 7, 9, 11, 13, 15]);

/// The bytes of eight integers whose bit is set in the index.
static MASKS: [u64; 256] = {
    let mut masks = [0; 256];
    let mut i = 0;
    while i < 8 * 256 {
        if (i / 8) >> (i % 8) & 1 == 1 {
            masks[i / 8] |= 0xff << (8 * (i % 8));
        }
        i += 1;
    }
    masks
};

const ONES: u64 = 0x0101_0101_0101_0101;

/// Eight positive numbers, negative where `signs` has a bit. No byte is zero, so none carries into the next.
#[inline(always)]
pub(crate) fn signed(numbers: u64, signs: u8) -> [i8; 8] {
    let mask = MASKS[usize::from(signs)];
    bytemuck::cast(((numbers ^ mask) + (mask & ONES)).to_le_bytes())
}

/// The eight signs that seven bits stand for: the number of negative ones is even.
#[inline(always)]
pub(crate) fn even_signs(bits: u32) -> u8 {
    let bits = bits & 0x7f;
    (bits | (bits.count_ones() & 1) << 7) as u8
}

/// A point of IQ1 with its offset, in eighths.
#[inline(always)]
pub(crate) fn iq1(index: u32, is_negative: bool) -> [i8; 8] {
    let numbers: [i8; 8] = bytemuck::cast(IQ1[(index & 2047) as usize].to_le_bytes());
    let offset = if is_negative { -1 } else { 1 };
    numbers.map(|number| number + offset)
}
