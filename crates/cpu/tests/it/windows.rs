//! Layers with a window have the same bits whether they keep all positions or the latest alone.

use std::path::Path;
use std::sync::Arc;

use cpu::{CpuExecutor, Options};
use device::batch::{Output, Span, Want, WindowPages};
use device::{Executor, KvPages};
use model::architecture::Mixer;
use model::{KvType, Model};
use testkit::golden;
use testkit::steps::pages;

use crate::support::{greedy, last, prompt, run};

/// Tokens of the prompts: windows of 16 and 70 slide over pages of 32 several times.
const N_TOKEN: usize = 210;

/// A golden model whose windows are this wide, or as wide as they are.
fn load(path: &Path, width: Option<usize>) -> Arc<Model> {
    let gguf = gguf::Gguf::open(path).unwrap();
    let mut model = Model::load(&gguf).unwrap();
    for mixer in &mut model.architecture.mixers {
        if let Mixer::Attention(heads) = mixer {
            heads.window = heads.window.map(|own| width.unwrap_or(own));
        }
    }
    Arc::new(model)
}

/// For sequences of `n_ctx` tokens: where these are few, keeping windows alone would save nothing.
fn executor(
    model: &Arc<Model>,
    n_ctx: usize,
    n_slot: usize,
    (exact, kv_type): (bool, KvType),
) -> CpuExecutor {
    let n_row = n_ctx.min(512);
    let options = Options { threads: 2, exact, kv_type, n_ctx, n_slot, n_row, ..Options::default() };
    CpuExecutor::new(Arc::clone(model), &options).unwrap()
}

fn bits(outputs: Vec<Output>) -> Vec<u32> {
    let of = |output| match output {
        Output::Logits(logits) => logits,
        Output::Token(sampled) => vec![sampled.token as f32, sampled.logprob],
        Output::Tokens(_) | Output::Hidden(_) => panic!("nothing was guessed"),
    };
    outputs.into_iter().flat_map(of).map(f32::to_bits).collect()
}

/// The bits of a prompt's logits from position `start` on, in chunks of `size`, and of an answer; `change` has a word on each span.
fn computed(
    executor: &mut CpuExecutor,
    tokens: &[u32],
    (start, size): (usize, usize),
    (slot, change): (usize, &dyn Fn(Span) -> Span),
) -> Vec<u32> {
    let mut found = Vec::new();
    let mut at = start;
    for chunk in tokens[start..].chunks(size) {
        let span = Span {
            begin: (at == start).then(|| tokens.into()),
            ..prompt(executor, slot, at, chunk, Want::Logits)
        };
        found.extend(bits(run(executor, vec![change(span)])));
        at += chunk.len();
    }
    // The last token again, for a sampled one.
    let again = prompt(executor, slot, at - 1, &tokens[at - 1..], greedy());
    found.extend(bits(run(executor, vec![change(again)])));
    for position in at..at + 30 {
        let span = last(executor, slot, position, greedy());
        found.extend(bits(run(executor, vec![change(span)])));
    }
    found
}

fn tokens(n_vocab: usize) -> Vec<u32> {
    (0..N_TOKEN).map(|i| ((i * 104_729 + i * i * 31) % n_vocab) as u32).collect()
}

/// The models with windows, twice: as they are, and with wider ones.
fn models() -> Vec<(String, Arc<Model>, bool)> {
    let mut models = Vec::new();
    for golden in golden() {
        for width in [None, Some(70)] {
            let model = load(&golden.path, width);
            if model.architecture.widest_window().is_some() {
                let takes_q8 = golden.kv_types().contains(&KvType::Q8_0);
                models.push((format!("{} {width:?}", golden.name), model, takes_q8));
            }
        }
    }
    models
}

fn kinds(takes_q8: bool) -> Vec<(bool, KvType)> {
    let all = [(false, KvType::F16), (true, KvType::F16), (false, KvType::Q8_0)];
    all.into_iter().filter(|(_, kv_type)| takes_q8 || *kv_type == KvType::F16).collect()
}

