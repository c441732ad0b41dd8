//! A row's bits depend on its own sequence and position: not on its neighbours, nor on how its prompt was cut.

use std::sync::Arc;

use cuda::{CudaExecutor, Options};
use device::Executor;
use device::batch::{Input, Output, Span, Want};
use model::KvType;
use testkit::steps::{greedy, last, pages, prompt, run};
use testkit::{Golden, golden};

use crate::gpu::gpu;
use crate::models::{executor_with, with_wide_layers};

/// Sequences together, tokens generated from each, and positions of each.
const N_SEQUENCE: usize = 32;
const N_GENERATED: usize = 5;
const N_CTX: usize = 128;

/// Every golden model with a cache of float16; one of each family and format of attention with each other type as well.
pub(crate) fn kinds() -> impl Iterator<Item = (Golden, KvType)> {
    golden().into_iter().flat_map(|model| {
        let is_one = !model.name.starts_with("llama-") || model.name == "llama-q4_0";
        let types = if is_one { model.kv_types() } else { vec![KvType::F16] };
        types.into_iter().map(move |kv_type| (model.clone(), kv_type))
    })
}

fn prompts(n_vocab: usize) -> Vec<Vec<u32>> {
    let id = |s: usize, i: usize| ((s * 7919 + i * 104_729 + i * i * 31) % n_vocab) as u32;
    (0..N_SEQUENCE).map(|s| (0..3 + 7 * s / 2).map(|i| id(s, i)).collect()).collect()
}

/// A token with the bits of its log probability: a fingerprint of the whole row of logits.
fn fingerprint(output: &Output) -> (u32, u32) {
    match output {
        Output::Token(sampled) => (sampled.token, sampled.logprob.to_bits()),
        other => panic!("expected a token, found {other:?}"),
    }
}

fn span(executor: &CudaExecutor, slot: usize, tokens: &[u32], n_generated: usize) -> Span {
    match n_generated {
        0 => prompt(executor, slot, 0, tokens, greedy()),
        n => last(executor, slot, tokens.len() + n - 1, greedy()),
    }
}

#[test]
fn thirty_two_sequences_together_are_each_as_alone() {
    let Some(_gpu) = gpu() else { return };
    for (model, kv_type) in kinds() {
        let options = Options { n_ctx: N_CTX, n_slot: N_SEQUENCE, n_row: 512, kv_type, ..Options::default() };
        let mut shared = executor_with(&model.path, &options);
        let prompts = prompts(shared.limits().n_vocab);
        let mut together: Vec<Vec<(u32, u32)>> = vec![Vec::new(); N_SEQUENCE];
        // Sequences s joins at step s / 3, so that steps mix prompts and generated rows, and their number varies.
        for step in 0..N_SEQUENCE / 3 + N_GENERATED + 1 {
            let joined = (3 * (step + 1)).min(N_SEQUENCE);
            let running: Vec<usize> = (0..joined).filter(|&s| together[s].len() < N_GENERATED).collect();
            let spans = running.iter().map(|&s| span(&shared, s, &prompts[s], together[s].len())).collect();
            for (s, output) in running.iter().zip(run(&mut shared, spans)) {
                together[*s].push(fingerprint(&output));
            }
        }
        let mut single = executor_with(&model.path, &Options { n_slot: 1, ..options });
        for (s, tokens) in prompts.iter().enumerate() {
            let mut alone = Vec::new();
            for n in 0..N_GENERATED {
                let span = span(&single, 0, tokens, n);
                alone.push(fingerprint(&run(&mut single, vec![span])[0]));
            }
            assert_eq!(together[s], alone, "{} sequence {s}", model.name);
        }
        println!("{:24} {kv_type} 32 together as alone", model.name);
    }
}

/// The bits of all logits of a prompt computed in chunks of `size`.
fn chunked(executor: &mut CudaExecutor, tokens: &[u32], size: usize) -> Vec<u32> {
    let mut bits = Vec::new();
    for (i, chunk) in tokens.chunks(size).enumerate() {
        let span = prompt(executor, 0, i * size, chunk, Want::Logits);
        for output in run(executor, vec![span]) {
            let Output::Logits(logits) = output else { panic!("expected logits") };
            bits.extend(logits.iter().map(|l| l.to_bits()));
        }
    }
    bits
}

