//! A model whose matrices are Q1_0 or Q2_0 is the model whose matrices are the same numbers in float16.

use std::sync::Arc;

use cpu::simd::isa::Isa;
use cpu::{CpuExecutor, Options};
use model::Model;
use model::weights::{Ffn, Linear, Matrix};
use quant::{Format, Half};
use testkit::blocks::few_bits;
use testkit::{golden, nmse};

/// The numbers of a matrix as float16.
fn floats(of: &Matrix) -> Matrix {
    let mut values = vec![0.0; of.n_rows * of.n_cols];
    of.format.dequantize(of.bytes(), &mut values).expect("whole blocks");
    let bytes: Vec<u8> = values.iter().flat_map(|&value| Half::from_f32(value).0).collect();
    Matrix::new(&of.name, Format::F16, [of.n_rows, of.n_cols], bytes.into()).expect("as many bytes")
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
            let [few, same] = &mut models;
            let parts = [few, same].map(|model| match &mut model.weights.layers[layer].ffn {
                Ffn::Gated(gated) => [&mut gated.gate, &mut gated.up, &mut gated.down],
                _ => panic!("a gated feed-forward"),
            });
            let [few, same] = parts;
            for (few, same) in few.into_iter().zip(same) {
                *few = Linear { weight: few_bits(&few.weight, format), bias: None };
                *same = Linear { weight: floats(&few.weight), bias: None };
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
