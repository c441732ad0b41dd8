//! What do 256 weights of each block format hold? Codes and scales, for the portable and the AVX2 kernels.
//!
//! A weight is `scale * (code - OFFSET) + minimum` or `scale * TABLE[code]`; scales and minimums are per 16 weights, which covers
//! every format. Layouts: the block structs of ggml's `ggml-common.h` and its `dequantize_row_*` functions. A tile is one
//! block of 256, or eight blocks of 32; the functions take exactly its bytes.

/// Scales and minimums of a tile, per 16 weights.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scales {
    pub(super) d: [f32; 16],
    pub(super) m: [f32; 16],
}

/// A block format, seen as tiles of 256 weights.
pub(super) trait Blocks {
    /// Bytes of a tile.
    const BYTES: usize;
    /// What a code stands above its weight.
    const OFFSET: u8 = 0;
    /// The values that codes below 16 stand for, in formats that have such a table.
    const TABLE: Option<&'static [i8; 16]> = None;
    /// Whether weights have a minimum.
    const MINIMUMS: bool = false;

    /// The codes of the weights, in their order.
    fn codes(tile: &[u8], codes: &mut [u8; 256]);

    /// The scales and minimums.
    fn scales(tile: &[u8]) -> Scales;
}

/// The 16 values of IQ4_NL and IQ4_XS.
pub(super) const IQ4_VALUES: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
/// Twice the 16 values of E2M1, the 4-bit float of MXFP4.
pub(super) const E2M1_VALUES: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// A half-precision float to single precision, in arithmetic that vectorises. Exact; NaN stays NaN.
#[inline(always)]
pub(super) fn f16(bytes: [u8; 2]) -> f32 {
    let h = u32::from(u16::from_le_bytes(bytes));
    // The exponent bias differs by 112, and multiplying by 2^112 also normalises subnormals.
    let magnitude = f32::from_bits((h & 0x7fff) << 13) * f32::from_bits((127 + 112) << 23);
    let special = if h & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(magnitude.to_bits() | special | (h & 0x8000) << 16)
}

/// Half of the power of two that an E8M0 byte stands for, as MXFP4's doubled table asks.
#[inline(always)]
pub(super) fn half_e8m0(e: u8) -> f32 {
    f32::from_bits(if e < 2 { 0x0020_0000 << e } else { (u32::from(e) - 1) << 23 })
}

#[inline(always)]
fn two(bytes: &[u8], at: usize) -> [u8; 2] {
    [bytes[at], bytes[at + 1]]
}

