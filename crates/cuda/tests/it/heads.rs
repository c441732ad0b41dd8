//! Heads of every size and number: attention of prompts and of generated rows, and where they are normalised and turned.

use std::fmt;

use cuda::{Attending, CudaExecutor, Options};
use device::{Batch, Executor, Input, Output, Want};
use model::architecture::{Mixer, Pairing, Position};
use model::weights::MixerWeights;
use model::{KvType, Model};
use quant::Format;
use testkit::golden;
use testkit::steps::{last, prompt};

use crate::conformance::{agrees, exact, load};
use crate::gpu::gpu;
use crate::models::random;

/// What a layer's heads are.
#[derive(Clone, Copy)]
struct Shape {
    head_dim: usize,
    n_kv_head: usize,
    /// Query heads of a key head.
    group: usize,
    /// Values that turn, in halves or in adjacent pairs.
    n_rot: usize,
    adjacent: bool,
    /// Of every second layer.
    window: Option<usize>,
    sinks: bool,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shape { head_dim, n_kv_head, group, n_rot, adjacent, window, sinks } = self;
        write!(f, "{head_dim} values, {n_kv_head} x {group} heads, {n_rot} turn, ")?;
        write!(f, "adjacent {adjacent}, window {window:?}, sinks {sinks}")
    }
}

const PLAIN: Shape =
    Shape { head_dim: 64, n_kv_head: 2, group: 4, n_rot: 64, adjacent: false, window: None, sinks: false };

/// All sizes that have kernels; groups that fill blocks of eight query heads and that do not; windows that begin within blocks of keys.
const SHAPES: [Shape; 9] = [
    PLAIN,
    Shape { group: 7, sinks: true, ..PLAIN },
    Shape { head_dim: 32, group: 9, n_rot: 32, window: Some(100), ..PLAIN },
    Shape { group: 17, n_rot: 32, adjacent: true, window: Some(200), ..PLAIN },
    Shape { head_dim: 96, group: 3, n_rot: 96, window: Some(129), ..PLAIN },
    Shape { head_dim: 128, group: 5, n_rot: 64, sinks: true, window: Some(64), ..PLAIN },
    Shape { head_dim: 128, n_kv_head: 1, group: 8, n_rot: 128, adjacent: true, ..PLAIN },
    Shape { head_dim: 192, group: 2, n_rot: 192, window: Some(70), ..PLAIN },
    Shape { head_dim: 256, n_kv_head: 1, group: 6, n_rot: 64, sinks: true, ..PLAIN },
];

/// A model whose queries and keys are normalised by head, with heads of this shape; all heads different.
fn shaped(model: &Model, shape: Shape) -> Model {
    let mut model = model.clone();
    let arch = &mut model.architecture;
    let n_embd = arch.n_embd;
    arch.attention.sinks = shape.sinks;
    arch.attention.scale = (shape.head_dim as f32).sqrt().recip();
    let Position::Rope(ropes) = &mut arch.position else { panic!("a model with RoPE") };
    for rope in &mut ropes.kinds {
        rope.n_rot = shape.n_rot;
        rope.pairing = if shape.adjacent { Pairing::Adjacent } else { Pairing::HalfSplit };
    }
    for (i, (mixer, layer)) in arch.mixers.iter_mut().zip(&mut model.weights.layers).enumerate() {
        let (Mixer::Attention(heads), MixerWeights::Attention(weights)) = (mixer, &mut layer.mixer) else {
            panic!("attention");
        };
        heads.head_dim = shape.head_dim;
        heads.n_kv_head = shape.n_kv_head;
        heads.n_head = shape.group * shape.n_kv_head;
        heads.window = shape.window.filter(|_| i % 2 == 1);
        let maps = [(&mut weights.q, heads.n_q())].into_iter();
        let own = [&mut weights.k, &mut weights.v].into_iter().flatten().map(|map| (map, heads.n_kv()));
        for (map, n) in maps.chain(own) {
            map.weight = random(&map.weight.name, Format::F16, [n, n_embd]);
        }
        weights.output.weight = random(&weights.output.weight.name, Format::F16, [n_embd, heads.n_q()]);
        let norm =
            |first: usize| (0..shape.head_dim).map(|j| 0.5 + ((first + j) % 5) as f32 * 0.25).collect();
        (weights.q_norm, weights.k_norm) = (Some(norm(i)), Some(norm(i + 2)));
        weights.sinks =
            shape.sinks.then(|| (0..heads.n_head).map(|head| (head % 7) as f32 * 0.5 - 1.0).collect());
    }
    model
}

