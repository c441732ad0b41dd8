//! Scales of whole matrices, as files in NVFP4 have them: which matrix has which, and what is refused.

use model::weights::{Ffn, Linear};
use quant::Format;

use super::*;

const DENSE: &str = "qwen3-scales-nvfp4.gguf";

/// A golden file with a tensor of equal floats, in the place of one of that name or beside all others.
fn with_floats(name: &str, tensor: &str, shape: &[usize], value: f32) -> Gguf {
    let file = Gguf::open(&testkit::root().join("tests/golden").join(name)).unwrap();
    let mut writer = Writer::new();
    for (key, value) in file.metadata().iter() {
        writer.set(key, value.clone());
    }
    for info in file.tensors().iter().filter(|info| info.name != tensor) {
        let bytes = file.tensor(&info.name).unwrap().bytes;
        writer.tensor(info.name.clone(), info.format, &info.shape, bytes);
    }
    let bytes = value.to_le_bytes().repeat(shape.iter().product());
    writer.tensor(tensor, Format::F32, shape, bytes);
    Gguf::from_bytes(writer.to_bytes().unwrap()).unwrap()
}

fn scale(linear: &Linear) -> Option<f32> {
    linear.weight.scale
}

#[test]
fn a_matrix_has_the_scale_of_its_name_or_none() {
    let file = Gguf::open(&testkit::root().join("tests/golden").join(DENSE)).unwrap();
    let model = Model::load(&file).unwrap();
    let expected = |name: &str| {
        let tensor = file.tensor(&format!("{name}.scale"))?;
        Some(f32::from_le_bytes(tensor.bytes[..].try_into().unwrap()))
    };
    assert_eq!(scale(&model.weights.output), expected("output"));
    for (n, layer) in model.weights.layers.iter().enumerate() {
        let Ffn::Gated(ffn) = &layer.ffn else { panic!("{layer:?}") };
        let all = layer.mixer.parts().0.into_iter().chain([&ffn.gate, &ffn.up, &ffn.down]);
        let mut n_scale = 0;
        for linear in all {
            let name = linear.weight.name.strip_suffix(".weight").unwrap();
            assert_eq!(scale(linear), expected(name), "{name}");
            n_scale += usize::from(scale(linear).is_some());
        }
        // The second layer's values have none.
        assert_eq!(n_scale, 7 - n);
    }
    assert_eq!(model.weights.token_embd.scale, None);
}

#[test]
fn the_parts_of_a_matrix_have_its_scale() {
    let file = with_floats("phi3-q4_k_m.gguf", "blk.1.attn_qkv.scale", &[1], 0.5);
    let layers = Model::load(&file).unwrap().weights.layers;
    let scales = |n: usize| layers[n].mixer.parts().0.into_iter().map(scale).collect::<Vec<_>>();
    assert_eq!(scales(0), [None; 4]);
    assert_eq!(scales(1), [Some(0.5), Some(0.5), Some(0.5), None]);
    let file = with_floats("deepseek2-plain-q4_0.gguf", "blk.1.attn_kv_b.scale", &[1], 0.5);
    let layers = Model::load(&file).unwrap().weights.layers;
    // A map for keys and one for values of each head.
    for linear in layers[1].mixer.parts().0 {
        let expected = linear.weight.name.contains("attn_kv_b").then_some(0.5);
        assert_eq!(scale(linear), expected, "{linear:?}");
    }
}

#[test]
fn scales_count_as_bytes_of_the_model() {
    let n_bytes = |file: &Gguf| Model::load(file).unwrap().weights.n_bytes();
    let none = Gguf::open(&testkit::root().join("tests/golden").join(LLAMA)).unwrap();
    let one = with_floats(LLAMA, "blk.0.attn_q.scale", &[1], 2.0);
    assert_eq!(n_bytes(&one), n_bytes(&none) + 4);
}

#[test]
fn scales_that_make_no_sense_are_refused_by_name() {
    const SCALE: &str = "blk.1.ffn_up.scale";
    for (value, expected) in [
        (0.0, expect!["blk.1.ffn_up.scale: expected finite scales above 0, found 0"]),
        (-1.0, expect!["blk.1.ffn_up.scale: expected finite scales above 0, found -1"]),
        (f32::NAN, expect!["blk.1.ffn_up.scale: expected finite scales above 0, found NaN"]),
        (f32::INFINITY, expect!["blk.1.ffn_up.scale: expected finite scales above 0, found inf"]),
    ] {
        check(&with_floats(DENSE, SCALE, &[1], value), &expected);
    }
    check(
        &with_floats(DENSE, SCALE, &[2], 1.0),
        &expect![[r#"tensor "blk.1.ffn_up.scale": expected shape [1], found [2]"#]],
    );
    check(
        &with_floats("qwen3moe-scales-nvfp4.gguf", "blk.0.ffn_up_exps.scale", &[1], 1.0),
        &expect![[r#"tensor "blk.0.ffn_up_exps.scale": expected shape [4], found [1]"#]],
    );
}

#[test]
fn scales_of_what_no_scale_multiplies_are_refused_by_name() {
    let unused = |model: &str, name: &str, shape: &[usize]| {
        let error = Model::load(&with_floats(model, name, shape, 1.0)).expect_err("a refusal").to_string();
        assert!(error.starts_with("1 tensor is no part of ") && error.contains(name), "{error}");
    };
    unused(LLAMA, "token_embd.scale", &[1]);
    unused(LLAMA, "blk.0.attn_norm.scale", &[1]);
    unused(LLAMA, "blk.0.attn_qkv.scale", &[1]);
    unused(LLAMA, "blk.2.attn_q.scale", &[1]);
    unused(LLAMA, "blk.0.ffn_up_exps.scale", &[4]);
    unused(LLAMA, "blk.0.attn_qkv.input_scale", &[1]);
    unused(LLAMA, "blk.2.attn_q.input_scale", &[1]);
    unused(LLAMA, "token_embd.input_scale", &[1]);
    unused(LLAMA, "blk.0.attn_norm.input_scale", &[1]);
    unused("gemma4-ple-q4_0.gguf", "per_layer_token_embd.scale", &[1]);
    // Its output is the embedding.
    unused("qwen3moe-scales-nvfp4.gguf", "output.scale", &[1]);
}

#[test]
fn scales_for_rounding_activations_have_no_part_in_the_result() {
    let model = Model::load(&with_floats(LLAMA, "blk.0.attn_q.input_scale", &[1], 2.0)).unwrap();
    assert_eq!(model.weights.layers[0].mixer.parts().0.into_iter().find_map(scale), None);
}
