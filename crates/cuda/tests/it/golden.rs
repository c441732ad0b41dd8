//! Logits of every golden model, by the prompt's kernels and by those of generated rows.

use testkit::steps::{generated, greedy, last, logits, prompt, run, token};
use testkit::{Golden, golden, nmse};

use crate::gpu::gpu;
use crate::models::executor;

/// What the arithmetic may differ by from the reference's float32: 16-bit floats in prompts; in generated rows 8-bit activations, but on Hopper and of
/// weights of 16 bits. Of a mixture what llama.cpp's 8-bit activations give on such files, where they choose another expert.
pub(crate) fn bound(model: &Golden) -> f64 {
    match model {
        model if model.name.ends_with("f16") => 5e-6,
        model if model.has_near_choices() => 8e-2,
        // A delta rule adds up what rounding does to each token, and its outputs are normalised by head.
        model if model.name.starts_with("qwen35-") => 1e-2,
        _ => 3e-3,
    }
}

#[test]
fn prompts_are_close_to_the_reference() {
    let Some(_gpu) = gpu() else { return };
    for model in golden() {
        for (tokens, expected) in &model.cases {
            let error = nmse(&logits(&mut executor(&model.path, tokens.len(), 1), tokens), expected);
            println!("{:24} prompt {error:.2e}", model.name);
            assert!(error <= bound(&model), "{}: {error:e}", model.name);
        }
    }
}

/// Likewise of generated rows, which Hopper computes in float16. There only another choice of experts makes more of a difference.
fn bound_of_generated(model: &Golden, is_hopper: bool) -> f64 {
    match model {
        model if !is_hopper => bound(model),
        model if model.has_near_choices() => 1e-2,
        model => bound(model).min(1e-5),
    }
}

#[test]
fn generated_rows_are_close_to_the_reference() {
    let Some(gpu) = gpu() else { return };
    let is_hopper = gpu.device.compute_capability() == (9, 0);
    for model in golden() {
        for (tokens, expected) in &model.cases {
            let error = nmse(&generated(&mut executor(&model.path, tokens.len(), 1), tokens), expected);
            println!("{:24} generated {error:.2e}", model.name);
            assert!(error <= bound_of_generated(&model, is_hopper), "{}: {error:e}", model.name);
        }
    }
}

#[test]
fn greedy_continuations_begin_like_the_reference() {
    let Some(_gpu) = gpu() else { return };
    // The reference changes LongRoPE's factors as the sequence grows; an executor chooses them once, by its context.
    for model in golden().into_iter().filter(|model| !model.name.contains("longrope")) {
        let (tokens, n) = (&model.greedy_prompt, model.greedy.len());
        let mut executor = executor(&model.path, tokens.len() + n, 1);
        let span = prompt(&executor, 0, 0, tokens, greedy());
        let mut found = vec![token(&run(&mut executor, vec![span])[0])];
        while found.len() < n {
            let span = last(&executor, 0, tokens.len() + found.len() - 1, greedy());
            found.push(token(&run(&mut executor, vec![span])[0]));
        }
        let same = found.iter().zip(&model.greedy).take_while(|(a, b)| a == b).count();
        println!("{:24} {same} of {n} ids as the reference", model.name);
        // Random models are flat: rounding turns a near tie soon, and another choice of experts at once. The first ids must agree.
        let least = if model.has_near_choices() { 1 } else { 2 };
        assert!(same >= least, "{}: {found:?} for {:?}", model.name, model.greedy);
    }
}
