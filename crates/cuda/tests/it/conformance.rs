//! The GPU against the exact executor, stage by stage, for every architecture and format, for prompts and for generated rows.

use std::sync::Arc;

use cpu::CpuExecutor;
use cuda::CudaExecutor;
use device::batch::Want;
use device::{Batch, Executor};
use model::architecture::{FeedForwardKind, Gating, Groups, Router};
use model::stage::Stage;
use model::weights::{Experts, Ffn, Linear, Matrix};
use model::{KvType, Model};
use quant::Format;
use testkit::steps::{last, prompt};
use testkit::{golden, nmse};

use crate::gpu::gpu;
use crate::models::executor_with;

/// What a stage may differ by, its inputs having gone through all the stages before it. Attention is the most sensitive: it averages
/// values that largely cancel, so its output is small beside its error.
const BOUND: f64 = 5e-3;

pub(crate) type Trace = Vec<(Stage, usize, Vec<f32>)>;

/// A prompt, and one more token after it.
fn batches(executor: &dyn Executor, tokens: &[u32]) -> [Batch; 2] {
    let (head, tail) = tokens.split_at(tokens.len() - 1);
    let prompt = prompt(executor, 0, 0, head, Want::Logits);
    let mut generated = last(executor, 0, head.len(), Want::Logits);
    generated.input = device::Input::Tokens(tail.into());
    [Batch { spans: vec![prompt] }, Batch { spans: vec![generated] }]
}

pub(crate) fn load(path: &std::path::Path) -> Model {
    let gguf = gguf::Gguf::open(path).expect("a golden model");
    Model::load(&gguf).expect("a golden model")
}

pub(crate) fn exact(model: &Model, tokens: &[u32], kv_type: KvType) -> Trace {
    let model = Arc::new(model.clone());
    let (n_ctx, n_row) = (tokens.len(), tokens.len());
    let options = cpu::Options { exact: true, n_ctx, n_row, kv_type, ..cpu::Options::default() };
    let mut executor = CpuExecutor::new(model, &options).expect("an executor");
    let mut trace = Trace::new();
    for batch in batches(&executor, tokens) {
        let observe = &mut |stage, layer, values: &[f32]| trace.push((stage, layer, values.to_vec()));
        executor.run_observed(&batch, observe).expect("a step");
    }
    trace
}

/// Holds every stage of a prompt and of the row after it against the exact executor's.
pub(crate) fn agrees(executor: &mut CudaExecutor, tokens: &[u32], (expected, name): (&Trace, &str)) {
    let mut found = Trace::new();
    for batch in batches(executor, tokens) {
        let mut watch = |stage, layer, values: &[f32]| found.push((stage, layer, values.to_vec()));
        executor.run_observed(&batch, &mut watch).expect("a step");
    }
    assert_eq!(found.len(), expected.len(), "{name}");
    for ((stage, layer, values), (_, _, reference)) in found.iter().zip(expected) {
        let error = nmse(values, reference);
        assert!(error <= BOUND, "{name}: {stage:?} of layer {layer}: {error:e}");
    }
}

