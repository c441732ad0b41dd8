//! A token's bits depend on its own sequence and position: not on its neighbours, nor on how its prompt was cut.

use std::path::Path;
use std::sync::Arc;

use cpu::Options;
use cpu::simd::isa::Isa;
use device::batch::{Choice, Output, Span, Want};
use device::{Executor, SamplingParams};
use model::KvType;
use testkit::golden;
use testkit::steps::pages;

use crate::support::{executor, executor_with, greedy, last, prompt, run, token};

/// Ten prompts of different lengths, and 6 tokens generated from each.
const N_SEQUENCE: usize = 10;
const N_GENERATED: usize = 6;

fn prompts(n_vocab: usize) -> Vec<Vec<u32>> {
    let id = |s: usize, i: usize| ((s * 7919 + i * 104_729 + i * i * 31) % n_vocab) as u32;
    (0..N_SEQUENCE).map(|s| (0..3 + 7 * s).map(|i| id(s, i)).collect()).collect()
}

/// Whether exact, and how keys and values are kept. The exact kernels and the caches are the same for every format, so one model of each
/// architecture is enough for them.
pub(crate) fn kernels(model: &testkit::Golden) -> Vec<(bool, KvType)> {
    let fast = (false, KvType::F16);
    let is_one = !model.name.starts_with("llama-") || model.name == "llama-q4_0";
    if is_one {
        model.kv_types().into_iter().flat_map(|kv_type| [(false, kv_type), (true, kv_type)]).collect()
    } else {
        vec![fast]
    }
}

fn options((exact, kv_type): (bool, KvType), n_ctx: usize, n_slot: usize) -> Options {
    Options { threads: 2, exact, kv_type, n_ctx, n_slot, n_snapshot: 1, ..Options::default() }
}

/// Tokens that a step chose, with the bits of their log probabilities: a fingerprint of the whole row of logits.
fn fingerprint(output: &Output) -> (u32, u32) {
    match output {
        Output::Token(sampled) => (sampled.token, sampled.logprob.to_bits()),
        other => panic!("expected a token, found {other:?}"),
    }
}

#[test]
fn ten_sequences_together_are_each_as_alone() {
    for model in golden() {
        for kind in kernels(&model) {
            let n_ctx = 128;
            let mut shared = executor_with(&model.path, &options(kind, n_ctx, N_SEQUENCE));
            let prompts = prompts(shared.limits().n_vocab);
            let mut together: Vec<Vec<(u32, u32)>> = vec![Vec::new(); N_SEQUENCE];
            // Sequence s joins at step s, so that every step mixes prompts and generated rows.
            for step in 0..N_SEQUENCE + N_GENERATED {
                let running: Vec<usize> =
                    (0..=step.min(N_SEQUENCE - 1)).filter(|&s| together[s].len() < N_GENERATED).collect();
                let span = |&s: &usize| match together[s].len() {
                    0 => prompt(&shared, s, 0, &prompts[s], greedy()),
                    n => last(&shared, s, prompts[s].len() + n - 1, greedy()),
                };
                let spans: Vec<Span> = running.iter().map(span).collect();
                for (&s, output) in running.iter().zip(run(&mut shared, spans)) {
                    together[s].push(fingerprint(&output));
                }
            }
            for (s, tokens) in prompts.iter().enumerate() {
                let mut single = executor_with(&model.path, &options(kind, n_ctx, 1));
                let mut alone = Vec::new();
                for n in 0..N_GENERATED {
                    let span = match n {
                        0 => prompt(&single, 0, 0, tokens, greedy()),
                        n => last(&single, 0, tokens.len() + n - 1, greedy()),
                    };
                    alone.push(fingerprint(&run(&mut single, vec![span])[0]));
                }
                assert_eq!(together[s], alone, "{} {kind:?} sequence {s}", model.name);
            }
        }
    }
}

#[test]
fn a_prompt_cut_into_chunks_or_among_threads_gives_the_same_bits() {
    for model in golden() {
        for kind in kernels(&model) {
            let tokens = &model.cases[0].0;
            let whole = chunked(&model.path, (kind, 2), tokens, tokens.len());
            // With a key head for each query head, so many queries attend together.
            let few: &[usize] = if model.name.starts_with("gpt2") { &[2, 3, 4, 5, 6] } else { &[] };
            for &size in [1, 7, 64].iter().chain(few) {
                let cut = chunked(&model.path, (kind, 2), tokens, size);
                assert!(whole == cut, "{} {kind:?} chunks of {size}", model.name);
            }
            for threads in [1, 3] {
                let other = chunked(&model.path, (kind, threads), tokens, tokens.len());
                assert!(whole == other, "{} {kind:?} on {threads} threads", model.name);
            }
        }
    }
}

