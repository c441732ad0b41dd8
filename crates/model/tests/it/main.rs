//! Golden files with one thing changed: what a model's metadata and tensors may not say, and the words in which it is refused.

mod complete;
mod families;
mod latent;
mod mixtures;
mod page;
mod pooling;
mod recurrent;
mod scales;
mod sparse;
mod yarn;

use expect_test::{Expect, expect};
use gguf::{Gguf, Value, Writer};
use model::Model;

use mixtures::with_keys;

/// A golden file, rewritten: `key` may change or drop a value, `tensor` a tensor's name (to one that no model has) or shape.
fn rewritten(
    name: &str,
    key: impl Fn(&str, &Value) -> Option<Value>,
    tensor: impl Fn(&str, &mut Vec<usize>) -> bool,
) -> Gguf {
    let writer = rewriting(name, key, tensor);
    Gguf::from_bytes(writer.to_bytes().unwrap()).unwrap()
}

/// As [`rewritten`], but not yet a file.
fn rewriting(
    name: &str,
    key: impl Fn(&str, &Value) -> Option<Value>,
    tensor: impl Fn(&str, &mut Vec<usize>) -> bool,
) -> Writer {
    let path = testkit::root().join("tests/golden").join(name);
    let file = Gguf::open(&path).unwrap();
    let mut writer = Writer::new();
    for (name, value) in file.metadata().iter() {
        if let Some(value) = key(name, value) {
            writer.set(name, value);
        }
    }
    for info in file.tensors() {
        let mut shape = info.shape.clone();
        let keep = tensor(&info.name, &mut shape);
        let name = if keep { info.name.clone() } else { format!("no.{}", info.name) };
        let bytes = file.tensor(&info.name).unwrap().bytes;
        writer.tensor(name, info.format, &shape, bytes);
    }
    writer
}

fn check(file: &Gguf, expected: &Expect) {
    expected.assert_eq(&Model::load(file).expect_err("a refusal").to_string());
}

/// Sets one key, or drops it.
fn with_key(name: &str, changed: &str, to: Option<&Value>) -> Gguf {
    let key = |key: &str, value: &Value| if key == changed { to.cloned() } else { Some(value.clone()) };
    rewritten(name, key, |_, _| true)
}

const LLAMA: &str = "llama-q4_0.gguf";
const GPT_OSS: &str = "gpt-oss-mxfp4_moe.gguf";

#[test]
fn an_unknown_architecture_is_refused_with_those_that_are_known() {
    let known = model::architectures::FAMILIES.map(|family| family.name).join(", ");
    for (to, found) in [(Some("mamba".into()), "mamba"), (None, "")] {
        let error =
            Model::load(&with_key(LLAMA, "general.architecture", to.as_ref())).expect_err("a refusal");
        assert_eq!(error.to_string(), format!("unknown architecture {found:?}; known are {known}"));
    }
}

#[test]
fn what_belongs_to_a_model_is_no_model_and_is_called_what_it_is() {
    for (key, to, found) in [
        ("general.type", "adapter", "a LoRA adapter: "),
        ("general.type", "mmproj", "the projector of a vision or audio model (mmproj): "),
        ("general.architecture", "clip", "the projector of a vision or audio model (mmproj): "),
        ("general.type", "imatrix", "an importance matrix, "),
        ("general.architecture", "controlvector", "a control vector, "),
    ] {
        let error = Model::load(&with_keys(LLAMA, &[(key, to.into())])).expect_err("a refusal").to_string();
        assert!(error.starts_with(&format!("expected a language model, found {found}")), "{error}");
    }
    assert!(Model::load(&with_keys(LLAMA, &[("general.type", "model".into())])).is_ok());
}

