//! A model whose matrices are Q1_0 or Q2_0 is the model whose matrices are the same numbers in float16.

use std::sync::Arc;

use cpu::simd::isa::Isa;
use cpu::{CpuExecutor, Options};
use model::Model;
use model::weights::{Ffn, Linear, Matrix};
use quant::{Format, Half};
use testkit::{golden, nmse};

/// Blocks of a format with scales of a usual size, and the numbers that they stand for.
fn matrices(old: &Matrix, format: Format) -> [Matrix; 2] {
    let n = old.n_rows * old.n_cols;
    let mut bytes = vec![0; format.bytes_for(n).expect("whole blocks")];
    let mut state = old.name.bytes().fold(1u64, |state, byte| state.wrapping_mul(31) + u64::from(byte));
    for block in bytes.chunks_exact_mut(format.block_bytes()) {
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        block.fill_with(&mut next);
        // From 0.0156 to 0.031.
        block[1] = 0x24 | block[1] & 3;
    }
    let mut values = vec![0.0; n];
    format.dequantize(&bytes, &mut values).expect("whole blocks");
    let floats: Vec<u8> = values.iter().flat_map(|&value| Half::from_f32(value).0).collect();
    [(format, bytes), (Format::F16, floats)].map(|(format, bytes)| {
        Matrix::new(&old.name, format, [old.n_rows, old.n_cols], bytes.into()).expect("as many bytes")
    })
}

fn logits(model: &Model, options: &Options, tokens: &[u32]) -> Vec<f32> {
    let mut executor = CpuExecutor::new(Arc::new(model.clone()), options).expect("an executor");
    testkit::steps::logits(&mut executor, tokens)
}

#[test]
fn weights_of_one_and_two_bits_are_the_floats_they_stand_for() {
    let golden = golden().into_iter().find(|model| model.name == "llama-f16").expect("a golden model");
    let tokens = &golden.cases[0].0;
    for format in [Format::Q1_0, Format::Q2_0] {
        let mut models = [(); 2].map(|()| {
            Model::load(&gguf::Gguf::open(&golden.path).expect("a golden model")).expect("a golden model")
        });
        let n_layer = models[0].weights.layers.len();
        for layer in 0..n_layer {
            let [few, floats] = &mut models;
            let parts = [few, floats].map(|model| match &mut model.weights.layers[layer].ffn {
                Ffn::Gated(gated) => [&mut gated.gate, &mut gated.up, &mut gated.down],
                _ => panic!("a gated feed-forward"),
            });
            let [few, floats] = parts;
            for (few, floats) in few.into_iter().zip(floats) {
                let [a, b] = matrices(&few.weight, format);
                *few = Linear { weight: a, bias: None };
                *floats = Linear { weight: b, bias: None };
            }
        }
        let options = Options { threads: 2, n_ctx: tokens.len(), ..Options::default() };
        let [exact, expected] =
            models.each_ref().map(|model| logits(model, &Options { exact: true, ..options.clone() }, tokens));
        assert!(exact == expected, "{format}: {:e}", nmse(&exact, &expected));
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            let found = logits(&models[0], &Options { isa: Some(isa), ..options.clone() }, tokens);
            let error = nmse(&found, &expected);
            println!("{format} {} {error:.2e}", isa.name());
            assert!(error <= 3e-3, "{format} {isa}: {error:e}");
        }
    }
}
