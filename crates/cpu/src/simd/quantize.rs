//! How do activations become the 8-bit integers that the quantised kernels multiply?
//!
//! Every 32 consecutive values of a row share the scale `d = max|x| / 127`; a value becomes `round(x * 127 / max|x|)`, ties to
//! even. The same f32 operations run on every instruction set, so the result is the same everywhere. A block that holds
//! an infinity or a NaN gets an infinite or NaN scale over zeros, which makes every product with it a NaN.
//!
//! A row is stored as tiles of 256 values (zero-filled past the end): the integers, the scales, and the sums that formats with
//! a minimum or an offset need. A tile has 16 groups of 16 values, the finest unit of scale in any weight format, and four
//! vectors of 16 lanes of four bytes: lane `l` of every vector belongs to one group, so that a tile's integer dot product
//! accumulates in place, and is scaled once, by one vector of scales.

use std::ops::Range;

use super::isa::{Isa, Vectors};

/// Values that share a scale.
pub(crate) const BLOCK: usize = 32;
/// Values of a tile.
pub(crate) const TILE: usize = 256;

/// The group of 16 values that a lane belongs to. Even groups stand before odd ones in each half: what unpacking four blocks
/// of 32 against each other gives in AVX2.
pub(crate) const fn group_of(lane: usize) -> usize {
    lane / 8 * 8 + lane % 4 * 2 + lane % 8 / 4
}

/// [`group_of`] every lane.
pub(crate) const GROUPS: [u8; 16] = {
    let mut groups = [0; 16];
    let mut lane = 0;
    while lane < 16 {
        groups[lane] = group_of(lane) as u8;
        lane += 1;
    }
    groups
};

/// The lane of a group of 16 values.
pub(crate) const fn lane_of(group: usize) -> usize {
    group / 8 * 8 + group % 8 / 2 + group % 2 * 4
}

/// 256 quantised values of a row.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Tile {
    /// The integers: vector `v`, lane `l` holds values `4 * v` to `4 * v + 3` of the lane's group.
    pub(crate) qs: [i8; TILE],
    /// For each lane `d` times the sum of its group's integers.
    pub(crate) s: [f32; 16],
    /// For each lane the scale of its group's block.
    pub(crate) d: [f32; 16],
}

const ZERO: Tile = Tile { qs: [0; TILE], s: [0.0; 16], d: [0.0; 16] };

/// Where value `i` of a tile is in [`Tile::qs`].
pub(crate) const fn slot(i: usize) -> usize {
    i % 16 / 4 * 64 + lane_of(i / 16) * 4 + i % 4
}

/// Rows of activations, quantised: `[n_rows][n_cols]`. Keeps its memory between fills.
#[derive(Clone, Debug, Default)]
pub struct QuantizedRows {
    n_cols: usize,
    n_rows: usize,
    tiles: Vec<Tile>,
}

impl QuantizedRows {
    /// No rows.
    #[must_use]
    pub fn new() -> QuantizedRows {
        QuantizedRows::default()
    }

    /// Quantises `x`, `[n_rows][n_cols]`, in place of what was here.
    ///
    /// # Panics
    /// If `n_cols` is not a positive multiple of 32, `x` not a whole number of rows, or this machine has no `isa`.
    pub fn fill(&mut self, isa: Isa, x: &[f32], n_cols: usize) {
        assert_available(isa);
        assert!(
            n_cols > 0 && n_cols.is_multiple_of(BLOCK),
            "n_cols: expected a multiple of 32, found {n_cols}"
        );
        assert!(x.len().is_multiple_of(n_cols), "expected whole rows of {n_cols} values, found {}", x.len());
        self.n_cols = n_cols;
        self.n_rows = x.len() / n_cols;
        let tiles_per_row = n_cols.div_ceil(TILE);
        self.tiles.resize(self.n_rows * tiles_per_row, ZERO);
        for (row, tiles) in x.chunks_exact(n_cols).zip(self.tiles.chunks_exact_mut(tiles_per_row)) {
            quantize_row(isa, row, tiles);
        }
    }

    /// Rows held.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Values of a row.
    #[must_use]
    pub fn n_cols(&self) -> usize {
        self.n_cols
    }

