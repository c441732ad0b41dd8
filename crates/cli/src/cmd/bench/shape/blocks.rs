//! What are random weights of a format? Random bytes, with scales such that values are about as large as a trained model's.
//!
//! Speed does not depend on values, but a model whose logits are infinite computes nothing that can be sampled.

use std::fmt;

use quant::Format;

use super::super::random::Random;

/// The formats that can be made up, and llama.cpp's mixtures of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// One format for all matrices.
    Uniform(Format),
    /// As `llama-quantize` chooses for `Q4_K_M`.
    Q4KM,
    /// Experts in MXFP4, the rest in Q8_0.
    Mxfp4,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scheme::Uniform(format) => f.write_str(&format.name().to_ascii_lowercase()),
            Scheme::Q4KM => f.write_str("q4_k_m"),
            Scheme::Mxfp4 => f.write_str("mxfp4"),
        }
    }
}

impl Scheme {
    /// All of them: the mixtures, and every format. MXFP4 was made for experts, so that its name is the mixture's.
    pub(super) fn all() -> impl Iterator<Item = Scheme> {
        let formats = Format::ALL.into_iter().filter(|&format| format != Format::MXFP4);
        [Scheme::Q4KM, Scheme::Mxfp4].into_iter().chain(formats.map(Scheme::Uniform))
    }

    /// The format of a matrix with rows of `n_column`, in layer `layer` of `n_layer`.
    pub(super) fn of(
        self,
        name: &str,
        (layer, n_layer): (usize, usize),
        n_column: usize,
        is_tied: bool,
    ) -> Format {
        let role = name.trim_end_matches("_exps");
        let wanted = match self {
            Scheme::Uniform(format) => format,
            Scheme::Mxfp4 if name.ends_with("_exps") => Format::MXFP4,
            Scheme::Mxfp4 => Format::Q8_0,
            Scheme::Q4KM => {
                let has_more =
                    layer < n_layer / 8 || layer >= 7 * n_layer / 8 || (layer - n_layer / 8) % 3 == 2;
                match role {
                    "output" => Format::Q6_K,
                    "token_embd" if is_tied => Format::Q6_K,
                    "attn_v" | "ffn_down" if has_more => Format::Q6_K,
                    "attn_qkv" => Format::Q5_K,
                    _ => Format::Q4_K,
                }
            }
        };
        // Rows that are no multiple of 256. Formats with blocks of 256 fall back as in llama-quantize.
        match wanted {
            format if n_column.is_multiple_of(256) => format,
            Format::Q1_0 | Format::Q2_0 | Format::NVFP4 if !n_column.is_multiple_of(64) => Format::Q4_0,
            Format::Q1_0 if !n_column.is_multiple_of(128) => Format::Q2_0,
            Format::TQ1_0 | Format::TQ2_0 => Format::Q4_0,
            Format::Q2_K
            | Format::Q3_K
            | Format::IQ1_S
            | Format::IQ1_M
            | Format::IQ2_XXS
            | Format::IQ2_XS
            | Format::IQ2_S
            | Format::IQ3_XXS
            | Format::IQ3_S
            | Format::IQ4_XS => Format::IQ4_NL,
            Format::Q4_K => Format::Q5_0,
            Format::Q5_K => Format::Q5_1,
            Format::Q6_K => Format::Q8_0,
            format => format,
        }
    }
}

/// About normal, variance 1: the sum of the four 16-bit parts of a draw.
fn normal(random: &mut Random) -> f32 {
    let z = random.next();
    let sum: u64 = (0..4).map(|part| (z >> (16 * part)) & 0xFFFF).sum();
    // Each has mean 32767.5 and variance 65536² / 12.
    (sum as f32 - 131_070.0) / 37_837.2
}

/// `n` values around `mean`, as bytes of float32.
pub(super) fn floats(random: &mut Random, n: usize, mean: f32, deviation: f32) -> Vec<u8> {
    (0..n).flat_map(|_| (mean + deviation * normal(random)).to_le_bytes()).collect()
}

