//! Every format, kernel and shape against sums in `f64`; the same bits for any number of rows and any split.

use super::sample::{Bits, Digest, isas, weights};
use super::*;
use std::ops::Range;

fn dequantized(weights: &Weights<'_>) -> Vec<f32> {
    let format = weights.format;
    let mut values = vec![0.0; weights.bytes.len() / format.block_bytes() * format.block_len()];
    format.dequantize(weights.bytes, &mut values).unwrap();
    values
}

fn product(kernel: Kernel, weights: &Weights<'_>, x: &[f32], n_out: usize) -> Vec<f32> {
    let n_rows = x.len() / weights.n_cols;
    let mut prepared = Prepared::new(kernel);
    prepared.reset(kernel, n_rows, weights.n_cols);
    prepared.fill(x);
    let mut y = vec![f32::NAN; n_rows * n_out];
    gemm(weights, &prepared, &mut Columns::new(&mut y, n_out), &mut Scratch::default());
    y
}

/// The squared error over the energy of the terms, which is the mean square of sums of such terms with random signs: a
/// sum that happens to cancel does not count for more.
fn nmse(got: &[f32], want: &[(f64, f64)]) -> f64 {
    let error: f64 = got.iter().zip(want).map(|(&g, (w, _))| (f64::from(g) - w).powi(2)).sum();
    error / want.iter().map(|(_, energy)| energy).sum::<f64>()
}

fn check(isa: Isa, format: Format, (n_rows, n_cols, n_out): (usize, usize, usize)) {
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
    // bfloat16 has 8 bits: each factor is off by about 2.5e-6 of its square on average. Integers of 12 bits and a sign are off by at most
    // 1/8190 of the largest of 128. One sum alone may have ten times the average, and more.
    let bound = match kernel.arithmetic() {
        Arithmetic::Bfloat if n_rows * n_out < 100 => 1e-4,
        Arithmetic::Bfloat => 1e-5,
        Arithmetic::Integer if n_rows * n_out < 100 => 2e-6,
        Arithmetic::Integer => 2e-7,
        Arithmetic::Float => 1e-11,
    };
    assert!(error < bound, "{format} on {isa}, {n_rows} x {n_cols} x {n_out}: NMSE {error:e}");
}

#[test]
fn agrees_with_sums_in_f64() {
    for isa in isas() {
        for format in Format::ALL {
            for (n_rows, n_out) in [(1, 1), (2, 15), (15, 16), (16, 31), (17, 320), (33, 32), (130, 31)] {
                for n_cols in [32, 64, 96, 576, 1536, 2304] {
                    if n_cols % format.block_len() == 0 && n_rows * n_out * n_cols <= 17 * 320 * 1536 {
                        check(isa, format, (n_rows, n_cols, n_out));
                    }
                }
            }
            if format.block_len() == 1 {
                for n_cols in [1, 7, 31, 33, 257, 1031] {
                    check(isa, format, (5, n_cols, 37));
                }
            }
        }
    }
}

/// A row of activations gives the same bits alone, in any company and at any place, and whoever computes which weight rows.
#[test]
fn bits_depend_on_the_two_rows_alone() {
    for isa in isas() {
        for (format, n_cols) in
            [(Format::Q4_K, 2304), (Format::Q4_1, 576), (Format::F16, 333), (Format::F32, 40)]
        {
            let bits = &mut Bits(7);
            let (n_rows, n_out) = (530, 77);
            let bytes = weights(format, n_out, n_cols, bits);
            let w = Weights { format, bytes: &bytes, n_cols };
            let x: Vec<f32> = (0..n_rows * n_cols).map(|_| bits.uniform()).collect();
            let kernel = Kernel::choose(isa, format);
            let all = product(kernel, &w, &x, n_out);
            let same = |rows: Range<usize>, got: &[f32]| {
                let want = &all[rows.start * n_out..rows.end * n_out];
                assert!(
                    got.iter().zip(want).all(|(g, w)| g.to_bits() == w.to_bits()),
                    "{isa} {format} {rows:?}"
                );
            };
            for rows in [0..1, 529..530, 3..10, 40..57, 100..164, 18..530] {
                same(rows.clone(), &product(kernel, &w, &x[rows.start * n_cols..rows.end * n_cols], n_out));
            }
            // Parts filled apart, weight rows split at odd places.
            let mut prepared = Prepared::new(kernel);
            prepared.reset(kernel, n_rows, n_cols);
            for mut part in prepared.parts(50) {
                part.fill(|row| &x[row * n_cols..(row + 1) * n_cols]);
            }
            let mut y = vec![f32::NAN; n_rows * n_out];
            let row_bytes = bytes.len() / n_out;
            let mut scratch = Scratch::default();
            for (i, mut view) in Columns::new(&mut y, n_out).split_cols(19).enumerate() {
                let bytes = &bytes[i * 19 * row_bytes..][..view.n_cols() * row_bytes];
                gemm(&Weights { bytes, ..w }, &prepared, &mut view, &mut scratch);
            }
            same(0..n_rows, &y);
        }
    }
}

