//! A scale of a whole matrix gives the bits of weights that are all so much larger, whatever the matrix is for.

use cuda::{CudaExecutor, Options};
use model::weights::{Experts, Ffn, Gated, Linear, MixerWeights};
use model::{Matrix, Model};
use quant::Format;
use testkit::golden;
use testkit::steps::logits;

use crate::golden::generated;
use crate::gpu::gpu;

/// Every linear map of the layers that may be in NVFP4, and the output.
fn linears(model: &mut Model) -> Vec<&mut Linear> {
    let mut all = vec![&mut model.weights.output];
    for layer in &mut model.weights.layers {
        let MixerWeights::Attention(attention) = &mut layer.mixer else { panic!("attention") };
        all.extend([&mut attention.q, &mut attention.output]);
        all.extend(attention.k.iter_mut().chain(&mut attention.v));
        match &mut layer.ffn {
            Ffn::Gated(Gated { gate, up, down }) => all.extend([gate, up, down]),
            Ffn::Experts(Experts { gate, up, down, .. }) => {
                all.extend(gate.iter_mut().chain(up).chain(down));
            }
            Ffn::Plain { .. } => panic!("a gated feed-forward"),
        }
    }
    all
}

/// A matrix whose groups' scales are twice as large, if E4M3 has these.
fn doubled(matrix: &Matrix) -> Option<Matrix> {
    let mut bytes = matrix.bytes().to_vec();
    for block in bytes.chunks_exact_mut(matrix.format.block_bytes()) {
        for scale in &mut block[..4] {
            // The exponent stands above three bits; without one the whole is a number.
            *scale = if *scale < 8 { 2 * *scale } else { *scale + 8 };
            if *scale >= 0x7F {
                return None;
            }
        }
    }
    let shape = [matrix.n_rows, matrix.n_cols];
    let mut doubled = Matrix::new(&matrix.name, matrix.format, shape, bytes.into())?;
    doubled.scale = matrix.scale;
    Some(doubled)
}

#[test]
fn a_scale_is_as_weights_of_that_size() {
    let Some(_gpu) = gpu() else { return };
    for golden in golden().into_iter().filter(|golden| golden.name.ends_with("nvfp4")) {
        let tokens = &golden.cases[0].0;
        let gguf = gguf::Gguf::open(&golden.path).expect("a golden model");
        let [mut in_groups, mut in_scales] = [(); 2].map(|()| Model::load(&gguf).expect("a golden model"));
        let mut n_doubled = 0;
        for (a, b) in linears(&mut in_groups).into_iter().zip(linears(&mut in_scales)) {
            if a.weight.format == Format::NVFP4
                && let Some(weight) = doubled(&a.weight)
            {
                a.weight = weight;
                b.weight.scale = Some(2.0 * b.weight.scale.unwrap_or(1.0));
                n_doubled += 1;
            }
        }
        assert!(n_doubled >= 7, "{}: {n_doubled}", golden.name);
        let options = Options { n_ctx: tokens.len(), n_row: 512, ..Options::default() };
        let [expected, found] = [in_groups, in_scales].map(|model| {
            let mut executor = CudaExecutor::new(&model, &options, &mut |_, _| {}).expect("an executor");
            let prompt = logits(&mut executor, tokens);
            [prompt, generated(&mut executor, &tokens[..24])]
        });
        assert!(expected == found, "{}", golden.name);
        println!("{:24} {n_doubled} matrices of twice the size", golden.name);
    }
}