/// The bytes of `n` weights of a format, of about this standard deviation.
pub(super) fn weights(random: &mut Random, format: Format, n: usize, deviation: f32) -> Vec<u8> {
    match format {
        Format::F32 => return floats(random, n, 0.0, deviation),
        Format::F16 | Format::BF16 => {
            let bits = |x: f32| match format {
                Format::F16 => half::f16::from_f32(x).to_bits(),
                _ => half::bf16::from_f32(x).to_bits(),
            };
            return (0..n).flat_map(|_| bits(deviation * normal(random)).to_le_bytes()).collect();
        }
        _ => {}
    }
    let (size, count) = (format.block_bytes(), n / format.block_len());
    let mut bytes = vec![0; size * count];
    let (words, rest) = bytes.as_chunks_mut::<8>();
    words.iter_mut().for_each(|word| *word = random.next().to_le_bytes());
    rest.iter_mut().for_each(|byte| *byte = random.next() as u8);
    for block in bytes.chunks_exact_mut(size) {
        scale(format, block, deviation);
    }
    bytes
}

/// Puts scales into a block of random bytes. An evenly drawn integer of 2 bits has a standard deviation of 1.12, of 4 bits 4.6, of 5 bits
/// 9.2, of 6 bits 18.5, of 8 bits 74. Where groups' scales stay random, and where values are those of a table or grid, the deviation was
/// measured of blocks whose scale is 1.
fn scale(format: Format, block: &mut [u8], deviation: f32) {
    let mut put = |at: usize, value: f32| {
        block[at..at + 2].copy_from_slice(&half::f16::from_f32(value).to_le_bytes());
    };
    match format {
        Format::Q4_0 => put(0, deviation / 4.6),
        Format::Q4_1 => {
            put(0, deviation / 4.6);
            put(2, -deviation * 7.5 / 4.6);
        }
        Format::Q5_0 => put(0, deviation / 9.2),
        Format::Q5_1 => {
            put(0, deviation / 9.2);
            put(2, -deviation * 15.5 / 9.2);
        }
        Format::Q8_0 => put(0, deviation / 74.0),
        Format::Q4_K | Format::Q5_K => {
            let (spread, middle) = if format == Format::Q4_K { (4.6, 7.5) } else { (9.2, 15.5) };
            put(0, deviation / spread / 32.0);
            put(2, deviation * middle / spread / 32.0);
            // Scales and minimums of 32 for all eight parts: the low bits in the first eight bytes, two high bits each above them.
            block[4..12].fill(0b1010_0000);
            block[12..16].fill(0);
        }
        Format::Q2_K => {
            put(80, deviation / 1.12 / 8.0);
            put(82, deviation * 1.5 / 1.12 / 8.0);
            // Scales and minimums of 8.
            block[..16].fill(0x88);
        }
        Format::Q3_K => put(108, deviation / 43.4),
        Format::Q6_K => {
            put(208, deviation / 18.5 / 32.0);
            block[192..208].fill(32);
        }
        Format::Q1_0 => put(0, deviation),
        Format::Q2_0 => {
            put(0, deviation / 0.707);
            block[2..].iter_mut().for_each(without_two);
        }
        Format::TQ1_0 => put(52, deviation / 0.818),
        Format::TQ2_0 => {
            put(64, deviation / 0.707);
            block[..64].iter_mut().for_each(without_two);
        }
        Format::IQ1_S => put(0, deviation / 7.18),
        Format::IQ1_M => {
            // Its 16 bits are the upper four of each of the groups' scales.
            let bits = half::f16::from_f32(deviation / 7.22).to_bits();
            for (i, scales) in block[48..].chunks_exact_mut(2).enumerate() {
                scales[1] = scales[1] & 0x0F | (bits >> (4 * i) << 4) as u8;
            }
        }
        Format::IQ2_XXS => put(0, deviation / 53.4),
        Format::IQ2_XS => put(0, deviation / 55.9),
        Format::IQ2_S => put(0, deviation / 56.4),
        Format::IQ3_XXS => put(0, deviation / 142.6),
        Format::IQ3_S => put(0, deviation / 140.2),
        Format::IQ4_NL => put(0, deviation / 67.2),
        Format::IQ4_XS => put(0, deviation / 1248.0),
        // E4M3 without a sign, of a third of it.
        Format::NVFP4 => {
            let value = |code: u8| match (f32::from(code & 7) / 8.0, code >> 3) {
                (mantissa, 0) => mantissa * 2f32.powi(-6),
                (mantissa, exponent) => (1.0 + mantissa) * 2f32.powi(i32::from(exponent) - 7),
            };
            let distance = |code: u8| (value(code) - deviation / 3.2).abs();
            let nearest = (1..=0x7e).min_by(|a, b| distance(*a).total_cmp(&distance(*b)));
            block[..4].fill(nearest.unwrap_or(1));
        }
        // The power of two nearest to a third of it, since the 16 values are up to 6.
        Format::MXFP4 => block[0] = (127.0 + (deviation / 3.0).log2()).round().clamp(0.0, 254.0) as u8,
        Format::F32 | Format::F16 | Format::BF16 => {}
    }
}

