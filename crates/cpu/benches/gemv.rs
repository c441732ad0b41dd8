//! How fast are the decode kernels against what memory gives? `cargo bench -p cpu --bench gemv [FORMAT]`, one core.
//!
//! For each format and row length: gigabytes of weights a second with 1, 4 and 8 activation rows, over a matrix far larger than the
//! L2 cache, and over one that fits it, where the arithmetic is the bound; and nanoseconds a row of weights. Medians, with
//! the rate of a plain read of the same memory beside them.

use std::hint::black_box;
use std::io::Write;
use std::time::Instant;

use cpu::simd::columns::Columns;
use cpu::simd::gemv::{Activations, Weights, gemv, wants_floats};
use cpu::simd::isa::Isa;
use cpu::simd::quantize::QuantizedRows;
use quant::Format;

/// Bytes of the large matrix, and of the small one.
const LARGE: usize = 96 << 20;
const SMALL: usize = 512 << 10;
/// About how many bytes are timed at once: little enough that another process seldom falls into a piece.
const PIECE: usize = 512 << 10;
/// Bytes read in all for a figure.
const TOTAL: usize = 192 << 20;

/// Median nanoseconds of `f` for a piece, going through `n_pieces` pieces in turn.
fn nanoseconds(n_pieces: usize, mut f: impl FnMut(usize)) -> f64 {
    f(0);
    let mut times: Vec<f64> = (0..TOTAL / PIECE)
        .map(|i| {
            let start = Instant::now();
            f(i % n_pieces);
            start.elapsed().as_secs_f64() * 1e9
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// A sum of all 64-bit words, eight at a time: nothing but the reading of them.
fn read(bytes: &[u8]) -> u64 {
    let mut sums = [0u64; 8];
    for line in bytes.as_chunks::<64>().0 {
        for (sum, word) in sums.iter_mut().zip(line.as_chunks::<8>().0) {
            *sum = sum.wrapping_add(u64::from_ne_bytes(*word));
        }
    }
    sums.iter().fold(0, |a, b| a.wrapping_add(*b))
}

fn main() -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let only = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let named = std::env::var("ISA").unwrap_or_default();
    let isa = Isa::ALL.into_iter().find(|isa| isa.name() == named).unwrap_or_else(Isa::detect);
    // Bytes that are sane scales in every format: 0x2c2c is 0.065 as a half, 0x2c2c2c2c is 2.4e-12 as a float.
    let memory = vec![0x2c_u8; LARGE];
    writeln!(out, "{isa}")?;
    for format in Format::ALL {
        if only.as_ref().is_some_and(|only| only != format.name()) {
            continue;
        }
        let plain = PIECE as f64
            / nanoseconds(LARGE / PIECE, |i| {
                _ = black_box(read(black_box(&memory[i * PIECE..(i + 1) * PIECE])));
            });
        writeln!(out, "{format}: a plain read gives {plain:.1} GB/s")?;
        for n_cols in [1536, 8960] {
            write!(out, "  {n_cols:5} columns")?;
            for n_x in [1, 4, 8] {
                let x: Vec<f32> = (0..n_x * n_cols).map(|i| (i * 37 % 101) as f32 - 50.0).collect();
                let mut quantized = QuantizedRows::new();
                quantized.fill(isa, &x, n_cols);
                let x = if wants_floats(format) {
                    Activations::Float(&x)
                } else {
                    Activations::Quantized(&quantized)
                };
                let row_bytes = format.bytes_for(n_cols).unwrap_or(1);
                let n_rows = PIECE / row_bytes;
                let mut products = vec![0.0f32; n_x * n_rows];
                let [(large, ns), (small, small_ns)] = [LARGE, SMALL].map(|size| {
                    let piece = n_rows * row_bytes;
                    let time = nanoseconds(size / piece, |i| {
                        let weights = Weights { format, n_cols, bytes: &memory[i * piece..(i + 1) * piece] };
                        gemv(isa, weights, x, &mut Columns::new(black_box(&mut products), n_rows));
                    });
                    (piece as f64 / time, time / n_rows as f64)
                });
                write!(
                    out,
                    "  | {n_x} x: {large:4.1} GB/s {ns:6.0} ns, in L2 {small:4.1} GB/s {small_ns:6.0} ns"
                )?;
            }
            writeln!(out)?;
        }
    }
    Ok(())
}
