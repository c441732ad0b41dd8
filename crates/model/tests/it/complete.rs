//! A file is complete or refused: a tensor that is not used, and a bias that only some layers have.

use model::weights::Layer;

use super::*;

fn kept(_: &str, value: &Value) -> Option<Value> {
    Some(value.clone())
}

/// A golden file with float32 tensors added.
fn with_tensors(name: &str, added: &[(&str, &[usize])]) -> Gguf {
    let mut writer = rewriting(name, kept, |_, _| true);
    for (name, shape) in added {
        let bytes = 1f32.to_le_bytes().repeat(shape.iter().product::<usize>());
        writer.tensor(*name, quant::Format::F32, shape, bytes);
    }
    Gguf::from_bytes(writer.to_bytes().unwrap()).unwrap()
}

#[test]
fn tensors_that_nothing_uses_are_refused_by_name() {
    let unused = |name: &str, shape: &[usize]| {
        let file = with_tensors(LLAMA, &[(name, shape)]);
        let expected = format!("1 tensor is no part of llama as its metadata describes it: {name:?}");
        assert_eq!(Model::load(&file).expect_err("a refusal").to_string(), expected);
    };
    unused("blk.0.attn_q_norm.weight", &[64]);
    unused("blk.0.attn_norm.bias", &[256usize]);
    unused("output_norm.bias", &[256]);
    unused("blk.0.post_attention_norm.weight", &[256]);
    unused("blk.0.ffn_gate_inp.weight", &[256, 4]);
    unused("blk.0.attn_sinks.weight", &[4]);
    unused("blk.2.attn_q.bias", &[256]);
    unused("rope_factors_short.weight", &[32]);
    check(
        &with_key(LLAMA, "llama.block_count", Some(&Value::from(1u32))),
        &expect![[
            r#"9 tensors are no part of llama as its metadata describes it: "blk.1.attn_k.weight", "blk.1.attn_norm.weight", "blk.1.attn_output.weight", "blk.1.attn_q.weight", ..."#
        ]],
    );
    check(
        &with_tensors("gpt2-q4_k_m.gguf", &[("rope_freqs.weight", &[32])]),
        &expect![[r#"1 tensor is no part of gpt2 as its metadata describes it: "rope_freqs.weight""#]],
    );
}

#[test]
fn what_follows_from_the_metadata_may_stand_in_the_file_too() {
    let file =
        with_tensors(LLAMA, &[("blk.0.attn_rot_embd", &[32]), ("blk.1.attn.rotary_emb.inv_freq", &[32])]);
    Model::load(&file).unwrap();
}

#[test]
fn biases_that_a_family_always_has_are_not_zero_where_they_are_missing() {
    let biases = |name: &str, roles: &[&str]| {
        for role in roles {
            let missing = format!("blk.1.{role}.bias");
            let file = rewritten(name, kept, |tensor, _| tensor != missing);
            let error = Model::load(&file).expect_err(&missing).to_string();
            assert!(error.starts_with(&format!("missing tensor {missing:?}")), "{error}");
            // In no layer at all is no better.
            let end = format!(".{role}.bias");
            let file = rewritten(name, kept, |tensor, _| !tensor.ends_with(&end));
            let error = Model::load(&file).expect_err(&missing).to_string();
            assert!(error.starts_with(&format!("missing tensor \"blk.0.{role}.bias\"")), "{error}");
        }
    };
    biases("qwen2-q4_k_m.gguf", &["attn_q", "attn_k", "attn_v"]);
    biases("gpt2-q4_k_m.gguf", &["attn_qkv", "attn_output", "attn_norm", "ffn_norm", "ffn_up", "ffn_down"]);
    let experts = ["ffn_gate_inp", "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"];
    biases(GPT_OSS, &[&["attn_q", "attn_k", "attn_v", "attn_output"], experts.as_slice()].concat());
}

#[test]
fn a_bias_that_may_be_there_is_there_in_every_layer() {
    let output = |n: usize| (format!("blk.{n}.attn_output.bias"), [256]);
    let [(first, shape), (second, _)] = [output(0), output(1)];
    let both = with_tensors(LLAMA, &[(&first, &shape), (&second, &shape)]);
    let layers = Model::load(&both).unwrap().weights.layers;
    let output = |layer: &Layer| layer.mixer.parts().0.last().map(|output| output.bias.is_some());
    assert!(layers.iter().all(|layer| output(layer) == Some(true)));
    let missing = |there: &[(&str, &[usize])], missing: &str, n: usize| {
        let error = Model::load(&with_tensors(LLAMA, there)).expect_err(missing).to_string();
        assert_eq!(error, format!("missing tensor {missing:?} of shape [{n}]"));
    };
    missing(&[(&first, &shape)], &second, 256);
    missing(&[(&second, &shape)], &first, 256);
    // Q, K and V have theirs together.
    missing(&[("blk.0.attn_q.bias", &[256]), ("blk.1.attn_q.bias", &[256])], "blk.0.attn_k.bias", 128);
}