/// What no integer can hold is seen in the rows that it is in, and nowhere else.
#[test]
fn infinities_and_nans_reach_their_own_rows_alone() {
    for isa in isas() {
        let bits = &mut Bits(11);
        let (n_cols, n_out) = (320, 33);
        let bytes = weights(Format::Q4_1, n_out, n_cols, bits);
        let w = Weights { format: Format::Q4_1, bytes: &bytes, n_cols };
        let kernel = Kernel::choose(isa, Format::Q4_1);
        let x: Vec<f32> = (0..9 * n_cols).map(|_| bits.uniform()).collect();
        let want = product(kernel, &w, &x, n_out);
        for value in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            let mut x = x.clone();
            x[3 * n_cols + 200] = value;
            let got = product(kernel, &w, &x, n_out);
            for (r, (got, want)) in got.chunks_exact(n_out).zip(want.chunks_exact(n_out)).enumerate() {
                if r == 3 {
                    assert!(got.iter().all(|y| !y.is_finite()), "{isa} {value}");
                } else {
                    assert!(
                        got.iter().zip(want).all(|(g, w)| g.to_bits() == w.to_bits()),
                        "{isa} {value} {r}"
                    );
                }
            }
        }
    }
}

/// The largest integers of a whole span, of one sign, still fit 32 bits.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[test]
fn sums_of_the_largest_integers_do_not_overflow() {
    let n_cols = 4 * integer::SPAN;
    let bytes: Vec<u8> = (0..n_cols).flat_map(|_| half::bf16::from_f32(-3.0).to_le_bytes()).collect();
    let weights = Weights { format: Format::BF16, bytes: &bytes, n_cols };
    for kernel in isas().into_iter().map(|isa| Kernel::choose(isa, Format::BF16)) {
        if kernel.arithmetic() == Arithmetic::Integer {
            let y = product(kernel, &weights, &vec![5.0; n_cols], 1);
            assert!((y[0] / (-15.0 * n_cols as f32) - 1.0).abs() < 1e-5, "{kernel:?}: {y:?}");
        }
    }
}

/// NEON computes float32 in the order of AVX2, and integers are the same everywhere. What is expected was computed by either processor.
#[test]
fn x86_64_and_arm64_give_the_same_bits() {
    let formats = [Format::F16, Format::Q4_1, Format::Q4_K, Format::BF16];
    let samples: Vec<_> = (formats.into_iter())
        .map(|format| {
            let bits = &mut Bits(3);
            let (n_rows, n_cols, n_out) = (19, 768, 33);
            let bytes = weights(format, n_out, n_cols, bits);
            let x: Vec<f32> = (0..n_rows * n_cols).map(|_| bits.uniform()).collect();
            (format, bytes, x, n_cols, n_out)
        })
        .collect();
    let found = |kernel_of: &dyn Fn(Format) -> Option<Kernel>| {
        let mut digest = Digest::default();
        for (format, bytes, x, n_cols, n_out) in &samples {
            if let Some(kernel) = kernel_of(*format) {
                let weights = Weights { format: *format, bytes, n_cols: *n_cols };
                digest.add(&product(kernel, &weights, x, *n_out));
            }
        }
        format!("{digest:x?}")
    };
    for isa in isas() {
        if matches!(isa.vectors(), Vectors::Bits256 | Vectors::Neon) {
            let float = Kernel { isa, arithmetic: Arithmetic::Float };
            assert_eq!(found(&|_| Some(float)), "Digest(4016c4cc6fc06778)", "{isa} in float32");
        }
        let integers =
            |format| Some(Kernel::choose(isa, format)).filter(|k| k.arithmetic() == Arithmetic::Integer);
        if integers(Format::Q4_1).is_some() {
            assert_eq!(found(&integers), "Digest(53639c3ffe98ee36)", "{isa} in integers");
        }
    }
}

/// Sums of integers are exact, and they are scaled and added in one order: vectors of either width, with VNNI or without, give the same.
#[test]
fn integers_give_the_same_bits_on_every_instruction_set() {
    for format in Format::ALL {
        for (n_rows, n_cols, n_out) in [(1, 256, 3), (17, 768, 33), (55, 1536, 100), (5, 333, 37)] {
            if n_cols % format.block_len() != 0 {
                continue;
            }
            let bits = &mut Bits(n_cols as u64);
            let bytes = weights(format, n_out, n_cols, bits);
            let w = Weights { format, bytes: &bytes, n_cols };
            let x: Vec<f32> = (0..n_rows * n_cols).map(|_| bits.uniform()).collect();
            let kernels = isas().into_iter().map(|isa| Kernel::choose(isa, format));
            let products: Vec<(Kernel, Vec<u32>)> = kernels
                .filter(|kernel| kernel.arithmetic() == Arithmetic::Integer)
                .map(|kernel| {
                    let y = product(kernel, &w, &x, n_out);
                    (kernel, y.into_iter().map(f32::to_bits).collect())
                })
                .collect();
            for pair in products.windows(2) {
                let [(of, a), (other, b)] = pair else { unreachable!() };
                assert!(a == b, "{format} {n_rows} x {n_cols} x {n_out}: {of:?} and {other:?} differ");
            }
        }
    }
}