#[test]
fn every_stage_agrees_with_the_exact_executor() {
    let Some(_gpu) = gpu() else { return };
    let mut failures = Vec::new();
    for (model, kv_type) in
        golden().iter().flat_map(|model| model.kv_types().into_iter().map(move |kv_type| (model, kv_type)))
    {
        let tokens = &model.cases[0].0;
        let expected = exact(&load(&model.path), tokens, kv_type);
        let options = cuda::Options { n_ctx: tokens.len(), n_row: 512, kv_type, ..cuda::Options::default() };
        let mut executor = executor_with(&model.path, &options);
        let mut found = Trace::new();
        for batch in batches(&executor, tokens) {
            let mut watch = |stage, layer, values: &[f32]| found.push((stage, layer, values.to_vec()));
            executor.run_observed(&batch, &mut watch).expect("a step");
        }
        assert_eq!(found.len(), expected.len(), "{}", model.name);
        let mut worst = 0f64;
        for (i, ((stage, layer, values), (_, _, reference))) in found.iter().zip(&expected).enumerate() {
            // Two experts whose router logits nearly tie may change places: their sum, FfnOut, is what must agree.
            if *stage == Stage::FfnIn && model.has_experts() {
                continue;
            }
            let error = nmse(values, reference);
            worst = worst.max(error);
            // One that is not among the chosen may become one: then all that follows is another answer.
            let bound = match model.name.starts_with("qwen35") {
                _ if model.has_near_choices() => 1e-1,
                // A delta rule's outputs are normalised by head, small ones among them.
                true => 2.0 * BOUND,
                false => BOUND,
            };
            if error > bound || error.is_nan() {
                let role = if i < expected.len() / 2 { "prompt" } else { "generated" };
                failures
                    .push(format!("{} {kv_type} {role} {stage:?} of layer {layer}: {error:e}", model.name));
            }
        }
        println!("{:24} {kv_type} worst stage {worst:.1e}", model.name);
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn long_rows_agree_with_the_exact_executor() {
    let Some(_gpu) = gpu() else { return };
    // Attention by rows cuts what is longer than 512 positions.
    let is_one = |model: &&testkit::Golden| {
        ["gemma2-q4_0", "gemma3-q4_0", "gemma4-q4_0", "deepseek2-plain-q4_0", "deepseek2-v3-yarn-q8_0"]
            .contains(&model.name.as_str())
    };
    // Of a mixture what comes before the first choice of experts, which its second layer has.
    let is_before_choices = |stage: Stage, layer: usize| {
        layer == 0 || (layer == 1 && matches!(stage, Stage::Qkv | Stage::Attend | Stage::AttnOut))
    };
    for (model, kv_type) in golden()
        .iter()
        .filter(is_one)
        .flat_map(|model| model.kv_types().into_iter().map(move |kv_type| (model, kv_type)))
    {
        let tokens: Vec<u32> = model.cases[1].0.iter().cycle().take(700).copied().collect();
        let expected = exact(&load(&model.path), &tokens, kv_type);
        let options = cuda::Options { n_ctx: tokens.len(), n_row: 1024, kv_type, ..cuda::Options::default() };
        let mut executor = executor_with(&model.path, &options);
        let mut found = Trace::new();
        for batch in batches(&executor, &tokens) {
            let mut watch = |stage, layer, values: &[f32]| found.push((stage, layer, values.to_vec()));
            executor.run_observed(&batch, &mut watch).expect("a step");
        }
        let pairs = found.iter().zip(&expected).filter(|((stage, layer, _), _)| {
            !model.has_near_choices() || (*stage != Stage::Head && is_before_choices(*stage, *layer))
        });
        let errors = pairs.map(|(found, expected)| nmse(&found.2, &expected.2));
        let worst = errors.fold(0f64, |worst, error| if error.is_nan() { error } else { worst.max(error) });
        println!("{:24} {kv_type} worst stage at {} positions {worst:.1e}", model.name, tokens.len());
        assert!(worst <= BOUND && found.len() == expected.len(), "{} {kv_type}: {worst:e}", model.name);
    }
}

#[test]
fn routers_of_every_kind_agree_with_the_exact_executor() {
    let Some(_gpu) = gpu() else { return };
    let golden = golden().into_iter().find(|model| model.name == "glm4moe-q4_0");
    let golden = golden.expect("a golden model");
    // Of its 8 experts a row uses 3: of groups of one, two of which are kept, the third is any.
    let groups = |n_group, n_used| Some(Groups { n_group, n_used });
    for gating in [Gating::Softmax, Gating::Sigmoid, Gating::SoftmaxOfChosen] {
        for (groups, is_normalised, has_choice_bias) in [
            (None, false, true),
            (None, true, false),
            (groups(4, 2), true, true),
            (groups(2, 1), false, false),
            (groups(8, 2), true, false),
        ] {
            let router = Router { gating, has_choice_bias, groups, is_normalised, scale: 0.7 };
            let mut model = load(&golden.path);
            for (feed_forward, layer) in
                model.architecture.feed_forward.iter_mut().zip(&mut model.weights.layers)
            {
                let (FeedForwardKind::Experts(mixture), Ffn::Experts(experts)) =
                    (&mut feed_forward.kind, &mut layer.ffn)
                else {
                    continue;
                };
                mixture.router = router;
                experts.scale = Some((0..mixture.n_expert).map(|e| 0.5 + 0.1 * e as f32).collect());
                experts.choice_bias = experts.choice_bias.take().filter(|_| has_choice_bias);
            }
            first_mixture_agrees(&model, &golden.cases[0].0, &format!("{router:?}"));
        }
    }
}

#[test]
fn as_many_experts_as_a_gpu_takes_agree_with_the_exact_executor() {
    let Some(_gpu) = gpu() else { return };
    let golden = golden().into_iter().find(|model| model.name == "glm4moe-q4_0");
    let golden = golden.expect("a golden model");
    for (n_expert, n_used, gating) in
        [(384, 8, Gating::Sigmoid), (512, 10, Gating::Softmax), (512, 16, Gating::SoftmaxOfChosen)]
    {
        let router = Router { gating, has_choice_bias: true, groups: None, is_normalised: true, scale: 1.0 };
        let mut model = load(&golden.path);
        for (feed_forward, layer) in model.architecture.feed_forward.iter_mut().zip(&mut model.weights.layers)
        {
            let (FeedForwardKind::Experts(mixture), Ffn::Experts(experts)) =
                (&mut feed_forward.kind, &mut layer.ffn)
            else {
                continue;
            };
            multiply_experts(experts, n_expert);
            (mixture.n_expert, mixture.n_used, mixture.router) = (n_expert, n_used, router);
        }
        first_mixture_agrees(&model, &golden.cases[0].0, &format!("{n_used} of {n_expert}, {gating:?}"));
    }
}

/// Makes `n_expert` experts of a few: the same matrices over and over, each with another router's row, bias and factor.
fn multiply_experts(experts: &mut Experts, n_expert: usize) {
    let few = experts.gate.len();
    let old = &experts.router.weight;
    assert_eq!(old.format, Format::F32, "a router in float32");
    let row = |e: usize| {
        let stretch = 1.0 + e as f32 / n_expert as f32;
        let values = old.row_range(e % few..e % few + 1).chunks_exact(4);
        values.flat_map(move |bytes| {
            (f32::from_le_bytes(bytes.try_into().expect("4 bytes")) * stretch).to_le_bytes()
        })
    };
    let bytes: Vec<u8> = (0..n_expert).flat_map(row).collect();
    let weight = Matrix::new(&old.name, Format::F32, [n_expert, old.n_cols], bytes.into());
    experts.router = Linear { weight: weight.expect("rows of the old width"), bias: None };
    for matrices in [&mut experts.gate, &mut experts.up, &mut experts.down] {
        *matrices = (0..n_expert).map(|e| matrices[e % few].clone()).collect();
    }
    experts.choice_bias = Some((0..n_expert).map(|e| (e * 37 % n_expert) as f32 / n_expert as f32).collect());
    experts.scale = Some((0..n_expert).map(|e| 0.5 + (e % 11) as f32 * 0.1).collect());
}

/// Holds what the first mixture adds, before rounded activations choose other experts further on. Here a row or two may be so near; a wrong rule
/// is wrong for many.
fn first_mixture_agrees(model: &Model, tokens: &[u32], what: &str) {
    let expected = exact(model, tokens, KvType::F16);
    let options = cuda::Options { n_ctx: tokens.len(), n_row: 512, ..cuda::Options::default() };
    let mut executor = CudaExecutor::new(model, &options, &mut |_, _| {}).expect("an executor");
    let mut found = Trace::new();
    for batch in batches(&executor, tokens) {
        let mut watch = |stage, layer, values: &[f32]| found.push((stage, layer, values.to_vec()));
        executor.run_observed(&batch, &mut watch).expect("a step");
    }
    let is_first = |(stage, layer, _): &(Stage, usize, Vec<f32>)| *stage == Stage::FfnOut && *layer == 1;
    let pairs = found.iter().zip(&expected).filter(|(found, _)| is_first(found));
    let errors: Vec<f64> = pairs.map(|(found, expected)| nmse(&found.2, &expected.2)).collect();
    println!("{what} {errors:?}");
    assert!(errors.len() == 2 && errors[0] <= 1e-2 && errors[1] <= 1e-2, "{what} {errors:?}");
}