/// Takes the code 3 out of four weights of 2 bits: it stands for 2, and without it their mean is 0.
fn without_two(four: &mut u8) {
    *four &= !(*four << 1 & 0xAA);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_as_large_as_asked_for() {
        const N: usize = 1 << 16;
        for scheme in Scheme::all() {
            let format = scheme.of("ffn_up_exps", (1, 8), 256, false);
            for asked in [0.004, 0.02] {
                let bytes = weights(&mut Random(1), format, N, asked);
                let mut values = vec![0.0; N];
                format.dequantize(&bytes, &mut values).unwrap();
                let mean = values.iter().sum::<f32>() / N as f32;
                let deviation = (values.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / N as f32).sqrt();
                // Powers of two, and E4M3's smallest numbers, only come near.
                let factor = if matches!(format, Format::MXFP4 | Format::NVFP4) { 1.5 } else { 1.03 };
                let is_as_large = (1.0 / factor..factor).contains(&(deviation / asked));
                assert!(is_as_large && mean.abs() < 0.2 * asked, "{scheme}: {mean} ± {deviation}");
            }
        }
    }

    #[test]
    fn every_format_has_a_name_of_its_own() {
        let made =
            |format| Scheme::all().any(|scheme| scheme.of("ffn_up_exps", (1, 8), 256, false) == format);
        assert!(Format::ALL.into_iter().all(made));
        let names: std::collections::HashSet<_> = Scheme::all().map(|scheme| scheme.to_string()).collect();
        assert_eq!(names.len(), Scheme::all().count());
    }

    #[test]
    fn rows_that_are_no_multiple_of_256_fall_back() {
        let of = |name, n_column| Scheme::Q4KM.of(name, (0, 24), n_column, true);
        assert_eq!(
            [of("attn_q", 896), of("ffn_down", 4864), of("token_embd", 896)],
            [Format::Q5_0, Format::Q6_K, Format::Q8_0]
        );
        let of = |n_column| Scheme::Uniform(Format::Q1_0).of("attn_q", (0, 24), n_column, true);
        assert_eq!([of(96), of(576), of(896)], [Format::Q4_0, Format::Q2_0, Format::Q1_0]);
        for format in Format::ALL {
            let of = |n_column| Scheme::Uniform(format).of("attn_q", (0, 24), n_column, true);
            assert_eq!(of(256), format);
            for n_column in [32, 96, 128, 576, 2880] {
                let found = of(n_column);
                assert!(n_column.is_multiple_of(found.block_len()), "{format}: {n_column} in {found}");
            }
        }
        let of = |format| Scheme::Uniform(format).of("attn_q", (0, 24), 896, true);
        assert_eq!([Format::TQ1_0, Format::IQ2_S].map(of), [Format::Q4_0, Format::IQ4_NL]);
    }
}
