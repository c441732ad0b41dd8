//! Guessed tokens change no bit: what is sampled after them is what steps of one row give, right or wrong as they are.

use std::sync::Arc;

use device::batch::{Choice, Input, Output, Span, Want};
use device::{Executor, Sampled, SamplingParams, TokenMask};

use crate::steps::{last, prompt, run};

/// Sequences that are computed beside each other.
pub const N_SEQUENCE: usize = 4;
/// Positions that a sequence needs at most.
pub const N_CTX: usize = 96;

const N_GENERATED: usize = 14;

/// How each token of a sequence is chosen, by its index in the answer.
fn choice(sequence: usize, index: usize, n_vocab: usize) -> Choice {
    let params = SamplingParams {
        temperature: [0.0, 0.8, 1.3][sequence % 3],
        top_p: [1.0, 0.9][sequence % 2],
        repetition_penalty: [1.0, 1.2][sequence / 2 % 2],
        frequency_penalty: [0.0, 0.4][sequence % 2],
        presence_penalty: [0.3, 0.0][sequence % 2],
        seed: sequence as u64,
        n_alternatives: 2,
        ..SamplingParams::default()
    };
    // A mask of its own for every token, as a grammar has.
    let mask = (sequence == 3).then(|| {
        let mut mask = TokenMask::none(n_vocab);
        (0..n_vocab as u32)
            .filter(|id| !(*id as usize + index).is_multiple_of(3))
            .for_each(|id| mask.allow(id));
        Arc::new(mask)
    });
    Choice { params: Arc::new(params), mask }
}

/// A token, and the bits of its log probability and of the alternatives'.
type Bits = (u32, u32, Vec<(u32, u32)>);

fn bits(sampled: &Sampled) -> Bits {
    let alternatives = sampled.alternatives.iter().map(|&(id, logprob)| (id, logprob.to_bits()));
    (sampled.token, sampled.logprob.to_bits(), alternatives.collect())
}

/// A sequence's next step: one row, or as many more as there are guesses.
fn span(executor: &dyn Executor, (s, tokens): (usize, &[u32]), n_done: usize, guesses: &[u32]) -> Span {
    let n_vocab = executor.limits().n_vocab;
    let choice = |index| choice(s, index, n_vocab);
    match n_done {
        0 => prompt(executor, s, 0, tokens, Want::Sample(choice(0))),
        n if guesses.is_empty() => last(executor, s, tokens.len() + n - 1, Want::Sample(choice(n))),
        n => {
            let choices = (n..=n + guesses.len()).map(choice).collect();
            let start = tokens.len() + n - 1;
            let window = executor.limits().own_window(s, start..start + 1 + guesses.len());
            let input = Input::Guess(guesses.into());
            Span { input, window, ..last(executor, s, start, Want::Check(choices)) }
        }
    }
}

/// What four sequences sample beside each other, where `guess` says what is guessed of the tokens after the first `n` of one.
fn answers(executor: &mut dyn Executor, guess: impl Fn(usize, usize) -> Vec<u32>) -> Vec<Vec<Bits>> {
    let n_vocab = executor.limits().n_vocab;
    let prompts: Vec<Vec<u32>> = (0..N_SEQUENCE)
        .map(|s| (0..29 + s).map(|i| ((s * 7919 + i * i * 31) % n_vocab) as u32).collect())
        .collect();
    let mut answers = vec![Vec::new(); N_SEQUENCE];
    while answers.iter().any(|answer| answer.len() < N_GENERATED) {
        let running: Vec<usize> = (0..N_SEQUENCE).filter(|&s| answers[s].len() < N_GENERATED).collect();
        let spans = running.iter().map(|&s| {
            let n = answers[s].len();
            let mut guesses = guess(s, n);
            guesses.truncate(N_GENERATED - n - 1);
            span(executor, (s, &prompts[s]), n, &guesses)
        });
        let spans = spans.collect();
        for (&s, output) in running.iter().zip(run(executor, spans)) {
            match output {
                Output::Token(sampled) => answers[s].push(bits(&sampled)),
                Output::Tokens(sampled) => answers[s].extend(sampled.iter().map(bits)),
                Output::Logits(_) | Output::Hidden(_) => panic!("expected tokens"),
            }
        }
    }
    answers
}

/// Samples four sequences without guesses, and then with guesses of which the first four, two or none are right, each time on an executor of its own with
/// room for [`N_SEQUENCE`] sequences of [`N_CTX`] positions.
///
/// # Panics
/// If a token or a bit of a log probability differs.
pub fn change_no_bit(name: &str, make: &mut dyn FnMut() -> Box<dyn Executor>) {
    let mut executor = make();
    let n_vocab = executor.limits().n_vocab as u32;
    let plain = answers(&mut *executor, |_, _| Vec::new());
    drop(executor);
    let known = |s: usize, n: usize| -> Vec<u32> { plain[s][n..].iter().map(|token| token.0).collect() };
    for n_right in [4, 2, 0] {
        let guess = |s: usize, n: usize| {
            let mut guesses = known(s, n);
            guesses.truncate(4);
            guesses.iter_mut().skip(n_right).for_each(|id| *id = (*id + 1 + s as u32) % n_vocab);
            guesses
        };
        assert_eq!(answers(&mut *make(), guess), plain, "{name}, {n_right} right");
    }
}
