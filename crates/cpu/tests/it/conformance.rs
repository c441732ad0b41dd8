//! The fast kernels against the exact ones, stage by stage, on every instruction set that this machine runs.

use cpu::simd::isa::Isa;
use cpu::{CpuExecutor, Options};
use device::batch::Want;
use device::{Batch, Executor};
use model::KvType;
use model::stage::Stage;
use testkit::steps::logits;
use testkit::{golden, nmse};

use crate::support::{executor_with, last, prompt};

/// What a stage may differ by, its inputs having gone through all the stages before it. Attention is the most sensitive: it averages
/// values that largely cancel, so its output is small beside its error.
const BOUND: f64 = 5e-3;

type Trace = Vec<(Stage, usize, Vec<f32>)>;

/// What every stage of a prompt and of one more token after it leaves behind.
fn trace(executor: &mut CpuExecutor, tokens: &[u32]) -> Trace {
    let mut trace = Trace::new();
    let (head, tail) = tokens.split_at(tokens.len() - 1);
    let prompt = prompt(executor, 0, 0, head, Want::Logits);
    let mut generated = last(executor, 0, head.len(), Want::Logits);
    generated.input = device::Input::Tokens(tail.into());
    for span in [prompt, generated] {
        let batch = Batch { spans: vec![span] };
        let observe = &mut |stage, layer, values: &[f32]| trace.push((stage, layer, values.to_vec()));
        executor.run_observed(&batch, observe).expect("a step");
    }
    trace
}

#[test]
fn every_stage_agrees_on_every_instruction_set() {
    for model in golden().iter().filter(|m| !m.name.starts_with("llama-") || m.name == "llama-q4_k_m") {
        let tokens = &model.cases[0].0;
        let options = |kv_type, exact, isa| {
            let n_ctx = tokens.len();
            Options { threads: 2, exact, isa, n_ctx, kv_type, ..Options::default() }
        };
        let kinds = model.kv_types().into_iter().flat_map(|kv_type| Isa::ALL.map(|isa| (kv_type, isa)));
        let expected: Vec<_> = (model.kv_types().into_iter())
            .map(|kv| trace(&mut executor_with(&model.path, &options(kv, true, None)), tokens))
            .collect();
        for (kv_type, isa) in kinds {
            if !isa.is_available() {
                println!("skipped: this machine has no {isa}");
                continue;
            }
            let expected = &expected[kv_type as usize];
            let mut fast = executor_with(&model.path, &options(kv_type, false, Some(isa)));
            assert_eq!(fast.kernels(), isa.to_string());
            let found = trace(&mut fast, tokens);
            assert_eq!(found.len(), expected.len());
            let mut worst = 0f64;
            // A delta rule's outputs are normalised by head, small ones among them.
            let slack = if model.name.starts_with("qwen35") { 2.0 } else { 1.0 };
            for ((stage, layer, values), (_, _, reference)) in found.iter().zip(expected) {
                // Two experts whose router logits nearly tie may change places: their sum, FfnOut, is what must agree.
                if *stage == Stage::FfnIn && model.has_experts() {
                    continue;
                }
                // And one that is not among the chosen may become one: then all that follows is another answer.
                let bound = if model.has_near_choices() { 1e-1 } else { BOUND * slack };
                let error = nmse(values, reference);
                worst = worst.max(error);
                assert!(
                    error <= bound,
                    "{} {isa} {kv_type} {stage:?} of layer {layer}: {error:e}",
                    model.name
                );
            }
            println!("{:24} {isa} {kv_type}: worst stage {worst:.1e}", model.name);
        }
    }
}

#[test]
fn a_batch_outside_the_limits_is_refused_and_nothing_else_is_disturbed() {
    let model = &golden()[0];
    let options = Options { threads: 1, n_ctx: 64, n_slot: 2, n_row: 32, ..Options::default() };
    let mut executor = executor_with(&model.path, &options);
    let good = prompt(&executor, 0, 0, &[1, 2, 3], Want::Nothing);
    let n_vocab = executor.limits().n_vocab as u32;
    let mut bad = [(); 9].map(|()| good.clone());
    bad[0].slot = 2;
    bad[1].input = device::Input::Tokens([].into());
    bad[2].start = 62;
    bad[3].pages = [].into();
    bad[4].pages = [999, 1].into();
    bad[5].input = device::Input::Tokens([n_vocab].into());
    bad[6].input = device::Input::Tokens([1; 33].into());
    bad[7].begin = Some([n_vocab].into());
    bad[8].input = device::Input::Last;
    for (i, span) in bad.into_iter().enumerate() {
        let error = executor.submit(&Batch { spans: vec![span] }).expect_err("a refusal");
        assert!(matches!(error, device::ExecutorError::Batch { span: 0, .. }), "{i}: {error}");
    }
    let twice = Batch { spans: vec![good.clone(), good.clone()] };
    assert!(matches!(executor.submit(&twice), Err(device::ExecutorError::Batch { span: 1, .. })));
    let ticket = executor.submit(&Batch { spans: vec![good] }).expect("a good batch after the bad ones");
    assert!(executor.collect(ticket).expect("its results").is_empty());
    assert!(executor.collect(ticket).is_err(), "a ticket is good once");
    assert!(executor.collect(device::Ticket(u64::MAX)).is_err());
}

#[test]
fn a_cache_of_eight_bits_changes_little_and_something() {
    for model in golden().into_iter().filter(|model| model.kv_types().len() == KvType::ALL.len()) {
        let (tokens, reference) = &model.cases[0];
        let error = |kv_type, exact| {
            let options = Options { threads: 2, exact, n_ctx: tokens.len(), kv_type, ..Options::default() };
            nmse(&logits(&mut executor_with(&model.path, &options), tokens), reference)
        };
        for exact in [true, false] {
            let [half, eight] = KvType::ALL.map(|kv_type| error(kv_type, exact));
            println!("{:24} exact={exact} logits: f16 {half:.1e}, q8_0 {eight:.1e}", model.name);
            let most = if model.has_near_choices() { 3e-2 } else { 1e-3 };
            let is_more = eight > half || model.has_near_choices();
            assert!(is_more && eight < half + most, "{} exact={exact}: {half:e} {eight:e}", model.name);
        }
    }
}
