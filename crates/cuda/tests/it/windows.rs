//! Layers with a window have the same bits whether they keep all positions or the latest alone.

use cuda::{CudaExecutor, Options};
use device::Executor;
use device::batch::{Output, Span, Want};
use model::architecture::Mixer;
use model::{KvType, Model};
use testkit::steps::{greedy, last, prompt, run};
use testkit::{Golden, golden};

use crate::gpu::gpu;

/// Tokens of a prompt, and of an answer: windows of 16 and 70 slide over pages of 64 several times in either.
const N_TOKEN: usize = 700;
const N_ANSWER: usize = 200;

/// A golden model whose windows are this wide, or as wide as they are.
fn load(golden: &Golden, width: Option<usize>) -> Model {
    let gguf = gguf::Gguf::open(&golden.path).unwrap();
    let mut model = Model::load(&gguf).unwrap();
    for mixer in &mut model.architecture.mixers {
        if let Mixer::Attention(heads) = mixer {
            heads.window = heads.window.map(|own| width.unwrap_or(own));
        }
    }
    model
}

/// For two sequences of `n_ctx` tokens: where these are few, keeping windows alone would save nothing.
fn executor(model: &Model, (n_ctx, n_row): (usize, usize), kv_type: KvType) -> CudaExecutor {
    let options = Options { n_ctx, n_slot: 2, n_row, kv_type, ..Options::default() };
    CudaExecutor::new(model, &options, &mut |_, _| {}).unwrap()
}

fn bits(outputs: Vec<Output>) -> Vec<u32> {
    let of = |output| match output {
        Output::Logits(logits) => logits,
        Output::Token(sampled) => vec![sampled.token as f32, sampled.logprob],
        Output::Tokens(_) | Output::Hidden(_) => panic!("nothing was guessed"),
    };
    outputs.into_iter().flat_map(of).map(f32::to_bits).collect()
}

/// The bits of two prompts' logits, computed together in chunks of `size`, and of their answers.
fn computed(executor: &mut CudaExecutor, prompts: &[Vec<u32>; 2], size: usize) -> [Vec<u32>; 2] {
    let mut found = [Vec::new(), Vec::new()];
    let mut step = |executor: &mut CudaExecutor, span: &dyn Fn(&CudaExecutor, usize) -> Span| {
        let spans = (0..2).map(|slot| span(executor, slot)).collect();
        for (found, output) in found.iter_mut().zip(run(executor, spans)) {
            found.extend(bits(vec![output]));
        }
    };
    for at in (0..N_TOKEN).step_by(size) {
        let end = N_TOKEN.min(at + size);
        step(executor, &|executor, slot| prompt(executor, slot, at, &prompts[slot][at..end], Want::Logits));
    }
    // The last token again, for a sampled one.
    let at = N_TOKEN - 1;
    step(executor, &|executor, slot| prompt(executor, slot, at, &prompts[slot][at..], greedy()));
    for position in N_TOKEN..N_TOKEN + N_ANSWER {
        step(executor, &|executor, slot| last(executor, slot, position, greedy()));
    }
    found
}

/// Every golden model that a GPU runs, with its windows and with wider ones, and each type of cache.
fn kinds() -> impl Iterator<Item = (Golden, Option<usize>, KvType)> {
    golden().into_iter().flat_map(|golden| {
        let types = golden.kv_types().into_iter().flat_map(|kv_type| [(None, kv_type), (Some(70), kv_type)]);
        let kinds: Vec<_> = types.map(|(width, kv_type)| (golden.clone(), width, kv_type)).collect();
        kinds
    })
}

#[test]
fn the_latest_positions_give_the_bits_of_all_positions() {
    let Some(_gpu) = gpu() else { return };
    let mut n_model = 0;
    for (golden, width, kv_type) in kinds() {
        let model = load(&golden, width);
        if model.architecture.widest_window().is_none() {
            continue;
        }
        n_model += 1;
        let mut all = executor(&model, (960, 1400), kv_type);
        assert_eq!(all.limits().window, None);
        let n_vocab = all.limits().n_vocab;
        let id = |s: usize, i: usize| ((s * 7919 + i * 104_729 + i * i * 31) % n_vocab) as u32;
        let prompts = [0, 1].map(|s| (0..N_TOKEN).map(|i| id(s, i)).collect());
        let expected = computed(&mut all, &prompts, N_TOKEN);
        let mut windowed = executor(&model, (8192, 256), kv_type);
        assert!(windowed.limits().window.is_some_and(|window| window.n_page < 24));
        for size in [7, 64, 128] {
            let found = computed(&mut windowed, &prompts, size);
            assert!(found == expected, "{} {width:?} {kv_type} chunks of {size}", golden.name);
        }
        println!("{:24} {width:?} {kv_type} windows as all positions", golden.name);
    }
    assert!(n_model >= 8, "{n_model}");
}
