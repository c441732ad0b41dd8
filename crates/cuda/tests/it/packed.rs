//! Weights that are unpacked in registers give a prompt the bits of weights that were unpacked to memory first.

use std::collections::BTreeSet;

use cuda::{CudaExecutor, Options, Unpacking};
use device::{Output, Want};
use model::Model;
use model::weights::{Ffn, Gated, Linear, Matrix};
use testkit::golden;
use testkit::steps::{logits, prompt, run};

use crate::gpu::gpu;

/// Where weights are unpacked: in memory first, to compare with; by estimates; and in registers, in tiles of each size.
const WAYS: [Unpacking; 5] = [
    Unpacking::Memory,
    Unpacking::Fastest,
    Unpacking::Registers(64),
    Unpacking::Registers(128),
    Unpacking::Registers(192),
];

/// The kernels of products that unpack in registers that were loaded.
type Kernels = BTreeSet<String>;

/// Holds the logits of a prompt to the same bits in all ways, and notes the kernels.
fn same_in_all_ways(name: &str, model: &Model, tokens: &[u32], kernels: &mut Kernels) {
    let mut expected = None;
    for unpacking in WAYS {
        let options = Options { n_ctx: tokens.len(), unpacking, ..Options::default() };
        let mut executor = CudaExecutor::new(model, &options, &mut |_, _| {}).expect("an executor");
        let found = logits(&mut executor, tokens);
        let packed = executor.loaded_kernels().into_iter().filter(|name| name.starts_with("prompt_packed"));
        let n_before = kernels.len();
        kernels.extend(packed);
        assert!(unpacking != Unpacking::Memory || kernels.len() == n_before, "{name}: in memory");
        let expected = expected.get_or_insert_with(|| found.clone());
        assert!(*expected == found, "{name}, {} rows, {unpacking:?}", tokens.len());
    }
}

fn load(golden: &testkit::Golden) -> Model {
    Model::load(&gguf::Gguf::open(&golden.path).expect("a golden model")).expect("a golden model")
}

#[test]
fn every_family_and_format_has_the_same_bits_in_all_ways() {
    let Some(_gpu) = gpu() else { return };
    let mut kernels = Kernels::new();
    for golden in golden() {
        same_in_all_ways(&golden.name, &load(&golden), &golden.cases[0].0, &mut kernels);
        println!("{:28} {} tokens", golden.name, golden.cases[0].0.len());
    }
    if !kernels.is_empty() {
        // On Hopper: what the golden models have.
        let is_loaded = |part: &str| assert!(kernels.iter().any(|name| name.contains(part)), "{part}");
        for end in ["store", "residual", "gated"] {
            [64, 128, 192].iter().for_each(|n| is_loaded(&format!("{end}_{n}")));
        }
        is_loaded("weighted_192");
        for layout in [
            "f16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl",
            "iq4_xs", "mxfp4", "nvfp4", "table16",
        ] {
            is_loaded(&format!("prompt_packed_{layout}_"));
        }
    }
    println!("{} kernels", kernels.len());
}

/// A matrix's rows over and over.
fn more_rows(linear: &mut Linear, times: usize) {
    let Matrix { format, n_rows, n_cols, .. } = linear.weight;
    let bytes: Vec<u8> = linear.weight.bytes().repeat(times);
    let weight = Matrix::new(&linear.weight.name, format, [times * n_rows, n_cols], bytes.into());
    linear.weight = weight.expect("whole rows");
}

/// A matrix's columns over and over.
fn more_columns(linear: &mut Linear, times: usize) {
    let Matrix { format, n_rows, n_cols, .. } = linear.weight;
    let rows = linear.weight.bytes().chunks_exact(linear.weight.bytes().len() / n_rows);
    let bytes: Vec<u8> = rows.flat_map(|row| row.repeat(times)).collect();
    let weight = Matrix::new(&linear.weight.name, format, [n_rows, times * n_cols], bytes.into());
    linear.weight = weight.expect("whole columns");
}

/// Feed-forwards wide enough for large tiles, prompts of more rows than one of these has, and of more than are multiplied so.
#[test]
fn wide_matrices_and_long_prompts_have_the_same_bits_in_all_ways() {
    let Some(_gpu) = gpu() else { return };
    let wanted =
        ["llama-f16", "llama-q4_k_m", "llama-q8_0", "qwen2-q4_k_m", "gpt-oss-mxfp4_moe", "mixtral-q4_0"];
    let mut n_found = 0;
    for golden in golden().into_iter().filter(|golden| wanted.contains(&golden.name.as_str())) {
        n_found += 1;
        let mut model = load(&golden);
        for (layer, feed_forward) in model.weights.layers.iter_mut().zip(&mut model.architecture.feed_forward)
        {
            if let Ffn::Gated(Gated { gate, up, down }) = &mut layer.ffn {
                let times = (16_384 / feed_forward.n_ff).max(1);
                more_rows(gate, times);
                more_rows(up, times);
                more_columns(down, times);
                feed_forward.n_ff *= times;
            }
        }
        let few = &golden.cases[0].0;
        for n in [1, 64, 65, 130, 513] {
            let tokens: Vec<u32> = few.iter().copied().cycle().take(n).collect();
            same_in_all_ways(&golden.name, &model, &tokens, &mut Kernels::new());
        }
        // A step of many rows against steps of few.
        let tokens: Vec<u32> = few.iter().copied().cycle().take(1_000).collect();
        let options = Options { n_ctx: tokens.len(), ..Options::default() };
        let mut executor = CudaExecutor::new(&model, &options, &mut |_, _| {}).expect("an executor");
        let whole = logits(&mut executor, &tokens);
        let mut executor = CudaExecutor::new(&model, &options, &mut |_, _| {}).expect("an executor");
        let mut cut = Vec::new();
        for (i, chunk) in tokens.chunks(300).enumerate() {
            let span = prompt(&executor, 0, i * 300, chunk, Want::Logits);
            match run(&mut executor, vec![span]).pop() {
                Some(Output::Logits(logits)) => cut.extend(logits),
                other => panic!("expected logits, found {other:?}"),
            }
        }
        assert!(whole == cut, "{} cut at 300 rows", golden.name);
        println!("{:28} 1, 64, 65, 130, 513 and 1,000 rows", golden.name);
    }
    assert_eq!(n_found, wanted.len());
}