/// What a sequence gives whose prompt's first `n_page` pages another slot computed, and the state after them: the bits of the logits of the
/// rest, in chunks, and a sampled answer.
fn after_a_hit(
    path: &Path,
    kind: (bool, KvType),
    tokens: &[u32],
    (n_page, size): (usize, usize),
) -> (Vec<u32>, Vec<(u32, u32)>) {
    let mut executor = executor_with(path, &options(kind, 128, 2));
    let start = n_page * executor.limits().page_size;
    let snapshot = executor.limits().n_snapshot.map(|_| 0);
    let own = pages(&executor, 1);
    let shared: Arc<[u32]> =
        pages(&executor, 0).iter().take(n_page).chain(own.iter().skip(n_page)).copied().collect();
    if n_page > 0 {
        // The other's prompt goes on with other tokens.
        let first = prompt(&executor, 0, 0, &tokens[..start], Want::Nothing);
        let rest = prompt(&executor, 0, start, &[1, 2, 3], greedy());
        for span in [Span { save: snapshot, ..first }, rest] {
            run(&mut executor, vec![span]);
        }
    }
    let load = snapshot.filter(|_| n_page > 0);
    let params = SamplingParams {
        temperature: 1.0,
        seed: 7,
        repetition_penalty: 1.3,
        frequency_penalty: 0.5,
        presence_penalty: 0.5,
        ..SamplingParams::default()
    };
    let sample = || Want::Sample(Choice { params: Arc::new(params.clone()), mask: None });
    let (mut bits, mut answer) = (Vec::new(), Vec::new());
    // Once for the logits, once for an answer: the second begins the slot anew, on the same pages.
    for wants_logits in [true, false] {
        let mut at = start;
        for chunk in tokens[start..].chunks(size) {
            let last = at + chunk.len() == tokens.len();
            let want = if wants_logits {
                Want::Logits
            } else if last {
                sample()
            } else {
                Want::Nothing
            };
            let span = Span { pages: Arc::clone(&shared), ..prompt(&executor, 1, at, chunk, want) };
            let is_first = at == start;
            let begin = is_first.then(|| tokens.into());
            for output in run(&mut executor, vec![Span { begin, load: load.filter(|_| is_first), ..span }]) {
                match output {
                    Output::Logits(logits) => bits.extend(logits.iter().map(|l| l.to_bits())),
                    output => answer.push(fingerprint(&output)),
                }
            }
            at += chunk.len();
        }
    }
    for n in 1..8 {
        let span = last(&executor, 1, tokens.len() + n - 1, sample());
        let output = run(&mut executor, vec![Span { pages: Arc::clone(&shared), ..span }]);
        answer.push(fingerprint(&output[0]));
    }
    (bits, answer)
}

#[test]
fn a_prompt_whose_start_is_there_gives_the_same_bits() {
    for model in golden() {
        for kind in kernels(&model) {
            let n_vocab = executor_with(&model.path, &options(kind, 64, 1)).limits().n_vocab;
            // Two whole pages and a bit.
            let tokens: Vec<u32> = prompts(n_vocab).concat().into_iter().take(71).collect();
            let (bits, answer) = after_a_hit(&model.path, kind, &tokens, (0, tokens.len()));
            for cut in [(0, 9), (1, 71), (2, 3)] {
                let (rest, same) = after_a_hit(&model.path, kind, &tokens, cut);
                assert!(bits.ends_with(&rest), "{} {kind:?} {cut:?}", model.name);
                assert_eq!(rest.len(), (71 - cut.0 * 32) * n_vocab);
                assert_eq!(same, answer, "{} {kind:?} {cut:?}", model.name);
            }
        }
    }
}

/// The bits of all logits of a prompt computed in chunks of `size`.
fn chunked(path: &Path, (kind, threads): ((bool, KvType), usize), tokens: &[u32], size: usize) -> Vec<u32> {
    let options = Options { threads, ..options(kind, tokens.len(), 1) };
    let mut executor = executor_with(path, &options);
    let mut bits = Vec::new();
    for (i, chunk) in tokens.chunks(size).enumerate() {
        let span = prompt(&executor, 0, i * size, chunk, Want::Logits);
        for output in run(&mut executor, vec![span]) {
            let Output::Logits(logits) = output else { panic!("expected logits") };
            bits.extend(logits.iter().map(|l| l.to_bits()));
        }
    }
    bits
}

/// The tests above have the best instruction set alone. Generated rows on the others have tests with the kernels.
#[test]
fn a_prompt_in_company_or_cut_has_the_same_bits_on_every_instruction_set() {
    let models = golden();
    let model = models.iter().find(|m| m.name == "llama-q4_k_m").expect("a golden model");
    let tokens = &model.cases[0].0;
    let other = &model.cases[1].0[..33];
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        let logits = |company: bool, size: usize| {
            let isa = Some(isa);
            let options = Options { isa, ..options((false, KvType::F16), tokens.len(), 2) };
            let mut executor = executor_with(&model.path, &options);
            let mut bits = Vec::new();
            for (i, chunk) in tokens.chunks(size).enumerate() {
                let mut spans = vec![prompt(&executor, 1, i * size, chunk, Want::Logits)];
                if company {
                    spans.insert(0, prompt(&executor, 0, 0, other, Want::Nothing));
                }
                for output in run(&mut executor, spans) {
                    let Output::Logits(logits) = output else { panic!("expected logits") };
                    bits.extend(logits.iter().map(|l| l.to_bits()));
                }
            }
            bits
        };
        let whole = logits(false, tokens.len());
        for (company, size) in [(true, tokens.len()), (false, 1), (false, 3), (false, 7), (true, 20)] {
            assert!(logits(company, size) == whole, "{isa}: in company {company}, chunks of {size}");
        }
    }
}

#[test]
fn a_reused_slot_and_its_pages_remember_nothing() {
    for model in golden() {
        let mut executor = executor(&model.path, false, 64, 1);
        let mut answer = |tokens: &[u32]| {
            let span = prompt(&executor, 0, 0, tokens, greedy());
            let mut found = vec![token(&run(&mut executor, vec![span])[0])];
            for n in 1..5 {
                let span = last(&executor, 0, tokens.len() + n - 1, greedy());
                found.push(token(&run(&mut executor, vec![span])[0]));
            }
            found
        };
        let first = answer(&model.greedy_prompt);
        answer(&model.cases[1].0[..40]);
        assert_eq!(answer(&model.greedy_prompt), first, "{}", model.name);
    }
}
