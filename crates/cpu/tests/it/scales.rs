//! A scale of a whole matrix gives the bits of weights that are all so much larger, whatever the matrix is for.

use std::sync::Arc;

use cpu::{CpuExecutor, Options};
use gguf::{Gguf, Writer};
use model::Model;
use quant::{Format, Half};
use testkit::golden;

/// Half as large or twice as large weights, which rounds none of them.
fn times(format: Format, bytes: &[u8], factor: f32) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if format == Format::F32 {
        for value in bytes.as_chunks_mut().0 {
            *value = (f32::from_le_bytes(*value) * factor).to_le_bytes();
        }
        return bytes;
    }
    for block in bytes.chunks_exact_mut(format.block_bytes()) {
        let scale = Half([block[0], block[1]]).to_f32() * factor;
        block[..2].copy_from_slice(&Half::from_f32(scale).0);
    }
    bytes
}

/// A golden model whose matrices have other sizes, in their weights or in scales; how many have.
fn resized(file: &Gguf, in_scales: bool) -> (Gguf, usize) {
    let mut writer = Writer::new();
    for (key, value) in file.metadata().iter() {
        writer.set(key, value.clone());
    }
    let is_gemma4 = file.metadata().str_of("general.architecture").is_ok_and(|name| name == Some("gemma4"));
    // Of Gemma 4's tensors two have the names of scales; taps of convolutions are no matrices.
    let is_other = |name: &str| {
        name.contains("conv1d")
            || name.ends_with("shortconv.conv")
            || (is_gemma4 && (name.contains("ffn_gate_inp") || name.contains("ffn_down_exps")))
    };
    let mut n_resized = 0;
    for (i, info) in file.tensors().iter().enumerate() {
        let bytes = file.tensor(&info.name).expect("a tensor").bytes;
        let map = info.name.strip_suffix(".weight").filter(|map| map.starts_with("blk.") && !is_other(map));
        let has_halves = matches!(info.format, Format::Q4_0 | Format::Q8_0);
        let map = map.filter(|_| info.shape.len() > 1 && (has_halves || info.format == Format::F32));
        let factor: f32 = if i % 2 == 0 { 0.5 } else { 2.0 };
        let Some(map) = map else {
            writer.tensor(info.name.clone(), info.format, &info.shape, bytes);
            continue;
        };
        n_resized += 1;
        if in_scales {
            let n = info.shape.get(2).copied().unwrap_or(1);
            writer.tensor(info.name.clone(), info.format, &info.shape, bytes);
            writer.tensor(format!("{map}.scale"), Format::F32, &[n], factor.to_le_bytes().repeat(n));
        } else {
            writer.tensor(info.name.clone(), info.format, &info.shape, times(info.format, &bytes, factor));
        }
    }
    (Gguf::from_bytes(writer.to_bytes().expect("a file")).expect("a file"), n_resized)
}

#[test]
fn a_scale_is_as_weights_of_that_size() {
    for golden in
        golden().into_iter().filter(|golden| ["q4_0", "q8_0"].iter().any(|f| golden.name.ends_with(f)))
    {
        let file = Gguf::open(&golden.path).expect("a golden model");
        let tokens = &golden.cases[0].0[..24];
        for exact in [true, false] {
            let [expected, found] = [false, true].map(|in_scales| {
                let (file, n_resized) = resized(&file, in_scales);
                let model = Model::load(&file).expect("a model");
                assert!(n_resized > 3 * model.architecture.n_layer, "{}: {n_resized}", golden.name);
                let options = Options { threads: 2, exact, n_ctx: tokens.len(), ..Options::default() };
                let mut executor = CpuExecutor::new(Arc::new(model), &options).expect("an executor");
                testkit::steps::logits(&mut executor, tokens)
            });
            let is_equal = expected.iter().map(|l| l.to_bits()).eq(found.iter().map(|l| l.to_bits()));
            assert!(is_equal && found.iter().all(|l| l.is_finite()), "{} exact={exact}", golden.name);
        }
    }
}