#[test]
fn sizes_that_make_no_model_are_refused_by_key() {
    let check = |name: &str, key: &str, to: Option<Value>, expected: &Expect| {
        check(&with_key(name, key, to.as_ref()), expected);
    };
    let count = |n: u32| Some(Value::from(n));
    check(
        LLAMA,
        "llama.block_count",
        count(0),
        &expect!["llama.block_count: expected a number from 1 to 4096, found 0"],
    );
    check(
        LLAMA,
        "llama.block_count",
        None,
        &expect!["llama.block_count: expected a number from 1 to 4096, found nothing"],
    );
    check(
        LLAMA,
        "llama.block_count",
        count(3),
        &expect![[r#"missing tensor "blk.2.attn_norm.weight" of shape [256]"#]],
    );
    check(
        LLAMA,
        "llama.block_count",
        count(u32::MAX),
        &expect!["llama.block_count: expected a number from 1 to 4096, found 4294967295"],
    );
    check(
        LLAMA,
        "llama.block_count",
        Some("two".into()),
        &expect![[r#"key "llama.block_count", byte 118: expected a non-negative integer, found string"#]],
    );
    check(
        LLAMA,
        "llama.attention.head_count",
        count(0),
        &expect!["llama.attention.head_count: expected a number from 1 to 4096, found 0"],
    );
    check(
        LLAMA,
        "llama.attention.head_count",
        count(3),
        &expect!["llama.attention.head_count_kv: expected a divisor of head_count = 3, found 2"],
    );
    check(
        LLAMA,
        "llama.attention.head_count_kv",
        count(0),
        &expect!["llama.attention.head_count_kv: expected a number from 1 to 4096, found 0"],
    );
    check(
        LLAMA,
        "llama.attention.head_count_kv",
        count(3),
        &expect!["llama.attention.head_count_kv: expected a divisor of head_count = 4, found 3"],
    );
    check(
        LLAMA,
        "llama.embedding_length",
        count(512),
        &expect![[r#"tensor "token_embd.weight": expected shape [512, 320], found [256, 320]"#]],
    );
    check(
        LLAMA,
        "llama.context_length",
        count(0),
        &expect!["llama.context_length: expected a number from 1 to 1073741824, found 0"],
    );
    check(
        LLAMA,
        "llama.rope.dimension_count",
        count(63),
        &expect!["llama.rope.dimension_count: expected an even number up to the head's size 64, found 63"],
    );
    check(
        LLAMA,
        "llama.rope.freq_base",
        Some(Value::from(0.0f32)),
        &expect!["llama.rope.freq_base: expected a number above 1, found 0"],
    );
    check(
        LLAMA,
        "llama.attention.layer_norm_rms_epsilon",
        Some(Value::from(f32::NAN)),
        &expect!["llama.attention.layer_norm_rms_epsilon: expected a finite number, found NaN"],
    );
    check(
        GPT_OSS,
        "gpt-oss.expert_used_count",
        count(7),
        &expect!["gpt-oss.expert_used_count: expected a number from 1 to 6, found 7"],
    );
    check(
        GPT_OSS,
        "gpt-oss.expert_count",
        count(5),
        &expect![[r#"tensor "blk.0.ffn_gate_inp.weight": expected shape [256, 5], found [256, 6]"#]],
    );
    check(
        GPT_OSS,
        "gpt-oss.rope.scaling.type",
        Some("bent".into()),
        &expect![[r#"gpt-oss.rope.scaling.type: expected none, linear or yarn, found "bent""#]],
    );
    check(
        GPT_OSS,
        "gpt-oss.rope.scaling.factor",
        Some(Value::from(-1.0f32)),
        &expect!["gpt-oss.rope.scaling.factor: expected a number above 0, found -1"],
    );
    check(
        GPT_OSS,
        "gpt-oss.attention.value_length",
        count(32),
        &expect!["gpt-oss.attention.value_length: expected attention.key_length = 64, found 32"],
    );
}

#[test]
fn tensors_that_are_missing_or_misshapen_are_refused_by_name() {
    let value = |_: &str, value: &Value| Some(value.clone());
    let without = |name: &str, missing: &str| rewritten(name, value, |tensor, _| tensor != missing);
    check(
        &without(LLAMA, "token_embd.weight"),
        &expect![[r#"missing tensor "token_embd.weight" of shape [256, 320]"#]],
    );
    check(
        &without(LLAMA, "blk.1.ffn_gate.weight"),
        &expect![[r#"missing tensor "blk.1.ffn_gate.weight" of shape [256, 512]"#]],
    );
    check(
        &without(LLAMA, "output_norm.weight"),
        &expect![[r#"missing tensor "output_norm.weight" of shape [256]"#]],
    );
    check(
        &without(GPT_OSS, "blk.0.attn_sinks.weight"),
        &expect![[r#"missing tensor "blk.0.attn_sinks.weight" of shape [8]"#]],
    );
    let turned = |name: &str, which: &str| {
        let turn = |tensor: &str, shape: &mut Vec<usize>| {
            if tensor == which {
                shape.reverse();
            }
            true
        };
        rewritten(name, value, turn)
    };
    check(
        &turned(LLAMA, "blk.0.ffn_down.weight"),
        &expect![[r#"tensor "blk.0.ffn_down.weight": expected shape [512, 256], found [256, 512]"#]],
    );
    check(
        &turned("gpt2-q4_k_m.gguf", "blk.0.attn_qkv.weight"),
        &expect![[r#"tensor "blk.0.attn_qkv.weight": expected shape [256, 768], found [768, 256]"#]],
    );
}

#[test]
fn every_family_loads_with_its_parts() {
    for golden in testkit::golden() {
        let file = Gguf::open(&golden.path).unwrap();
        let model = Model::load(&file).unwrap();
        let arch = &model.architecture;
        assert_eq!(arch.mixers.len(), arch.n_layer);
        assert_eq!(model.weights.layers.len(), arch.n_layer);
        // Nothing is copied but small vectors, so the weights are about the file.
        assert!(model.weights.n_bytes() <= file.file_len(), "{}", golden.name);
        assert!(model.weights.n_bytes() > file.file_len() * 9 / 10, "{}", golden.name);
    }
}
