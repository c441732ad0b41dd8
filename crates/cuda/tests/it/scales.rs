//! A scale of a whole matrix gives the bits of weights that are all so much larger, whatever the matrix is for.

use std::collections::BTreeSet;

use cuda::{CudaExecutor, Options};
use gguf::{Gguf, Value, Writer};
use model::weights::{Experts, Ffn, Gated, Linear, MixerWeights};
use model::{Matrix, Model};
use quant::{E2M1_DOUBLED, Format, ue4m3_half};
use testkit::golden;
use testkit::steps::{generated, logits};

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

/// NVFP4 whose groups' scales are twice as large, if E4M3 has these.
fn doubled(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = bytes.to_vec();
    for block in bytes.chunks_exact_mut(Format::NVFP4.block_bytes()) {
        for scale in &mut block[..4] {
            // The exponent stands above three bits; without one the whole is a number.
            *scale = if *scale < 8 { 2 * *scale } else { *scale + 8 };
            if *scale >= 0x7F {
                return None;
            }
        }
    }
    Some(bytes)
}

/// A matrix of twice the size, likewise.
fn twice(matrix: &Matrix) -> Option<Matrix> {
    let bytes = doubled(matrix.bytes())?;
    let mut doubled = Matrix::new(&matrix.name, matrix.format, [matrix.n_rows, matrix.n_cols], bytes.into())?;
    doubled.scale = matrix.scale;
    Some(doubled)
}

