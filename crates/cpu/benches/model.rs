//! How fast does the executor compute a model on each instruction set? Medians (and the fastest run) in tokens/s: a prompt of 512 tokens,
//! generated tokens of one sequence and of four, and the same steps in the role of prompts, which is what they would cost with the
//! arithmetic of prompts. The sets take turns.
//!
//! Usage: `cargo bench -p cpu --bench model -- MODEL.gguf [THREADS [SET,..]]`
#![allow(clippy::print_stdout)]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use cpu::simd::isa::Isa;
use cpu::{CpuExecutor, Options};
use device::Executor;
use device::batch::Span;
use model::Model;
use testkit::steps::{greedy, last, prompt, run};

const N_PROMPT: usize = 512;
const N_GENERATED: usize = 16;
const REPETITIONS: usize = 5;
const TESTS: [&str; 5] = ["prompt of 512", "generated", "generated, 4", "as prompts", "as prompts, 4"];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let Some(path) = args.first() else {
        println!("expected a model");
        return;
    };
    let threads = args.get(1).map_or(2, |n| n.parse().expect("a number of threads"));
    let is_named = |isa: &Isa| args.get(2).is_none_or(|sets| sets.split(',').any(|set| set == isa.name()));
    let gguf = gguf::Gguf::open(Path::new(path)).expect("a model");
    let model = Arc::new(Model::load(&gguf).expect("a model"));
    let isas: Vec<Isa> = Isa::ALL.into_iter().filter(|isa| isa.is_available() && is_named(isa)).collect();
    let mut rates = vec![[const { Vec::new() }; TESTS.len()]; isas.len()];
    for _ in 0..REPETITIONS {
        for (&isa, rates) in isas.iter().zip(&mut rates) {
            let options = Options { threads, isa: Some(isa), n_ctx: 1024, n_slot: 4, ..Options::default() };
            let mut executor = CpuExecutor::new(Arc::clone(&model), &options).expect("an executor");
            for (rate, rates) in measure(&mut executor).into_iter().zip(rates) {
                rates.push(rate);
            }
        }
    }
    for (isa, rates) in isas.iter().zip(&mut rates) {
        for (test, rates) in TESTS.iter().zip(rates) {
            rates.sort_by(f64::total_cmp);
            let best = rates.last().copied().unwrap_or_default();
            println!("{:12} {test:14} {:8.1} tokens/s (best {best:.1})", isa.name(), rates[rates.len() / 2]);
        }
    }
}

/// Tokens a second in each of [`TESTS`].
fn measure(executor: &mut CpuExecutor) -> [f64; TESTS.len()] {
    let n_vocab = executor.limits().n_vocab;
    let tokens: Vec<u32> = (0..N_PROMPT).map(|i| ((i * 104_729 + i * i * 31) % n_vocab) as u32).collect();
    // What grows with the first step, and the sequences that go on.
    for slot in 0..4 {
        let span = prompt(executor, slot, 0, &tokens[..32], greedy());
        run(executor, vec![span]);
    }
    let mut steps =
        |n_step: usize, n_token: usize, span: &dyn Fn(&CpuExecutor, usize, usize) -> Span, n_slot: usize| {
            let start = Instant::now();
            for step in 0..n_step {
                let spans = (0..n_slot).map(|slot| span(executor, slot, 32 + step)).collect();
                run(executor, spans);
            }
            (n_step * n_token * n_slot) as f64 / start.elapsed().as_secs_f64()
        };
    let generated = |executor: &CpuExecutor, slot, at| last(executor, slot, at, greedy());
    let as_prompts = |executor: &CpuExecutor, slot, at| prompt(executor, slot, at, &tokens[..1], greedy());
    let of_one = steps(N_GENERATED, 1, &generated, 1);
    let of_one_prompt = steps(N_GENERATED, 1, &as_prompts, 1);
    let of_four = steps(N_GENERATED, 1, &generated, 4);
    let of_four_prompts = steps(N_GENERATED, 1, &as_prompts, 4);
    let whole = steps(1, N_PROMPT, &|executor, slot, _| prompt(executor, slot, 0, &tokens, greedy()), 1);
    [whole, of_one, of_four, of_one_prompt, of_four_prompts]
}