#[test]
fn a_prompt_cut_into_chunks_gives_the_same_bits() {
    let Some(_gpu) = gpu() else { return };
    for (model, kv_type) in kinds() {
        // Long enough for several pages and tiles.
        let tokens: Vec<u32> = model.cases.iter().flat_map(|(tokens, _)| tokens).copied().collect();
        let tokens: Vec<u32> = tokens.iter().cycle().take(700).copied().collect();
        let options = Options { n_ctx: 1024, n_slot: 1, n_row: 1024, kv_type, ..Options::default() };
        let mut executor = executor_with(&model.path, &options);
        if executor.limits().n_ctx < tokens.len() {
            println!("{:24} skipped: made for {} positions", model.name, executor.limits().n_ctx);
            continue;
        }
        let whole = chunked(&mut executor, &tokens, tokens.len());
        for size in [7, 64, 512] {
            let cut = chunked(&mut executor, &tokens, size);
            assert!(whole == cut, "{} chunks of {size}", model.name);
        }
        println!("{:24} {kv_type} whole as in chunks of 7, 64 and 512", model.name);
    }
}

#[test]
fn a_long_row_beside_a_longer_one_is_as_alone() {
    let Some(_gpu) = gpu() else { return };
    for (model, kv_type) in kinds().filter(|(model, _)| !model.name.starts_with("gpt2")) {
        let options = Options { n_ctx: 2048, n_slot: 2, n_row: 1024, kv_type, ..Options::default() };
        let mut executor = executor_with(&model.path, &options);
        if executor.limits().n_snapshot.is_some() {
            // Its rows cannot be computed again, nor begin anywhere.
            continue;
        }
        let tokens: Vec<u32> = model.cases[1].0.iter().cycle().take(700).copied().collect();
        let span = prompt(&executor, 0, 0, &tokens, Want::Nothing);
        run(&mut executor, vec![span]);
        let next = |slot: usize, start: usize| Span {
            input: Input::Tokens([7].into()),
            ..last(&executor, slot, start, greedy())
        };
        let (row, longer) = (next(0, tokens.len()), next(1, 2000));
        let alone = fingerprint(&run(&mut executor, vec![row.clone()])[0]);
        let beside = fingerprint(&run(&mut executor, vec![longer, row])[1]);
        assert_eq!(alone, beside, "{} {kv_type}", model.name);
    }
}

#[test]
fn a_prompt_of_wide_layers_cut_into_chunks_gives_the_same_bits() {
    let Some(_gpu) = gpu() else { return };
    let Some(golden) = golden().into_iter().find(|model| model.name == "llama-q4_k_m") else { return };
    // Gate and up fill a slab of few rows, and more than one of many, each of which is unpacked while the product before runs.
    let model = with_wide_layers(&golden.path, 49_152);
    let tokens: Vec<u32> = golden.cases.iter().flat_map(|(tokens, _)| tokens).copied().collect();
    let tokens: Vec<u32> = tokens.iter().cycle().take(1500).copied().collect();
    let options = Options { n_ctx: 1536, n_slot: 1, n_row: 1536, ..Options::default() };
    let mut executor = CudaExecutor::new(&model, &options, &mut |_, _| {}).expect("an executor");
    let whole = chunked(&mut executor, &tokens, tokens.len());
    for size in [64, 300, 1024, 1500, 100] {
        let cut = chunked(&mut executor, &tokens, size);
        assert!(whole == cut, "chunks of {size}");
    }
}

#[test]
fn a_row_among_many_of_a_product_that_blocks_share_is_as_alone() {
    let Some(_gpu) = gpu() else { return };
    for golden in
        golden().into_iter().filter(|model| ["llama-q4_k_m", "llama-q8_0"].contains(&model.name.as_str()))
    {
        // On 132 multiprocessors gate and up are 224 blocks that hand each other their sums; up to 32 columns, and more.
        let n_ff = 1792;
        let model = with_wide_layers(&golden.path, n_ff);
        let options = Options { n_ctx: N_CTX, n_slot: 64, n_row: 512, ..Options::default() };
        let mut executor = CudaExecutor::new(&model, &options, &mut |_, _| {}).expect("an executor");
        let prompts = prompts(executor.limits().n_vocab);
        let tokens = |s: usize| &prompts[s % N_SEQUENCE][..prompts[s % N_SEQUENCE].len() - s / N_SEQUENCE];
        for s in 0..64 {
            let span = prompt(&executor, s, 0, tokens(s), Want::Nothing);
            run(&mut executor, vec![span]);
        }
        // The same row of each again and again.
        let next = |executor: &CudaExecutor, s: usize| Span {
            input: Input::Tokens([7].into()),
            ..last(executor, s, tokens(s).len(), greedy())
        };
        let alone: Vec<_> = (0..64)
            .map(|s| {
                let span = next(&executor, s);
                fingerprint(&run(&mut executor, vec![span])[0])
            })
            .collect();
        for n in [64, 12, 33, 24, 64, 40, 9] {
            let spans = (0..n).map(|s| next(&executor, s)).collect();
            let found: Vec<_> = run(&mut executor, spans).iter().map(fingerprint).collect();
            assert!(found == alone[..n], "{}: {n} together", golden.name);
        }
        println!("{:24} 64 together as alone, {n_ff} wide", golden.name);
    }
}