#[test]
fn a_scale_is_as_weights_of_that_size() {
    let Some(_gpu) = gpu() else { return };
    for golden in golden().into_iter().filter(|golden| golden.name.ends_with("nvfp4")) {
        let tokens = &golden.cases[0].0;
        let gguf = Gguf::open(&golden.path).expect("a golden model");
        let [mut in_groups, mut in_scales] = [(); 2].map(|()| Model::load(&gguf).expect("a golden model"));
        let mut n_doubled = 0;
        for (a, b) in linears(&mut in_groups).into_iter().zip(linears(&mut in_scales)) {
            if a.weight.format == Format::NVFP4
                && let Some(weight) = twice(&a.weight)
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

/// Models with other maps than queries, keys, values, feed-forwards and experts, and all their maps (without `blk.N.`) that can be in NVFP4:
/// those whose rows are whole blocks of 64. A GPU computes all of them.
const MAPS: [(&str, &str); 8] = [
    (
        "deepseek2-plain-q4_0",
        "attn_kv_a_mqa attn_kv_b attn_output attn_q_a attn_q_b ffn_down ffn_gate ffn_gate_exps ffn_gate_inp \
         ffn_gate_shexp ffn_up ffn_up_exps ffn_up_shexp output",
    ),
    (
        "deepseek2-v3-yarn-q8_0",
        "attn_kv_a_mqa attn_output attn_q_a attn_q_b attn_v_b ffn_down ffn_gate ffn_gate_exps ffn_gate_inp \
         ffn_gate_shexp ffn_up ffn_up_exps ffn_up_shexp output",
    ),
    (
        "qwen35-q4_0",
        "attn_gate attn_k attn_output attn_q attn_qkv attn_v ffn_gate ffn_up output ssm_alpha ssm_beta ssm_out",
    ),
    (
        "qwen35moe-q4_0",
        "attn_gate attn_k attn_output attn_q attn_qkv attn_v ffn_down_shexp ffn_gate_exps ffn_gate_inp \
         ffn_gate_inp_shexp ffn_gate_shexp ffn_up_exps ffn_up_shexp ssm_alpha ssm_beta ssm_out",
    ),
    (
        "lfm2-q4_0",
        "attn_k attn_output attn_q attn_v ffn_down ffn_gate ffn_up shortconv.in_proj shortconv.out_proj",
    ),
    (
        "glm4moe-q4_0",
        "attn_k attn_output attn_q attn_v ffn_down ffn_gate ffn_gate_exps ffn_gate_inp ffn_gate_shexp ffn_up \
         ffn_up_exps ffn_up_shexp output",
    ),
    ("gemma4-moe-q4_0", "attn_k attn_output attn_q attn_v ffn_down ffn_gate ffn_gate_up_exps ffn_up"),
    (
        "gemma4-ple-q4_0",
        "attn_k attn_output attn_q attn_v ffn_down ffn_gate ffn_up inp_gate per_layer_model_proj proj",
    ),
];

/// Numbers in NVFP4, each rounded to the nearest.
fn in_nvfp4(values: &[f32]) -> Vec<u8> {
    let nearest = |codes: std::ops::Range<u8>, distance: &dyn Fn(u8) -> f32| {
        codes.min_by(|&a, &b| distance(a).total_cmp(&distance(b))).expect("a code")
    };
    let mut bytes = Vec::new();
    for values in values.chunks_exact(64) {
        let groups = values.chunks_exact(16);
        let scales: Vec<u8> = groups
            .clone()
            .map(|group| {
                let largest = group.iter().fold(0f32, |largest, x| largest.max(x.abs()));
                nearest(1..0x70, &|code| (12.0 * ue4m3_half(code) - largest).abs())
            })
            .collect();
        bytes.extend(&scales);
        for (group, scale) in groups.zip(scales) {
            let number = |code: u8| f32::from(E2M1_DOUBLED[usize::from(code)]) * ue4m3_half(scale);
            let code = |x: f32| nearest(0..16, &|code| (number(code) - x).abs());
            bytes.extend((0..8).map(|i| code(group[i]) | code(group[i + 8]) << 4));
        }
    }
    bytes
}

/// A tensor's name without `blk.N.`.
fn role(name: &str) -> &str {
    name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')).map_or(name, |(_, role)| role)
}

/// The dimension in which a tensor grows where a layer's inputs of the token itself are twice as wide: 32 values are half a block.
fn grows(name: &str) -> Option<usize> {
    match role(name) {
        "per_layer_token_embd.weight" | "per_layer_proj_norm.weight" | "proj.weight" => Some(0),
        "per_layer_model_proj.weight" | "inp_gate.weight" => Some(1),
        _ => None,
    }
}

/// A tensor's shape and bytes, each row there twice or all rows again where it grows.
fn grown(file: &Gguf, name: &str) -> (Format, Vec<usize>, Vec<u8>) {
    let tensor = file.tensor(name).expect("a tensor");
    let (format, mut shape, bytes) = (tensor.info.format, tensor.info.shape.clone(), &tensor.bytes[..]);
    let Some(dimension) = grows(name) else { return (format, shape, bytes.to_vec()) };
    let n_byte = [format.bytes_for(shape[0]).expect("whole blocks"), bytes.len()][dimension];
    shape[dimension] *= 2;
    (format, shape, bytes.chunks_exact(n_byte).flat_map(|rows| rows.repeat(2)).collect())
}

/// A golden model whose maps are in NVFP4 and half or twice as large, in their groups' scales or in scales of their own, and which maps that
/// are.
fn resized(file: &Gguf, in_scales: bool) -> (Model, BTreeSet<String>) {
    let mut writer = Writer::new();
    for (key, value) in file.metadata().iter() {
        let value = match (key.rsplit('.').next(), value.integer()) {
            (Some("embedding_length_per_layer_input"), Some(n)) => Value::from(2 * n as u32),
            // A norm would hide how large a map before it is.
            (Some("layer_norm_rms_epsilon"), _) => Value::from(0.1f32),
            _ => value.clone(),
        };
        writer.set(key, value);
    }
    let is_gemma4 = file.metadata().str_of("general.architecture").is_ok_and(|name| name == Some("gemma4"));
    let is_map = |map: &str| match role(map) {
        // Taps of convolutions are no maps.
        "ssm_conv1d" | "shortconv.conv" => false,
        // Of Gemma 4's tensors two have the names of scales.
        "ffn_gate_inp" | "ffn_down_exps" => !is_gemma4,
        "output" | "per_layer_model_proj" => true,
        _ => map.starts_with("blk."),
    };
    let mut maps = BTreeSet::new();
    for (i, info) in file.tensors().iter().enumerate() {
        let (format, shape, bytes) = grown(file, &info.name);
        let map = info.name.strip_suffix(".weight").filter(|map| shape.len() > 1 && is_map(map));
        let Some(map) = map.filter(|_| shape[0].is_multiple_of(64)) else {
            writer.tensor(info.name.clone(), format, &shape, bytes);
            continue;
        };
        maps.insert(role(map).to_owned());
        let mut values = vec![0.0; shape.iter().product()];
        format.dequantize(&bytes, &mut values).expect("whole blocks");
        let n = shape.get(2).copied().unwrap_or(1);
        let (mut bytes, mut scales) = (Vec::new(), Vec::new());
        for (j, values) in values.chunks_exact(values.len() / n).enumerate() {
            let once = in_nvfp4(values);
            let twice = doubled(&once).expect("scales below half of the largest");
            // Twice as large or half as large; the other size stands where a scale makes up for it.
            let (resized, other, scale) =
                if (i + j) % 2 == 0 { (twice, once, 2f32) } else { (once, twice, 0.5) };
            bytes.extend(if in_scales { other } else { resized });
            scales.extend(scale.to_le_bytes());
        }
        writer.tensor(info.name.clone(), Format::NVFP4, &shape, bytes);
        if in_scales {
            writer.tensor(format!("{map}.scale"), Format::F32, &[n], scales);
        }
    }
    let file = Gguf::from_bytes(writer.to_bytes().expect("a file")).expect("a file");
    (Model::load(&file).expect("a model"), maps)
}

/// The models of [`MAPS`] with a text, their maps in other sizes: in groups' scales, and in scales of their own.
fn models() -> impl Iterator<Item = (&'static str, Vec<u32>, [Model; 2])> {
    let all = golden();
    MAPS.into_iter().map(move |(name, expected)| {
        let golden = all.iter().find(|golden| golden.name == name).expect("a golden model");
        let file = Gguf::open(&golden.path).expect("a golden model");
        let models = [false, true].map(|in_scales| {
            let (model, maps) = resized(&file, in_scales);
            assert!(maps.iter().map(String::as_str).eq(expected.split(' ')), "{name}: {maps:?}");
            model
        });
        (name, golden.cases[0].0.clone(), models)
    })
}

#[test]
fn maps_of_all_kinds_may_have_a_scale() {
    for (name, tokens, models) in models() {
        let options = Options { n_ctx: tokens.len(), n_row: 512, ..Options::default() };
        for model in models {
            options.plan(&model).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}

#[test]
fn a_scale_of_a_map_of_any_kind_is_as_weights_of_that_size() {
    let Some(_gpu) = gpu() else { return };
    for (name, tokens, models) in models() {
        let options = Options { n_ctx: tokens.len(), n_row: 512, ..Options::default() };
        let [expected, found] = models.map(|model| {
            let mut executor = CudaExecutor::new(&model, &options, &mut |_, _| {}).expect("an executor");
            let prompt = logits(&mut executor, &tokens);
            [prompt, generated(&mut executor, &tokens[..24])]
        });
        assert!(found.iter().flatten().all(|logit| logit.is_finite()), "{name}");
        assert!(expected == found, "{name}");
        println!("{name:24} maps of half and twice the size");
    }
}
