//! How fast is the gated delta rule of one head? `cargo bench -p cpu --bench delta`, one core.
//!
//! Nanoseconds a token of a head of 128 values, as in Qwen3.5, for a token by itself and for 16 at a time, with each instruction set; 32 heads
//! in turn, so that their matrices come from the L2 cache or beyond as they do in a layer. Medians of single heads, of which another process seldom
//! takes a part.

use std::io::Write;
use std::time::Instant;

use cpu::simd::columns::Columns;
use cpu::simd::delta::{Token, delta_rule};
use cpu::simd::isa::Isa;

const N: usize = 128;
const HEADS: usize = 32;
const REPETITIONS: usize = 101;

fn main() -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    let unit = vec![1.0 / (N as f32).sqrt(); N];
    let v: Vec<f32> = (0..N).map(|i| i as f32 / N as f32 - 0.5).collect();
    let token = Token { q: &unit, k: &unit, v: &v, forget: 0.9995, write: 0.5 };
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        for n_token in [1, 16] {
            let tokens = vec![token; n_token];
            let mut matrices = vec![0.01; HEADS * N * N];
            let mut out = vec![0.0; n_token * N];
            let mut columns = Columns::new(&mut out, N);
            let mut times = Vec::new();
            for _ in 0..REPETITIONS {
                for matrix in matrices.chunks_exact_mut(N * N) {
                    let start = Instant::now();
                    delta_rule(isa, matrix, &tokens, (&mut columns, 0));
                    times.push(start.elapsed().as_secs_f64() * 1e9 / n_token as f64);
                }
            }
            times.sort_by(f64::total_cmp);
            let median = times[times.len() / 2];
            writeln!(stdout, "{:14} {n_token:3} tokens: {median:7.0} ns a token and head", isa.to_string())?;
        }
    }
    Ok(())
}
