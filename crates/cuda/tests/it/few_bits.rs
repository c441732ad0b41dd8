//! A model whose matrices are Q1_0 and Q2_0 has the bits of the model whose matrices are the same numbers in Q4_0.

use cuda::{CudaExecutor, Options};
use model::Model;
use model::weights::{Ffn, Linear, Matrix, MixerWeights};
use quant::{Format, Half};
use testkit::blocks::few_bits;
use testkit::golden;
use testkit::steps::{generated, logits};

use crate::gpu::gpu;

/// A matrix's numbers in Q4_0: the same scales, and a weight's integer plus 8.
fn in_q4_0(matrix: &Matrix) -> Matrix {
    let Matrix { format, n_rows, n_cols, .. } = *matrix;
    let numbers = |format: Format, bytes: &[u8]| {
        let mut values = vec![0.0; n_rows * n_cols];
        format.dequantize(bytes, &mut values).expect("whole blocks");
        values
    };
    let values = numbers(format, matrix.bytes());
    let blocks =
        matrix.bytes().chunks_exact(format.block_bytes()).zip(values.chunks_exact(format.block_len()));
    let bytes: Vec<u8> = blocks
        .flat_map(|(block, values)| {
            let d = Half([block[0], block[1]]);
            values.chunks_exact(32).flat_map(move |values| {
                let code = move |i: usize| (values[i] / d.to_f32() + 8.0) as u8;
                d.0.into_iter().chain((0..16).map(move |i| code(i) | code(i + 16) << 4))
            })
        })
        .collect();
    assert!(numbers(Format::Q4_0, &bytes) == values, "{format}: other numbers in Q4_0");
    Matrix::new(&matrix.name, Format::Q4_0, [n_rows, n_cols], bytes.into()).expect("as many bytes")
}

/// Every matrix but routers, which are float32 on the device, with 0 or 1: those that neighbours in the file have take turns.
fn each_matrix(model: &mut Model, mut visit: impl FnMut(usize, &mut Matrix)) {
    visit(0, &mut model.weights.token_embd);
    visit(1, &mut model.weights.output.weight);
    for layer in &mut model.weights.layers {
        let MixerWeights::Attention(attention) = &mut layer.mixer else { panic!("attention") };
        let qkv = [Some(&mut attention.q), attention.k.as_mut(), attention.v.as_mut()];
        let feed_forward: [&mut [Linear]; 3] = match &mut layer.ffn {
            Ffn::Gated(gated) => [&mut gated.gate, &mut gated.up, &mut gated.down].map(std::slice::from_mut),
            Ffn::Experts(experts) => [&mut experts.gate, &mut experts.up, &mut experts.down],
            Ffn::Plain { .. } => panic!("a gated feed-forward"),
        };
        let attention = qkv.into_iter().flatten().chain([&mut attention.output]).map(std::slice::from_mut);
        for (i, linears) in attention.chain(feed_forward).enumerate() {
            linears.iter_mut().for_each(|linear| visit(i % 2, &mut linear.weight));
        }
    }
}

#[test]
fn weights_of_one_and_two_bits_have_the_bits_of_the_same_numbers_in_q4_0() {
    let Some(_gpu) = gpu() else { return };
    // Rows of 256 and 512 weights; of 128, 192 and 256; and of 64 and 128, of experts.
    for name in ["llama-f16", "llama-linear-q4_0", "mixtral-q4_0"] {
        let golden = golden().into_iter().find(|model| model.name == name).expect("a golden model");
        let gguf = gguf::Gguf::open(&golden.path).expect("a golden model");
        let tokens = &golden.cases[0].0;
        for formats in [[Format::Q1_0; 2], [Format::Q2_0; 2], [Format::Q1_0, Format::Q2_0]] {
            let mut few = Model::load(&gguf).expect("a golden model");
            each_matrix(&mut few, |i, matrix| {
                let is_whole = matrix.n_cols.is_multiple_of(formats[i].block_len());
                *matrix = few_bits(matrix, if is_whole { formats[i] } else { Format::Q2_0 });
            });
            let mut same = few.clone();
            each_matrix(&mut same, |_, matrix| *matrix = in_q4_0(matrix));
            let options = Options { n_ctx: tokens.len(), n_row: 512, ..Options::default() };
            let [found, expected] = [few, same].map(|model| {
                let mut executor = CudaExecutor::new(&model, &options, &mut |_, _| {}).expect("an executor");
                [logits(&mut executor, tokens), generated(&mut executor, tokens)]
            });
            assert!(found == expected, "{name} in {formats:?}");
            println!("{name:24} {formats:?} as in Q4_0");
        }
    }
}
