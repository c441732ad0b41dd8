//! Random weights of every format, and the instruction sets to try them on.

use crate::simd::isa::Isa;
use quant::Format;

/// A sequence of bits that is the same everywhere.
pub(in crate::simd) struct Bits(pub(in crate::simd) u64);

impl Bits {
    pub(in crate::simd) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(in crate::simd) fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// Random blocks whose scales are finite: the exponent of every float16 that can be a scale is kept small.
pub(in crate::simd) fn weights(format: Format, n_rows: usize, n_cols: usize, bits: &mut Bits) -> Vec<u8> {
    let n = n_rows * n_cols;
    let mut bytes = vec![0u8; format.bytes_for(n).unwrap()];
    match format {
        Format::F32 => {
            bytes.chunks_exact_mut(4).for_each(|b| b.copy_from_slice(&bits.uniform().to_le_bytes()));
        }
        Format::F16 => bytes
            .chunks_exact_mut(2)
            .for_each(|b| b.copy_from_slice(&half::f16::from_f32(bits.uniform()).to_le_bytes())),
        Format::BF16 => bytes
            .chunks_exact_mut(2)
            .for_each(|b| b.copy_from_slice(&half::bf16::from_f32(bits.uniform()).to_le_bytes())),
        _ => {
            for block in bytes.chunks_exact_mut(format.block_bytes()) {
                block.iter_mut().for_each(|b| *b = bits.next() as u8);
                set_scales(format, block, || half::f16::from_f32(bits.uniform() * 0.01));
                if format == Format::MXFP4 {
                    block[0] = 120 + (bits.next() % 8) as u8;
                }
            }
        }
    }
    bytes
}

/// Puts a block's scales and minimums of 16 bits where its format has them; NVFP4 and MXFP4 have none.
pub(in crate::simd) fn set_scales(format: Format, block: &mut [u8], mut scale: impl FnMut() -> half::f16) {
    let at: &[usize] = match format {
        Format::Q4_1 | Format::Q5_1 | Format::Q4_K | Format::Q5_K => &[0, 2],
        Format::Q2_K => &[80, 82],
        Format::Q3_K => &[108],
        Format::Q6_K => &[208],
        Format::TQ1_0 => &[52],
        Format::TQ2_0 => &[64],
        Format::F32 | Format::BF16 | Format::MXFP4 | Format::NVFP4 => &[],
        Format::IQ1_M => {
            let bits = scale().to_bits();
            for i in 0..4 {
                let nibble = (bits >> (4 * i) & 15) as u8;
                block[49 + 2 * i] = block[49 + 2 * i] & 15 | nibble << 4;
            }
            &[]
        }
        _ => &[0],
    };
    for &at in at {
        block[at..at + 2].copy_from_slice(&scale().to_le_bytes());
    }
}

/// A number that any bit changes: FNV-1a.
#[derive(Debug)]
pub(in crate::simd) struct Digest(u64);

impl Default for Digest {
    fn default() -> Digest {
        Digest(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    pub(in crate::simd) fn add(&mut self, values: &[f32]) {
        for byte in values.iter().flat_map(|v| v.to_le_bytes()) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// Every instruction set that this machine runs; says which ones it does not.
#[allow(clippy::print_stderr)]
pub(in crate::simd) fn isas() -> Vec<Isa> {
    let (runs, lacks): (Vec<Isa>, Vec<Isa>) = Isa::ALL.into_iter().partition(|isa| isa.is_available());
    for isa in lacks {
        eprintln!("{isa} is not tested: this machine lacks it");
    }
    runs
}