#[inline(always)]
fn four(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Low nibbles, then high nibbles, of 16 bytes.
#[inline(always)]
fn nibbles(qs: &[u8], codes: &mut [u8]) {
    let (low, high) = codes.split_at_mut(qs.len());
    for ((low, high), q) in low.iter_mut().zip(high).zip(qs) {
        *low = q & 15;
        *high = q >> 4;
    }
}

/// Eight blocks of 32: one scale each, and a minimum where `minimum` says so.
#[inline(always)]
fn scales_of_32(tile: &[u8], of: impl Fn(&[u8]) -> (f32, f32)) -> Scales {
    let mut s = Scales { d: [0.0; 16], m: [0.0; 16] };
    let bytes = tile.len() / 8;
    for (b, block) in tile.chunks_exact(bytes).enumerate() {
        let (d, m) = of(block);
        s.d[2 * b..2 * b + 2].fill(d);
        s.m[2 * b..2 * b + 2].fill(m);
    }
    s
}

/// `d:f16 qs:16`.
pub(super) struct Q4_0;
impl Blocks for Q4_0 {
    const BYTES: usize = 8 * 18;
    const OFFSET: u8 = 8;

    #[inline(always)]
    fn codes(tile: &[u8], codes: &mut [u8; 256]) {
        for (block, codes) in tile.chunks_exact(18).zip(codes.chunks_exact_mut(32)) {
            nibbles(&block[2..18], codes);
        }
    }

    #[inline(always)]
    fn scales(tile: &[u8]) -> Scales {
        scales_of_32(tile, |block| (f16(two(block, 0)), 0.0))
    }
}

/// `d:f16 m:f16 qs:16`.
pub(super) struct Q4_1;
impl Blocks for Q4_1 {
    const BYTES: usize = 8 * 20;
    const MINIMUMS: bool = true;

    #[inline(always)]
    fn codes(tile: &[u8], codes: &mut [u8; 256]) {
        for (block, codes) in tile.chunks_exact(20).zip(codes.chunks_exact_mut(32)) {
            nibbles(&block[4..20], codes);
        }
    }

    #[inline(always)]
    fn scales(tile: &[u8]) -> Scales {
        scales_of_32(tile, |block| (f16(two(block, 0)), f16(two(block, 2))))
    }
}

/// Adds the fifth bits: bit `i` of `qh` belongs to code `i`.
#[inline(always)]
fn fifth_bits(qh: u32, codes: &mut [u8]) {
    for (i, code) in codes.iter_mut().enumerate() {
        *code |= ((qh >> i & 1) << 4) as u8;
    }
}

/// `d:f16 qh:4 qs:16`.
pub(super) struct Q5_0;
impl Blocks for Q5_0 {
    const BYTES: usize = 8 * 22;
    const OFFSET: u8 = 16;

    #[inline(always)]
    fn codes(tile: &[u8], codes: &mut [u8; 256]) {
        for (block, codes) in tile.chunks_exact(22).zip(codes.chunks_exact_mut(32)) {
            nibbles(&block[6..22], codes);
            fifth_bits(four(block, 2), codes);
        }
    }

    #[inline(always)]
    fn scales(tile: &[u8]) -> Scales {
        Q4_0::scales(tile)
    }
}

/// `d:f16 m:f16 qh:4 qs:16`.
pub(super) struct Q5_1;
impl Blocks for Q5_1 {
    const BYTES: usize = 8 * 24;
    const MINIMUMS: bool = true;

    #[inline(always)]
    fn codes(tile: &[u8], codes: &mut [u8; 256]) {
        for (block, codes) in tile.chunks_exact(24).zip(codes.chunks_exact_mut(32)) {
            nibbles(&block[8..24], codes);
            fifth_bits(four(block, 4), codes);
        }
    }

    #[inline(always)]
    fn scales(tile: &[u8]) -> Scales {
        Q4_1::scales(tile)
    }
}

/// `d:f16 qs:32`, signed.
pub(super) struct Q8_0;
impl Blocks for Q8_0 {
    const BYTES: usize = 8 * 34;
    const OFFSET: u8 = 128;

    #[inline(always)]
    fn codes(tile: &[u8], codes: &mut [u8; 256]) {
        for (block, codes) in tile.chunks_exact(34).zip(codes.chunks_exact_mut(32)) {
            for (code, q) in codes.iter_mut().zip(&block[2..34]) {
                *code = q ^ 0x80;
            }
        }
    }

    #[inline(always)]
    fn scales(tile: &[u8]) -> Scales {
        Q4_0::scales(tile)
    }
}

/// `d:f16 qs:16`, codes into [`IQ4_VALUES`].
pub(super) struct Iq4Nl;
impl Blocks for Iq4Nl {
    const BYTES: usize = Q4_0::BYTES;
    const TABLE: Option<&'static [i8; 16]> = Some(&IQ4_VALUES);

    #[inline(always)]
    fn codes(tile: &[u8], codes: &mut [u8; 256]) {
        Q4_0::codes(tile, codes);
    }

    #[inline(always)]
    fn scales(tile: &[u8]) -> Scales {
        Q4_0::scales(tile)
    }
}

/// `e:E8M0 qs:16`, codes into [`E2M1_VALUES`].
pub(super) struct Mxfp4;
impl Blocks for Mxfp4 {
    const BYTES: usize = 8 * 17;
    const TABLE: Option<&'static [i8; 16]> = Some(&E2M1_VALUES);

    #[inline(always)]
    fn codes(tile: &[u8], codes: &mut [u8; 256]) {
        for (block, codes) in tile.chunks_exact(17).zip(codes.chunks_exact_mut(32)) {
            nibbles(&block[1..17], codes);
        }
    }

    #[inline(always)]
    fn scales(tile: &[u8]) -> Scales {
        scales_of_32(tile, |block| (half_e8m0(block[0]), 0.0))
    }
}

/// The eight 6-bit scales, then the eight 6-bit minimums, of the 12 bytes that Q4_K and Q5_K share.
#[inline(always)]
pub(super) fn six_bit_pairs(a: u32, b: u32, c: u32) -> (u64, u64) {
    const LOW6: u32 = 0x3f3f_3f3f;
    const LOW4: u32 = 0x0f0f_0f0f;
    const HIGH2: u32 = 0x3030_3030;
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    (join(a & LOW6, c & LOW4 | a >> 2 & HIGH2), join(b & LOW6, c >> 4 & LOW4 | b >> 2 & HIGH2))
}

/// The sixteen 6-bit scales, 32 above their value, of Q3_K's 12 bytes.
#[inline(always)]
pub(super) fn six_bit_scales(a: u32, b: u32, c: u32) -> (u64, u64) {
    const LOW4: u32 = 0x0f0f_0f0f;
    const HIGH2: u32 = 0x3030_3030;
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    (
        join(a & LOW4 | c << 4 & HIGH2, b & LOW4 | c << 2 & HIGH2),
        join(a >> 4 & LOW4 | c & HIGH2, b >> 4 & LOW4 | c >> 2 & HIGH2),
    )
}

/// `scales:16 qs:64 d:f16 dmin:f16`.
pub(super) struct Q2K;
impl Blocks for Q2K {
    const BYTES: usize = 84;
    const MINIMUMS: bool = true;

    #[inline(always)]
    fn codes(tile: &[u8], codes: &mut [u8; 256]) {
        for (qs, codes) in tile[16..80].chunks_exact(32).zip(codes.chunks_exact_mut(128)) {
            for (j, codes) in codes.chunks_exact_mut(32).enumerate() {
                for (code, q) in codes.iter_mut().zip(qs) {
                    *code = q >> (2 * j) & 3;
                }
            }
        }
    }

    #[inline(always)]
    fn scales(tile: &[u8]) -> Scales {
        let (d, dmin) = (f16(two(tile, 80)), f16(two(tile, 82)));
        Scales {
            d: std::array::from_fn(|i| d * f32::from(tile[i] & 15)),
            m: std::array::from_fn(|i| -dmin * f32::from(tile[i] >> 4)),
        }
    }
}

/// `hmask:32 qs:64 scales:12 d:f16`.
pub(super) struct Q3K;
impl Blocks for Q3K {
    const BYTES: usize = 110;
    const OFFSET: u8 = 4;

    #[inline(always)]
    fn codes(tile: &[u8], codes: &mut [u8; 256]) {
        for (b, codes) in codes.chunks_exact_mut(32).enumerate() {
            let qs = &tile[32 + b / 4 * 32..][..32];
            for ((code, q), h) in codes.iter_mut().zip(qs).zip(&tile[..32]) {
                *code = q >> (2 * (b % 4)) & 3 | (h >> b & 1) << 2;
            }
        }
    }

    #[inline(always)]
    fn scales(tile: &[u8]) -> Scales {
        let d = f16(two(tile, 108));
        let (low, high) = six_bit_scales(four(tile, 96), four(tile, 100), four(tile, 104));
        let scales: [[u8; 8]; 2] = [low.to_le_bytes(), high.to_le_bytes()];
        Scales { d: std::array::from_fn(|i| d * (f32::from(scales[i / 8][i % 8]) - 32.0)), m: [0.0; 16] }
    }
}

/// `d:f16 dmin:f16 scales:12 qs:128`.
pub(super) struct Q4K;
impl Blocks for Q4K {
    const BYTES: usize = 144;
    const MINIMUMS: bool = true;

    #[inline(always)]
    fn codes(tile: &[u8], codes: &mut [u8; 256]) {
        for (qs, codes) in tile[16..144].chunks_exact(32).zip(codes.chunks_exact_mut(64)) {
            nibbles(qs, codes);
        }
    }

    #[inline(always)]
    fn scales(tile: &[u8]) -> Scales {
        let (d, dmin) = (f16(two(tile, 0)), f16(two(tile, 2)));
        let (scales, mins) = six_bit_pairs(four(tile, 4), four(tile, 8), four(tile, 12));
        let (scales, mins) = (scales.to_le_bytes(), mins.to_le_bytes());
        Scales {
            d: std::array::from_fn(|i| d * f32::from(scales[i / 2])),
            m: std::array::from_fn(|i| -dmin * f32::from(mins[i / 2])),
        }
    }
}

/// `d:f16 dmin:f16 scales:12 qh:32 qs:128`.
pub(super) struct Q5K;
impl Blocks for Q5K {
    const BYTES: usize = 176;
    const MINIMUMS: bool = true;

    #[inline(always)]
    fn codes(tile: &[u8], codes: &mut [u8; 256]) {
        for (qs, codes) in tile[48..176].chunks_exact(32).zip(codes.chunks_exact_mut(64)) {
            nibbles(qs, codes);
        }
        for (b, codes) in codes.chunks_exact_mut(32).enumerate() {
            for (code, h) in codes.iter_mut().zip(&tile[16..48]) {
                *code |= (h >> b & 1) << 4;
            }
        }
    }

    #[inline(always)]
    fn scales(tile: &[u8]) -> Scales {
        Q4K::scales(tile)
    }
}

/// `ql:128 qh:64 scales:16 d:f16`.
pub(super) struct Q6K;
impl Blocks for Q6K {
    const BYTES: usize = 210;
    const OFFSET: u8 = 32;

    #[inline(always)]
    fn codes(tile: &[u8], codes: &mut [u8; 256]) {
        for (half, codes) in codes.chunks_exact_mut(128).enumerate() {
            nibbles(&tile[64 * half..][..64], codes);
            for (j, codes) in codes.chunks_exact_mut(32).enumerate() {
                for (code, h) in codes.iter_mut().zip(&tile[128 + 32 * half..][..32]) {
                    *code |= (h >> (2 * j) & 3) << 4;
                }
            }
        }
    }

    #[inline(always)]
    fn scales(tile: &[u8]) -> Scales {
        let d = f16(two(tile, 208));
        Scales { d: std::array::from_fn(|i| d * f32::from(tile[192 + i] as i8)), m: [0.0; 16] }
    }
}

/// `d:f16 scales_h:u16 scales_l:4 qs:128`, codes into [`IQ4_VALUES`].
pub(super) struct Iq4Xs;
impl Blocks for Iq4Xs {
    const BYTES: usize = 136;
    const TABLE: Option<&'static [i8; 16]> = Some(&IQ4_VALUES);

    #[inline(always)]
    fn codes(tile: &[u8], codes: &mut [u8; 256]) {
        for (qs, codes) in tile[8..136].chunks_exact(16).zip(codes.chunks_exact_mut(32)) {
            nibbles(qs, codes);
        }
    }

    #[inline(always)]
    fn scales(tile: &[u8]) -> Scales {
        let d = f16(two(tile, 0));
        let (high, low) = (u16::from_le_bytes(two(tile, 2)), four(tile, 4));
        let of = |b: usize| (low >> (4 * b) & 15) as f32 + 16.0 * f32::from(high >> (2 * b) & 3) - 32.0;
        Scales { d: std::array::from_fn(|i| d * of(i / 2)), m: [0.0; 16] }
    }
}