    /// The values that row `row` stands for.
    #[must_use]
    pub fn dequantized(&self, row: usize) -> Vec<f32> {
        let tiles = self.row(row);
        (0..self.n_cols)
            .map(|i| {
                let (tile, i) = (&tiles[i / TILE], i % TILE);
                tile.d[lane_of(i / 16)] * f32::from(tile.qs[slot(i)])
            })
            .collect()
    }

    /// The tiles of `N` rows from `first` on.
    pub(crate) fn rows_from<const N: usize>(&self, first: usize) -> [&[Tile]; N] {
        std::array::from_fn(|i| self.row(first + i))
    }

    /// The first of these tiles of these rows, for kernels to read, and the tiles from one row to the next.
    ///
    /// # Panics
    /// If they are not all there.
    pub(crate) fn tiles_from(&self, rows: Range<usize>, tiles: Range<usize>) -> (*const Tile, usize) {
        let stride = self.n_cols.div_ceil(TILE);
        assert!(rows.end <= self.n_rows && tiles.end <= stride, "{tiles:?} of {rows:?} are in the rows");
        (self.tiles[rows.start * stride + tiles.start..].as_ptr(), stride)
    }

    /// The tiles of a row.
    pub(crate) fn row(&self, row: usize) -> &[Tile] {
        let n = self.n_cols.div_ceil(TILE);
        &self.tiles[row * n..(row + 1) * n]
    }
}

/// Tile `i` of each row. Not for kernels to write themselves: a closure there would have their instruction set, and then is not
/// inlined into `map`, which has not.
#[inline(always)]
pub(crate) fn tiles<'a, const N: usize>(x: &[&'a [Tile]; N], i: usize) -> [&'a Tile; N] {
    x.map(|row| &row[i])
}

/// What the kernels' unsafe blocks rely on: the processor has the instructions that `isa` stands for.
pub(crate) fn assert_available(isa: Isa) {
    assert!(isa.is_available(), "this machine has no {isa}");
}

/// Quantises one row with the widest vectors `isa` has, which on arm64 the compiler uses in any code. The arithmetic is the same for
/// all of them.
fn quantize_row(isa: Isa, row: &[f32], tiles: &mut [Tile]) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn avx2(row: &[f32], tiles: &mut [Tile]) {
            portable(row, tiles);
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
        fn avx512(row: &[f32], tiles: &mut [Tile]) {
            let (whole, rest) = row.as_chunks::<TILE>();
            for (values, tile) in whole.iter().zip(&mut *tiles) {
                quantize_tile(values, tile);
            }
            if let Some(tile) = tiles.get_mut(whole.len()) {
                let mut values = [0.0; TILE];
                values[..rest.len()].copy_from_slice(rest);
                quantize_tile(&values, tile);
            }
        }
        match isa.vectors() {
            Vectors::Portable | Vectors::Neon => {}
            // SAFETY: `fill` checked that the processor has what `Isa::Avx2` stands for.
            Vectors::Bits256 => return unsafe { avx2(row, tiles) },
            // SAFETY: `fill` checked that the processor has what `Isa::Avx512` stands for.
            Vectors::Bits512 => return unsafe { avx512(row, tiles) },
        }
    }
    let _ = isa;
    portable(row, tiles);
}

