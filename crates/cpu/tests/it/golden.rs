//! Logits and greedy continuations of every golden model.

use std::path::Path;

use cpu::Options;
use cpu::simd::isa::Isa;
use testkit::{Golden, golden, nmse};

use crate::support::{executor, executor_with, greedy, last, logits, prompt, run, token};

/// What the fast kernels may differ by: 1.3 times what llama.cpp's 8-bit activations give on the same files.
fn fast_bound(model: &Golden) -> f64 {
    match model.name.as_str() {
        _ if model.has_near_choices() => 3e-2,
        n if n.ends_with("f16") => 1.3e-6,
        n if n.ends_with("mxfp4_moe") => 1.3e-3,
        n if ["q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl"].iter().any(|f| n.ends_with(f)) => 9.1e-4,
        _ => 1.95e-3,
    }
}

#[test]
fn exact_logits_are_the_reference() {
    for model in golden() {
        for (tokens, expected) in &model.cases {
            let error = nmse(&logits(&model.path, true, tokens), expected);
            println!("{:24} exact {error:.2e}", model.name);
            assert!(error <= 1e-9, "{}: {error:e}", model.name);
        }
    }
}

#[test]
fn fast_logits_are_close_to_the_reference_on_every_instruction_set() {
    for model in golden() {
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            for (tokens, expected) in &model.cases {
                let options =
                    Options { threads: 2, n_ctx: tokens.len(), isa: Some(isa), ..Options::default() };
                let found = testkit::steps::logits(&mut executor_with(&model.path, &options), tokens);
                let error = nmse(&found, expected);
                println!("{:24} {} {error:.2e}", model.name, isa.name());
                assert!(error <= fast_bound(&model), "{} {isa}: {error:e}", model.name);
            }
        }
    }
}

/// Generated rows have 8-bit activations, whose rounding a delta rule adds up over the tokens. Of a mixture also another choice of experts.
fn bound_of_generated(model: &Golden) -> f64 {
    match model {
        model if model.name.ends_with("f16") => fast_bound(model),
        model if model.has_near_choices() => 6e-2,
        model if model.name.starts_with("qwen35-") => 6e-3,
        _ => 3e-3,
    }
}

#[test]
fn generated_rows_are_close_to_the_reference() {
    for model in golden() {
        for (tokens, expected) in &model.cases {
            let options = Options { threads: 2, n_ctx: tokens.len(), ..Options::default() };
            let found = testkit::steps::generated(&mut executor_with(&model.path, &options), tokens);
            let error = nmse(&found, expected);
            println!("{:24} generated {error:.2e}", model.name);
            assert!(error <= bound_of_generated(&model), "{}: {error:e}", model.name);
        }
    }
}

#[test]
fn exact_greedy_continuations_are_the_reference() {
    for model in golden() {
        let found = if model.name.contains("longrope") {
            recomputed(&model.path, &model.greedy_prompt, model.greedy.len())
        } else {
            decoded(&model.path, &model.greedy_prompt, model.greedy.len())
        };
        assert_eq!(found, model.greedy, "{}", model.name);
    }
}

fn decoded(path: &Path, tokens: &[u32], n: usize) -> Vec<u32> {
    let mut executor = executor(path, true, tokens.len() + n, 1);
    let span = prompt(&executor, 0, 0, tokens, greedy());
    let mut found = vec![token(&run(&mut executor, vec![span])[0])];
    while found.len() < n {
        let span = last(&executor, 0, tokens.len() + found.len() - 1, greedy());
        found.push(token(&run(&mut executor, vec![span])[0]));
    }
    found
}

/// The reference chooses LongRoPE's factors by the length so far, so this continuation crosses from the short to the long ones; an
/// executor chooses them once, by its context. Each token therefore gets an executor of just the length so far.
fn recomputed(path: &Path, tokens: &[u32], n: usize) -> Vec<u32> {
    let mut all = tokens.to_vec();
    while all.len() < tokens.len() + n {
        let mut executor = executor(path, true, all.len(), 1);
        let span = prompt(&executor, 0, 0, &all, greedy());
        all.push(token(&run(&mut executor, vec![span])[0]));
    }
    all.split_off(tokens.len())
}