/// Logits of `n_answer` tokens after a prompt, each computed as a generated row, with somebody watching or not.
fn answered(executor: &mut CudaExecutor, (tokens, n_prompt): (&[u32], usize), is_watched: bool) -> Vec<u32> {
    let mut all = Vec::new();
    for at in n_prompt - 1..tokens.len() {
        let span = if at + 1 == n_prompt {
            prompt(executor, 0, 0, &tokens[..n_prompt], Want::Nothing)
        } else {
            let span = last(executor, 0, at, Want::Logits);
            device::Span { input: Input::Tokens(tokens[at..=at].into()), ..span }
        };
        let batch = Batch { spans: vec![span] };
        let picked = if is_watched {
            executor.run_observed(&batch, &mut |_, _, _| {}).expect("a step")
        } else {
            let ticket = executor.submit(&batch).expect("a step");
            executor.collect(ticket).expect("its results")
        };
        for picked in picked {
            let Output::Logits(logits) = picked.output else { panic!("logits") };
            all.extend(logits.into_iter().map(f32::to_bits));
        }
    }
    all
}

/// Logits of a prompt that is cut.
fn cut(executor: &mut CudaExecutor, tokens: &[u32], size: usize) -> Vec<u32> {
    let mut all = Vec::new();
    for (i, part) in tokens.chunks(size).enumerate() {
        let batch = Batch { spans: vec![prompt(executor, 0, i * size, part, Want::Logits)] };
        let ticket = executor.submit(&batch).expect("a step");
        for picked in executor.collect(ticket).expect("its results") {
            let Output::Logits(logits) = picked.output else { panic!("logits") };
            all.extend(logits.into_iter().map(f32::to_bits));
        }
    }
    all
}

/// From 257 and from 513 positions on, a generated row's attention is cut.
const N_TOKEN: usize = 540;

#[test]
fn heads_of_every_size_agree_with_the_exact_executor_however_they_are_placed_and_cut() {
    let Some(_gpu) = gpu() else { return };
    let golden = golden().into_iter().find(|model| model.name == "qwen3-q4_0").expect("a golden model");
    let plain = load(&golden.path);
    let tokens: Vec<u32> = golden.cases[1].0.iter().cycle().take(N_TOKEN).copied().collect();
    for shape in SHAPES {
        let model = shaped(&plain, shape);
        let options = Options { n_ctx: N_TOKEN, n_row: N_TOKEN, ..Options::default() };
        let mut executor = CudaExecutor::new(&model, &options, &mut |_, _| {}).expect("an executor");

        let expected = exact(&model, &tokens, KvType::F16);
        agrees(&mut executor, &tokens, (&expected, &shape.to_string()));

        // Attention places the heads of a step that nobody watches, a kernel before it those of one that somebody does.
        for n_prompt in [240, 500] {
            let text = (&tokens[..n_prompt + 40], n_prompt);
            let [placed, before] = [false, true].map(|is_watched| answered(&mut executor, text, is_watched));
            assert!(placed == before, "{shape}: answers after {n_prompt} tokens");
        }

        let whole = cut(&mut executor, &tokens, N_TOKEN);
        for size in [7, 64, 130] {
            assert!(whole == cut(&mut executor, &tokens, size), "{shape}: in parts of {size}");
        }
        drop(executor);
        for attending in [Attending::Narrow, Attending::Wide] {
            let options = Options { attending, ..options.clone() };
            let mut executor = CudaExecutor::new(&model, &options, &mut |_, _| {}).expect("an executor");
            for size in [N_TOKEN, 130] {
                let found = cut(&mut executor, &tokens, size);
                assert!(whole == found, "{shape}: {attending:?}, in parts of {size}");
            }
            let names = executor.loaded_kernels();
            let is_loaded = |part: &str| names.iter().any(|name| name.starts_with(part));
            // Elsewhere than on Hopper, and for small heads, there is one kernel.
            if is_loaded("attend_prompt_wgmma") {
                let is_narrow = is_loaded("attend_prompt_wgmma_few");
                assert_eq!(is_narrow, attending == Attending::Narrow, "{shape}: {names:?}");
            }
        }
        println!("{shape}");
    }
}