/// As [`portable`], and the same bits: what rounds to the nearest integer by a sum is rounded so by the conversion.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn quantize_tile(values: &[f32; TILE], tile: &mut Tile) {
    use std::arch::x86_64::*;
    let (blocks, _) = values.as_chunks::<BLOCK>();
    let mut largest = [0u32; 8];
    for (largest, block) in largest.iter_mut().zip(blocks) {
        // SAFETY: 32 numbers.
        let (a, b) = unsafe { (_mm512_loadu_ps(block.as_ptr()), _mm512_loadu_ps(block.as_ptr().add(16))) };
        let (a, b) = (_mm512_castps_si512(_mm512_abs_ps(a)), _mm512_castps_si512(_mm512_abs_ps(b)));
        // As integers, the magnitudes of floats order like the floats, and a NaN stands above infinity.
        *largest = _mm512_reduce_max_epu32(_mm512_max_epu32(a, b));
    }
    // SAFETY: 8 numbers.
    let amax = _mm256_castsi256_ps(unsafe { _mm256_loadu_si256(largest.as_ptr().cast()) });
    let inverse = _mm256_div_ps(_mm256_set1_ps(127.0), amax);
    let is_below = |x, limit| _mm256_cmp_ps_mask::<_CMP_LT_OQ>(x, _mm256_set1_ps(limit));
    let is_usual = is_below(amax, f32::INFINITY) & is_below(inverse, f32::INFINITY);
    // Of other blocks the products are 0 or NaN, and the integers zero.
    let inverse = _mm256_maskz_mov_ps(is_usual, inverse);
    let unusual = _mm256_maskz_mov_ps(!is_below(amax, 1.0), amax);
    let d = _mm256_mask_div_ps(unusual, is_usual, amax, _mm256_set1_ps(127.0));
    let mut inverses = [0.0f32; 8];
    let mut codes = [0i8; TILE];
    // SAFETY: room for 8 numbers.
    unsafe { _mm256_storeu_ps(inverses.as_mut_ptr(), inverse) };
    for (i, (values, codes)) in
        values.as_chunks::<16>().0.iter().zip(codes.as_chunks_mut::<16>().0).enumerate()
    {
        // SAFETY: 16 numbers, and room for as many.
        unsafe {
            let scaled = _mm512_mul_ps(_mm512_loadu_ps(values.as_ptr()), _mm512_set1_ps(inverses[i / 2]));
            let integers = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(scaled));
            _mm_storeu_si128(codes.as_mut_ptr().cast(), integers);
        }
    }
    // SAFETY: 16 bytes.
    let groups = _mm512_cvtepu8_epi32(unsafe { _mm_loadu_si128(GROUPS.as_ptr().cast()) });
    let of_block = _mm512_srli_epi32::<1>(groups);
    let mut sums = _mm512_setzero_si512();
    for v in 0..4 {
        // Words of four integers.
        let words = _mm512_add_epi32(_mm512_slli_epi32::<2>(groups), _mm512_set1_epi32(v));
        // SAFETY: the words are within the tile, and room for 64 integers.
        unsafe {
            let of_lanes = _mm512_i32gather_epi32::<4>(words, codes.as_ptr().cast());
            _mm512_storeu_si512(tile.qs.as_mut_ptr().add(64 * v as usize).cast(), of_lanes);
            let pairs = _mm512_maddubs_epi16(_mm512_set1_epi8(1), of_lanes);
            sums = _mm512_add_epi32(sums, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
        }
    }
    let d = _mm512_permutexvar_ps(of_block, _mm512_castps256_ps512(d));
    // SAFETY: room for 16 numbers each.
    unsafe {
        _mm512_storeu_ps(tile.d.as_mut_ptr(), d);
        _mm512_storeu_ps(tile.s.as_mut_ptr(), _mm512_mul_ps(d, _mm512_cvtepi32_ps(sums)));
    }
}

/// Written so that the compiler vectorises it for the caller's instruction set.
#[inline(always)]
fn portable(row: &[f32], tiles: &mut [Tile]) {
    for (values, tile) in row.chunks(TILE).zip(tiles) {
        if values.len() < TILE {
            *tile = ZERO;
        }
        for (b, block) in values.as_chunks::<BLOCK>().0.iter().enumerate() {
            let (q, d) = quantize_block(block);
            for (half, values) in q.as_chunks::<16>().0.iter().enumerate() {
                let lane = lane_of(2 * b + half);
                let sum: i32 = values.iter().map(|&v| i32::from(v)).sum();
                tile.d[lane] = d;
                tile.s[lane] = d * sum as f32;
                for (v, four) in values.as_chunks::<4>().0.iter().enumerate() {
                    tile.qs[64 * v + 4 * lane..][..4].copy_from_slice(four);
                }
            }
        }
    }
}

