//! Products that compute 8, 16 or more columns at once give each of them the same bits.

use std::collections::BTreeSet;

use cuda::{Columns, CudaExecutor, Options};
use device::Executor;
use device::batch::{Input, Output, Span, Want};
use model::{KvType, Model};
use testkit::golden;
use testkit::steps::{greedy, last, prompt, run};

use crate::gpu::gpu;
use crate::models::{loaded, with_wide_layers};

/// Sequences: three groups of 8 and some more, and so one of 16 and half of another.
const N_SEQUENCE: usize = 27;

const WAYS: [Columns; 5] =
    [Columns::Many, Columns::Fastest, Columns::Eight, Columns::Dense, Columns::Sixteen];

/// The tokens, and their log probabilities' bits, of a row of so many sequences each.
fn rows(model: &Model, columns: Columns, kernels: &mut BTreeSet<String>) -> Vec<(u32, u32)> {
    let options = Options {
        n_ctx: 64,
        n_slot: N_SEQUENCE,
        n_row: 512,
        kv_type: KvType::F16,
        columns,
        ..Options::default()
    };
    let mut executor = CudaExecutor::new(model, &options, &mut |_, _| {}).expect("an executor");
    let n_vocab = executor.limits().n_vocab;
    let tokens =
        |s: usize| (0..3 + s / 4).map(|i| ((s * 7919 + i * 31) % n_vocab) as u32).collect::<Vec<_>>();
    let first = (0..N_SEQUENCE).map(|s| prompt(&executor, s, 0, &tokens(s), Want::Nothing)).collect();
    run(&mut executor, first);
    let (mut found, mut n_taken) = (Vec::new(), [0; N_SEQUENCE]);
    for n in [2, 7, 12, 17, N_SEQUENCE] {
        let next = |s: usize| Span {
            input: Input::Tokens([7].into()),
            ..last(&executor, s, tokens(s).len() + n_taken[s], greedy())
        };
        let spans = (0..n).map(next).collect();
        n_taken[..n].iter_mut().for_each(|taken| *taken += 1);
        found.extend(run(&mut executor, spans).iter().map(|output| match output {
            Output::Token(sampled) => (sampled.token, sampled.logprob.to_bits()),
            other => panic!("expected a token, found {other:?}"),
        }));
    }
    kernels.extend(executor.loaded_kernels().into_iter().filter(|name| name.starts_with("product_half")));
    found
}

fn check(name: &str, model: &Model, kernels: &mut BTreeSet<String>) {
    let mut expected = None;
    for columns in WAYS {
        let found = rows(model, columns, kernels);
        let expected = expected.get_or_insert_with(|| found.clone());
        assert!(*expected == found, "{name}: {columns:?}");
    }
}

/// Where a warp has several quads of 256 weights, the last of them not whole: 18 for eight warps.
#[test]
fn rows_of_many_weights_have_the_same_bits_with_any_number_at_once() {
    let Some(_gpu) = gpu() else { return };
    for golden in golden().into_iter().filter(|model| ["llama-q4_k_m", "llama-q8_0"].contains(&&*model.name))
    {
        let n_ff = if golden.name == "llama-q8_0" { 4_416 } else { 4_608 };
        check(&golden.name, &with_wide_layers(&golden.path, n_ff), &mut BTreeSet::new());
    }
}

#[test]
fn every_family_and_format_has_the_same_bits_with_any_number_at_once() {
    let Some(_gpu) = gpu() else { return };
    let mut kernels = BTreeSet::new();
    for golden in golden() {
        check(&golden.name, &loaded(&golden.path), &mut kernels);
        println!("{:28} as it is with any number of columns at once", golden.name);
    }
    if !kernels.is_empty() {
        // On Hopper: what the golden models have.
        for end in [
            "c8_m1",
            "d8_m1",
            "c8_m2",
            "c16_m1",
            "c16_m2",
            "pair_q4_k_q6_k_c16",
            "pair_q4_k_q6_k_d8",
            "n1",
            "n2",
            "n4",
        ] {
            assert!(kernels.iter().any(|name| name.ends_with(end)), "{end}: {kernels:?}");
        }
    }
    println!("{} kernels", kernels.len());
}
