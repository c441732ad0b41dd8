//! How fast are the prefill products on one thread? Medians (and the fastest run) of multiply-adds per cycle and GFLOP/s by kernel, format and
//! shape (activation rows x columns x weight rows), and the share of the kernel's peak (AMX 512 multiply-adds a cycle,
//! in float32 16 with AVX2 and 32 with AVX-512, in integers twice as much, where two vectors a cycle are multiplied). The clock is measured
//! with a chain of dependent instructions.
//!
//! Usage: `cargo bench -p cpu --bench gemm -- [FORMAT ...] [ISA ...] [ROWS ...]`, by default Q4_K and Q4_1, every instruction set (named as in
//! `--cpu-features`) and all numbers of activation rows. Every format is multiplied in float32 as well.
#![allow(clippy::print_stdout)]

use cpu::simd::columns::Columns;
use cpu::simd::gemm::{Arithmetic, Kernel, Prepared, Scratch, Weights, gemm};
use cpu::simd::isa::Isa;
use quant::Format;
use std::hint::black_box;
use std::time::Instant;

/// Activation rows, columns, weight rows: of a model of 1.5 billion weights, and a small one last.
const SHAPES: [(usize, usize, usize); 7] = [
    (512, 1536, 8960),
    (64, 1536, 8960),
    (16, 1536, 8960),
    (8, 1536, 8960),
    (1, 1536, 8960),
    (512, 8960, 1536),
    (512, 576, 1536),
];

fn main() {
    let named: Vec<Format> =
        std::env::args().filter_map(|arg| Format::ALL.into_iter().find(|f| f.name() == arg)).collect();
    let isas: Vec<Isa> =
        std::env::args().filter_map(|arg| Isa::ALL.into_iter().find(|isa| isa.name() == arg)).collect();
    let rows: Vec<usize> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let formats = if named.is_empty() { vec![Format::Q4_K, Format::Q4_1] } else { named };
    let ghz = clock_ghz();
    println!("{ghz:.2} GHz");
    println!(
        "{:12} {:8} {:6} {:>18} {:>9} {:>10} {:>9} {:>6}",
        "isa", "numbers", "format", "shape", "ms", "MAC/cycle", "GFLOP/s", "peak"
    );
    let is_wanted = |isa: &Isa| isa.is_available() && (isas.is_empty() || isas.contains(isa));
    for isa in Isa::ALL.into_iter().filter(is_wanted) {
        for &format in &formats {
            for shape in SHAPES {
                if !rows.is_empty() && !rows.contains(&shape.0) {
                    continue;
                }
                if shape.1 % format.block_len() != 0 || (isa == Isa::Scalar && shape.0 != 64) {
                    continue;
                }
                let (own, float) = (Kernel::choose(isa, format), Kernel::choose(isa, Format::F32));
                report((isa, own), format, shape, ghz);
                if own != float {
                    report((isa, float), format, shape, ghz);
                }
            }
        }
    }
}

fn report(
    (isa, kernel): (Isa, Kernel),
    format: Format,
    (n_rows, n_cols, n_out): (usize, usize, usize),
    ghz: f64,
) {
    let bytes: Vec<u8> =
        (0..format.bytes_for(n_cols * n_out).unwrap()).map(|i| (i * 37 % 61) as u8).collect();
    let weights = Weights { format, bytes: &bytes, n_cols };
    let x: Vec<f32> = (0..n_rows * n_cols).map(|i| (i * 31 % 97) as f32 * 0.01 - 0.5).collect();
    let mut prepared = Prepared::new(kernel);
    let mut y = vec![0.0; n_rows * n_out];
    let mut scratch = Scratch::default();
    let mut times: Vec<f64> = (0..9)
        .map(|_| {
            let start = Instant::now();
            prepared.reset(kernel, n_rows, n_cols);
            prepared.fill(&x);
            gemm(&weights, &prepared, &mut Columns::new(&mut y, n_out), &mut scratch);
            black_box(&mut y);
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let seconds = times[times.len() / 2];
    let macs = (n_rows * n_cols * n_out) as f64;
    let per_cycle = macs / (seconds * ghz * 1e9);
    let lanes = match kernel.isa() {
        Isa::Scalar | Isa::Neon | Isa::Dotprod | Isa::I8mm => f64::NAN,
        Isa::Avx2 | Isa::AvxVnni => 8.0,
        _ => 16.0,
    };
    let peak = match kernel.arithmetic() {
        Arithmetic::Float => 2.0 * lanes,
        Arithmetic::Integer => 4.0 * lanes,
        Arithmetic::Bfloat => 512.0,
    };
    println!(
        "{:12} {:8} {:6} {:>18} {:9.2} {per_cycle:10.1} {:9.1} {:5.0}%  (best {:.2} ms)",
        isa.name(),
        format!("{:?}", kernel.arithmetic()),
        format.name(),
        format!("{n_rows}x{n_cols}x{n_out}"),
        seconds * 1e3,
        2.0 * macs / seconds / 1e9,
        100.0 * per_cycle / peak,
        times[0] * 1e3,
    );
}

/// The clock under load: a step of this generator is three shifts and three exclusive ors, each waiting for the last, a
/// cycle each.
fn clock_ghz() -> f64 {
    let n = 200_000u64;
    let mut best = f64::INFINITY;
    for _ in 0..300 {
        let start = Instant::now();
        let mut x = black_box(88_172_645_463_325_252u64);
        for _ in 0..n {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
        }
        black_box(x);
        best = best.min(start.elapsed().as_secs_f64());
    }
    6.0 * n as f64 / best / 1e9
}