/// The integers and the scale of one block.
#[inline(always)]
fn quantize_block(x: &[f32; BLOCK]) -> ([i8; BLOCK], f32) {
    // As integers, the magnitudes of floats order like the floats, and a NaN stands above infinity.
    let amax = f32::from_bits(x.iter().fold(0, |m, v| m.max(v.to_bits() & 0x7fff_ffff)));
    let mut q = [0i8; BLOCK];
    let inverse = 127.0 / amax;
    if !(amax.is_finite() && inverse.is_finite()) {
        // Below 4e-37 the values are taken as zero; 0 * infinity and 0 * NaN are NaN.
        return (q, if amax < 1.0 { 0.0 } else { amax });
    }
    // Adding 1.5 * 2^23 rounds to an integer, ties to even, and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    for (q, &v) in q.iter_mut().zip(x) {
        *q = (v * inverse + ROUND).to_bits() as i8;
    }
    (q, amax / 127.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::gemv::tests::{available, values};

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        for n_cols in [32, 96, 256, 576, 1536] {
            let mut x = values(7, 3 * n_cols);
            // Blocks that have no finite scale, or none.
            for (i, unusual) in
                [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-40, 0.0].into_iter().enumerate()
            {
                if let Some(block) = x.chunks_exact_mut(BLOCK).nth(2 * i + 1) {
                    block.fill(unusual);
                }
                if let Some(block) = x.chunks_exact_mut(BLOCK).nth(2 * i + 12) {
                    block[7 * i] = unusual;
                }
            }
            // The largest on either side of what has no inverse.
            for (i, largest) in [3.6e-37, 3.9e-37].into_iter().enumerate() {
                if let Some(block) = x.chunks_exact_mut(BLOCK).nth(2 * i + 22) {
                    block.fill(-0.3 * largest);
                    block[9] = largest;
                }
            }
            let mut want = QuantizedRows::new();
            want.fill(Isa::Scalar, &x, n_cols);
            for isa in available() {
                let mut got = QuantizedRows::new();
                // A longer fill first: nothing of it may remain.
                got.fill(isa, &values(8, 4096), 1024);
                got.fill(isa, &x, n_cols);
                for row in 0..3 {
                    for (a, b) in want.row(row).iter().zip(got.row(row)) {
                        assert_eq!(a.qs, b.qs, "{isa}");
                        assert_eq!(a.d.map(f32::to_bits), b.d.map(f32::to_bits), "{isa}");
                        assert_eq!(a.s.map(f32::to_bits), b.s.map(f32::to_bits), "{isa}");
                    }
                }
            }
        }
    }

    #[test]
    fn values_come_back_within_half_a_step() {
        let x = values(9, 576);
        let mut rows = QuantizedRows::new();
        rows.fill(Isa::Scalar, &x, 576);
        for (block, (x, y)) in x.chunks(32).zip(rows.dequantized(0).chunks(32)).enumerate() {
            let amax = x.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            for (x, y) in x.iter().zip(y) {
                assert!((x - y).abs() <= 0.5001 * amax / 127.0, "block {block}: {x} became {y}");
            }
        }
    }

    #[test]
    fn halves_round_to_even() {
        let mut x = [0.0f32; 32];
        x[..5].copy_from_slice(&[127.0, 0.5, 1.5, -2.5, -127.0]);
        let mut rows = QuantizedRows::new();
        rows.fill(Isa::Scalar, &x, 32);
        assert_eq!(rows.dequantized(0)[..5], [127.0, 0.0, 2.0, -2.0, -127.0]);
    }

    #[test]
    fn a_block_with_no_finite_scale_is_seen() {
        for (value, seen) in
            [(0.0, false), (-0.0, false), (1e-40, false), (f32::INFINITY, true), (f32::NAN, true)]
        {
            for isa in available() {
                let mut x = [0.25f32; 64];
                x[..32].fill(value);
                let mut rows = QuantizedRows::new();
                rows.fill(isa, &x, 64);
                let back = rows.dequantized(0);
                assert!(
                    back[..32].iter().all(|v| if seen { v.is_nan() } else { *v == 0.0 }),
                    "{value}: {back:?}"
                );
                assert!(back[32..].iter().all(|v| *v == 0.25));
            }
        }
    }
}
