//! Products that compute 8, 16 or more columns at once give each of them the same bits.

use std::collections::BTreeSet;
use std::path::Path;

use cuda::{Columns, Options};
use device::Executor;
use device::batch::{Input, Output, Span, Want};
use model::KvType;
use testkit::golden;
use testkit::steps::{greedy, last, prompt, run};

use crate::gpu::gpu;
use crate::models::executor_with;

/// Sequences: three groups of 8 and some more, and so one of 16 and half of another.
const N_SEQUENCE: usize = 27;

const WAYS: [Columns; 4] = [Columns::Many, Columns::Fastest, Columns::Eight, Columns::Sixteen];

/// The tokens, and their log probabilities' bits, of a row of so many sequences each.
fn rows(path: &Path, columns: Columns, kernels: &mut BTreeSet<String>) -> Vec<(u32, u32)> {
    let options = Options {
        n_ctx: 64,
        n_slot: N_SEQUENCE,
        n_row: 512,
        kv_type: KvType::F16,
        columns,
        ..Options::default()
    };
    let mut executor = executor_with(path, &options);
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

#[test]
fn every_family_and_format_has_the_same_bits_with_any_number_at_once() {
    let Some(_gpu) = gpu() else { return };
    let mut kernels = BTreeSet::new();
    for golden in golden() {
        let mut expected = None;
        for columns in WAYS {
            let found = rows(&golden.path, columns, &mut kernels);
            let expected = expected.get_or_insert_with(|| found.clone());
            assert!(*expected == found, "{}: {columns:?}", golden.name);
        }
        println!("{:28} as it is with any number of columns at once", golden.name);
    }
    if !kernels.is_empty() {
        // On Hopper: what the golden models have.
        for end in ["c8_m1", "c8_m2", "c16_m1", "c16_m2", "pair_q4_k_q6_k_c16", "n1", "n2", "n4"] {
            assert!(kernels.iter().any(|name| name.ends_with(end)), "{end}: {kernels:?}");
        }
    }
    println!("{} kernels", kernels.len());
}
