//! YaRN as files state it: what follows from the family, and which keys no device computes.

use gguf::{Gguf, Value, Writer};
use model::architecture::{Position, RopeScaling};
use model::{ModelError, architectures};

/// The scaling of a golden model with one key added.
fn scaling(name: &str, added: Option<(&str, f32)>) -> Result<RopeScaling, ModelError> {
    let file = Gguf::open(&testkit::root().join("tests/golden").join(name)).unwrap();
    let mut writer = Writer::new();
    for (key, value) in file.metadata().iter() {
        writer.set(key, value.clone());
    }
    if let Some((key, value)) = added {
        writer.set(key, Value::from(value));
    }
    for info in file.tensors() {
        let bytes = file.tensor(&info.name).unwrap().bytes;
        writer.tensor(info.name.clone(), info.format, &info.shape, bytes);
    }
    let file = Gguf::from_bytes(writer.to_bytes().unwrap()).unwrap();
    match architectures::read(&file)?.1.position {
        Position::Rope(ropes) => Ok(ropes.kinds[0].scaling.clone()),
        other => panic!("expected rotary positions, found {other:?}"),
    }
}

/// `rounded` and `attn_factor`.
fn yarn(name: &str, added: Option<(&str, f32)>) -> (bool, f32) {
    match scaling(name, added) {
        Ok(RopeScaling::Yarn { rounded, attn_factor, .. }) => (rounded, attn_factor),
        other => panic!("expected YaRN, found {other:?}"),
    }
}

const QWEN2: &str = "qwen2-yarn-q4_0.gguf";

#[test]
fn the_correction_range_is_rounded_but_for_gpt_oss() {
    assert!(yarn(QWEN2, None).0);
    assert!(!yarn("gpt-oss-mxfp4_moe.gguf", None).0);
}

#[test]
fn the_attention_factor_follows_from_the_ratio_and_the_keys() {
    let close = |found: (bool, f32), expected: f32| assert!((found.1 - expected).abs() < 1e-6, "{found:?}");
    let magnitude = 0.1 * 4f32.ln() + 1.0;
    close(yarn(QWEN2, None), magnitude);
    close(yarn(QWEN2, Some(("qwen2.rope.scaling.attn_factor", 0.5))), 0.5 * magnitude);
    close(yarn(QWEN2, Some(("qwen2.rope.scaling.yarn_attn_factor", 0.5))), 0.5 * magnitude);
    close(yarn(QWEN2, Some(("qwen2.rope.scaling.yarn_log_multiplier", 1.0))), 1.0);
    close(
        yarn(QWEN2, Some(("qwen2.rope.scaling.yarn_log_multiplier", 2.0))),
        magnitude / (0.2 * 4f32.ln() + 1.0),
    );
}

#[test]
fn what_is_not_computed_is_refused_by_key() {
    for (key, value, expected) in [
        ("beta_slow", 0.0, "beta_slow: expected a number above 0, found 0"),
        ("beta_fast", 0.5, "beta_fast: expected at least yarn_beta_slow = 1, found 0.5"),
        ("ext_factor", 0.0, "ext_factor: expected 1, found 0"),
        ("log_multiplier", -9.0, "log_multiplier: expected a number of at least 0, found -9"),
    ] {
        let key = format!("qwen2.rope.scaling.yarn_{key}");
        let error = scaling(QWEN2, Some((&key, value))).expect_err("a refusal").to_string();
        assert_eq!(error, format!("qwen2.rope.scaling.yarn_{expected}"));
    }
}
