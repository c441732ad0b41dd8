//! Every format, kernel and shape against sums in `f64`; the same bits for any number of rows and any split.

use super::*;
use crate::simd::dequant;

/// A sequence of bits that is the same everywhere.
struct Bits(u64);

impl Bits {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// Random blocks whose scales are finite: the exponent of every float16 that can be a scale is kept small.
fn weights(format: Format, n_rows: usize, n_cols: usize, bits: &mut Bits) -> Vec<u8> {
    let n = n_rows * n_cols;
    let mut bytes = vec![0u8; format.bytes_for(n).unwrap()];
    match format {
        Format::F32 => {
            bytes.chunks_exact_mut(4).for_each(|b| b.copy_from_slice(&bits.uniform().to_le_bytes()))
        }
        Format::F16 => bytes
            .chunks_exact_mut(2)
            .for_each(|b| b.copy_from_slice(&half::f16::from_f32(bits.uniform()).to_le_bytes())),
        Format::BF16 => bytes
            .chunks_exact_mut(2)
            .for_each(|b| b.copy_from_slice(&half::bf16::from_f32(bits.uniform()).to_le_bytes())),
        _ => {
            let scales: &[usize] = match format {
                Format::Q4_0 | Format::Q5_0 | Format::Q8_0 | Format::IQ4_NL | Format::IQ4_XS => &[0],
                Format::Q4_1 | Format::Q5_1 | Format::Q4_K | Format::Q5_K => &[0, 2],
                Format::Q2_K => &[80, 82],
                Format::Q3_K => &[108],
                Format::Q6_K => &[208],
                _ => &[],
            };
            for block in bytes.chunks_exact_mut(format.block_bytes()) {
                block.iter_mut().for_each(|b| *b = bits.next() as u8);
                for &at in scales {
                    let scale = half::f16::from_f32(bits.uniform() * 0.01);
                    block[at..at + 2].copy_from_slice(&scale.to_le_bytes());
                }
                if format == Format::MXFP4 {
                    block[0] = 120 + (bits.next() % 8) as u8;
                }
            }
        }
    }
    bytes
}

fn isas() -> Vec<Isa> {
    let best = Isa::detect();
    [Isa::Scalar, Isa::Avx2, Isa::Avx512, Isa::Amx]
        .into_iter()
        .filter(|&isa| {
            if isa > best {
                eprintln!("{isa} is not tested: this machine has {best}");
            }
            isa <= best
        })
        .collect()
}

fn dequantized(weights: &Weights<'_>) -> Vec<f32> {
    let n = weights.n_cols;
    let rows = weights.bytes.len() / weights.format.bytes_for(n).unwrap();
    let mut panel = vec![0.0; rows * (n + dequant::PAD)];
    dequant::panel_f32(Isa::detect().min(Isa::Avx512), weights, 0..n, &mut panel);
    panel.chunks_exact(n + dequant::PAD).flat_map(|row| &row[..n]).copied().collect()
}

fn product(kernel: Kernel, weights: &Weights<'_>, x: &[f32], n_out: usize) -> Vec<f32> {
    let n_rows = x.len() / weights.n_cols;
    let mut prepared = Prepared::new(kernel);
    prepared.reset(kernel, n_rows, weights.n_cols);
    prepared.fill(x);
    let mut y = vec![f32::NAN; n_rows * n_out];
    gemm(weights, &prepared, &mut OutView::new(&mut y, n_out), &mut Scratch::default());
    y
}

/// The squared error over the energy of the terms, which is the mean square of sums of such terms with random signs: a
/// sum that happens to cancel does not count for more.
fn nmse(got: &[f32], want: &[(f64, f64)]) -> f64 {
    let error: f64 = got.iter().zip(want).map(|(&g, (w, _))| (f64::from(g) - w).powi(2)).sum();
    error / want.iter().map(|(_, energy)| energy).sum::<f64>()
}

fn check(isa: Isa, format: Format, (n_rows, n_cols, n_out): (usize, usize, usize)) -> f64 {
    let bits = &mut Bits((n_rows * 1_000_000 + n_cols * 1000 + n_out) as u64);
    let bytes = weights(format, n_out, n_cols, bits);
    let w = Weights { format, bytes: &bytes, n_cols };
    let x: Vec<f32> = (0..n_rows * n_cols).map(|_| bits.uniform()).collect();
    let kernel = Kernel::choose(isa, format);
    let y = product(kernel, &w, &x, n_out);
    let dense = dequantized(&w);
    let mut want = Vec::new();
    for x in x.chunks_exact(n_cols) {
        for w in dense.chunks_exact(n_cols) {
            let terms = x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w));
            want.push((terms.clone().sum(), terms.map(|term| term * term).sum()));
        }
    }
    let error = nmse(&y, &want);
    // bfloat16 has 8 bits: each factor is off by about 2.5e-6 of its square on average. One sum alone may have ten times
    // the average, and more.
    let bound = match kernel.isa() {
        Isa::Amx if n_rows * n_out < 100 => 1e-4,
        Isa::Amx => 1e-5,
        _ => 1e-11,
    };
    assert!(error < bound, "{format} on {isa}, {n_rows} x {n_cols} x {n_out}: NMSE {error:e}");
    error
}

#[test]
fn agrees_with_sums_in_f64() {
    for isa in isas() {
        for format in Format::ALL {
            if isa < Isa::Avx512
                && !matches!(format, Format::F32 | Format::F16 | Format::BF16 | Format::Q8_0 | Format::Q4_1)
            {
                continue;
            }
            let mut worst = 0.0f64;
            for (n_rows, n_out) in [(1, 1), (2, 15), (15, 16), (16, 31), (17, 320), (33, 32), (130, 31)] {
                for n_cols in [32, 64, 96, 576, 1536, 2304] {
                    if n_cols % format.block_len() == 0 && n_rows * n_out * n_cols <= 17 * 320 * 1536 {
                        worst = worst.max(check(isa, format, (n_rows, n_cols, n_out)));
                    }
                }
            }
            if format.block_len() == 1 {
                for n_cols in [1, 7, 31, 33, 257, 1031] {
                    worst = worst.max(check(isa, format, (5, n_cols, 37)));
                }
            }
            eprintln!("{isa} {format}: {worst:.1e}");
        }
    }
}