/// What a sequence in slot 1 gives whose prompt's first `n_page` pages slot 0 computed, and the state after them: the bits of the logits of the
/// rest, in chunks of `size`, and an answer.
fn after_a_hit(
    executor: &mut CudaExecutor,
    tokens: &[u32],
    [n_page, size]: [usize; 2],
) -> (Vec<u32>, Vec<(u32, u32)>) {
    let start = n_page * executor.limits().page_size;
    let snapshot = executor.limits().n_snapshot.map(|_| 1);
    let (theirs, own) = (pages(executor, 0), pages(executor, 1));
    let shared: Arc<[u32]> = theirs.iter().take(n_page).chain(own.iter().skip(n_page)).copied().collect();
    if n_page > 0 {
        // The other's prompt goes on with other tokens.
        let first = prompt(executor, 0, 0, &tokens[..start], Want::Nothing);
        let rest = prompt(executor, 0, start, &[1, 2, 3], greedy());
        for span in [Span { save: snapshot, ..first }, rest] {
            run(executor, vec![span]);
        }
    }
    let load = snapshot.filter(|_| n_page > 0);
    let (mut bits, mut answer) = (Vec::new(), Vec::new());
    // Once for the logits, once for an answer: the second begins the slot anew, on the same pages.
    for wants_logits in [true, false] {
        for (i, chunk) in tokens[start..].chunks(size).enumerate() {
            let at = start + i * size;
            let is_last = at + chunk.len() == tokens.len();
            let want = match wants_logits {
                true => Want::Logits,
                false if is_last => greedy(),
                false => Want::Nothing,
            };
            let span = Span { pages: Arc::clone(&shared), ..prompt(executor, 1, at, chunk, want) };
            let begin = (i == 0).then(|| tokens.into());
            for output in run(executor, vec![Span { begin, load: load.filter(|_| i == 0), ..span }]) {
                match output {
                    Output::Logits(logits) => bits.extend(logits.iter().map(|l| l.to_bits())),
                    output => answer.push(fingerprint(&output)),
                }
            }
        }
    }
    for n in 0..N_GENERATED {
        let span = last(executor, 1, tokens.len() + n, greedy());
        answer.push(fingerprint(&run(executor, vec![Span { pages: Arc::clone(&shared), ..span }])[0]));
    }
    (bits, answer)
}

#[test]
fn a_prompt_whose_start_is_there_gives_the_same_bits() {
    let Some(_gpu) = gpu() else { return };
    for (model, kv_type) in kinds().filter(|(model, _)| !model.name.starts_with("gpt2")) {
        let options =
            Options { n_ctx: 192, n_slot: 2, n_row: 192, n_snapshot: 2, kv_type, ..Options::default() };
        let mut executor = executor_with(&model.path, &options);
        // Two whole pages and a bit.
        let tokens: Vec<u32> = model.cases[1].0.iter().cycle().take(150).copied().collect();
        let (bits, answer) = after_a_hit(&mut executor, &tokens, [0, tokens.len()]);
        for cut in [[0, 9], [1, 150], [2, 3]] {
            let (rest, same) = after_a_hit(&mut executor, &tokens, cut);
            assert!(bits.ends_with(&rest), "{} {kv_type} {cut:?}", model.name);
            assert_eq!(rest.len(), (150 - cut[0] * 64) * executor.limits().n_vocab);
            assert_eq!(same, answer, "{} {kv_type} {cut:?}", model.name);
        }
        println!("{:24} {kv_type} after a hit as after a miss", model.name);
    }
}