#[test]
fn the_latest_positions_give_the_bits_of_all_positions() {
    let models = models();
    assert!(models.len() >= 12, "{}", models.len());
    for (name, model, takes_q8) in models {
        for kind in kinds(takes_q8) {
            let mut all = executor(&model, 288, 1, kind);
            assert_eq!(all.limits().window, None);
            let tokens = tokens(all.limits().n_vocab);
            let expected = computed(&mut all, &tokens, (0, 64), (0, &|span| span));
            let mut windowed = executor(&model, 4096, 1, kind);
            assert!(windowed.limits().window.is_some_and(|window| window.n_page < 32));
            // As few as spans of 64 tokens can do with, so that each is used for many others after it.
            let n_ring = windowed.limits().window.unwrap().n_behind(32) as u32 + 3;
            let ring = |span: Span| {
                let first = span.window.first;
                let ids =
                    (first..first + span.window.ids.len()).map(|number| number as u32 % n_ring).collect();
                Span { window: WindowPages { first, ids }, ..span }
            };
            let sizes: &[usize] = if kind.0 { &[64] } else { &[1, 7, 64] };
            for &size in sizes {
                let found = computed(&mut windowed, &tokens, (0, size), (0, &ring));
                assert!(found == expected, "{name} {kind:?} chunks of {size}");
            }
        }
    }
}

#[test]
fn a_hit_needs_the_windows_pages_before_it_alone() {
    for (name, model, _) in models() {
        let kind = (false, KvType::F16);
        let mut executor = executor(&model, 4096, 2, kind);
        let limits = executor.limits();
        let tokens = tokens(limits.n_vocab);
        let expected = computed(&mut executor, &tokens, (0, 64), (0, &|span| span));
        // What the first slot has after 5 pages is where the other begins; of the pages before that it gets the window's alone.
        let (n_page, window) = (5, limits.window.unwrap());
        for at in (0..n_page * 32).step_by(32) {
            let span = prompt(&executor, 0, at, &tokens[at..at + 32], Want::Nothing);
            let begin = (at == 0).then(|| tokens.as_slice().into());
            run(&mut executor, vec![Span { begin, ..span }]);
        }
        let [first, own] = [0, 1].map(|slot| pages(&executor, slot));
        let ids: Arc<[u32]> = first.iter().take(n_page).chain(own.iter().skip(n_page)).copied().collect();
        let change = |span: Span| {
            let page = |(i, &own): (usize, &u32)| {
                let number = span.window.first + i;
                assert!(number >= n_page - window.n_behind(32));
                let theirs = limits.own_window(0, number * 32..number * 32 + 1);
                if number < n_page { theirs.page(number) } else { own }
            };
            let ids_of_window = span.window.ids.iter().enumerate().map(page).collect();
            let window = WindowPages { first: span.window.first, ids: ids_of_window };
            Span { pages: Arc::clone(&ids), window, ..span }
        };
        let found = computed(&mut executor, &tokens, (n_page * 32, 9), (1, &change));
        assert!(expected.ends_with(&found), "{name}");
    }
}

#[test]
fn windows_take_a_small_part_of_the_bytes() {
    let golden = golden().into_iter().find(|golden| golden.name == "gemma3-q4_0").unwrap();
    let model = load(&golden.path, None);
    let options = Options { n_ctx: 32_768, ..Options::default() };
    let plan = options.plan(&model);
    let KvPages { n_page, window, .. } = plan.pages;
    // 16 pages of a step's rows, and 5 of a window that reaches one page back.
    assert_eq!((n_page, window.map(|window| window.n_page)), (1024, Some(21)));
    let per_page: Vec<(bool, u64)> = model
        .architecture
        .kv_layers()
        .map(|heads| (heads.window.is_some(), 2 * 2 * 32 * heads.n_kv() as u64))
        .collect();
    let bytes = |n_page: usize, of_window: bool| -> u64 {
        per_page.iter().filter(|(is, _)| *is == of_window).map(|(_, bytes)| bytes * n_page as u64).sum()
    };
    assert_eq!(plan.kv_cache, bytes(1024, false) + bytes(21, true));
    assert!(3 * plan.kv_cache < bytes(1024, false) + bytes(1024, true));
}
