//! Latent attention as files state it: two generations of keys and tensors, its router, its YaRN.

use model::architecture::{Gating, Latent, Mixer, Position, RopeScaling, Router};
use model::weights::{KeyMaps, MixerWeights};
use model::{Architecture, Matrix};

use super::*;

/// Keys and tensors from before 2025-04, and from since.
const EARLIER: &str = "deepseek2-plain-q4_0.gguf";
const TODAY: &str = "deepseek2-v3-yarn-q8_0.gguf";

fn architecture(file: &Gguf) -> Architecture {
    model::architectures::read(file).unwrap().1
}

fn without(name: &str, tensor: &str) -> Gguf {
    rewritten(name, |_, value| Some(value.clone()), |other, _| !other.ends_with(tensor))
}

#[test]
fn both_generations_state_the_same_sizes() {
    let latent = Latent { n_head: 4, q_rank: Some(64), kv_rank: 64, n_rot: 32, n_plain: 32, n_value: 32 };
    let shape = |matrix: &Matrix| [matrix.n_rows, matrix.n_cols];
    for (name, of_queries) in [(EARLIER, false), (TODAY, true)] {
        let model = Model::load(&with_key(name, "general.name", None)).unwrap();
        assert_eq!(model.architecture.mixers, [Mixer::Latent(latent); 2]);
        let heads = model.architecture.kv_layers().next().unwrap();
        assert_eq!((heads.n_kv_head, heads.head_dim, heads.has_values()), (1, 96, false));
        for layer in &model.weights.layers {
            let MixerWeights::Latent(weights) = &layer.mixer else { panic!("{:?}", layer.mixer) };
            let (maps, expected) = match &weights.k {
                KeyMaps::OfQueries(maps) if of_queries => (maps, [64, 32]),
                KeyMaps::OfKeys(maps) if !of_queries => (maps, [32, 64]),
                other => panic!("{name}: {other:?}"),
            };
            assert!(maps.len() == 4 && maps.iter().all(|map| shape(&map.weight) == expected), "{maps:?}");
            assert!(weights.v.len() == 4 && weights.v.iter().all(|map| shape(&map.weight) == [32, 64]));
        }
    }
}

#[test]
fn the_whole_map_of_keys_and_values_is_cut_by_heads() {
    let model = Model::load(&with_key(EARLIER, "general.name", None)).unwrap();
    let MixerWeights::Latent(weights) = &model.weights.layers[1].mixer else { panic!() };
    let (KeyMaps::OfKeys(keys) | KeyMaps::OfQueries(keys)) = &weights.k;
    let cut: Vec<u8> = keys
        .iter()
        .zip(&weights.v)
        .flat_map(|(key, value)| [key.weight.bytes(), value.weight.bytes()].concat())
        .collect();
    let file = with_key(EARLIER, "general.name", None);
    assert!(cut == *file.tensor("blk.1.attn_kv_b.weight").unwrap().bytes);
}

#[test]
fn sizes_that_contradict_each_other_are_refused_by_key() {
    let check = |name: &str, key: &str, to: Option<Value>, expected: &Expect| {
        check(&with_key(name, &format!("deepseek2.{key}"), to.as_ref()), expected);
    };
    let count = |n: u32| Some(Value::from(n));
    check(
        TODAY,
        "attention.key_length",
        count(64),
        &expect!["deepseek2.attention.key_length: expected a number from 96 to 96, found 64"],
    );
    check(
        TODAY,
        "attention.key_length_mla",
        None,
        &expect!["deepseek2.attention.head_count_kv: expected a number from 4 to 4, found 1"],
    );
    check(
        EARLIER,
        "attention.kv_lora_rank",
        None,
        &expect!["deepseek2.attention.kv_lora_rank: expected a number from 1 to 4096, found nothing"],
    );
    check(
        EARLIER,
        "rope.dimension_count",
        count(64),
        &expect!["deepseek2.rope.dimension_count: expected less than attention.key_length = 64, found 64"],
    );
    check(
        TODAY,
        "attention.q_lora_rank",
        None,
        &expect![[r#"missing tensor "blk.0.attn_q.weight" of shape [128, 256]"#]],
    );
    check(
        TODAY,
        "rope.scaling.yarn_log_multiplier",
        Some(Value::from(-1f32)),
        &expect!["deepseek2.rope.scaling.yarn_log_multiplier: expected a number of at least 0, found -1"],
    );
}

#[test]
fn tensors_of_latent_attention_are_needed_by_name() {
    check(
        &without(TODAY, "attn_k_b.weight"),
        &expect![[r#"missing tensor "blk.0.attn_k_b.weight" of shape [32, 64, 4]"#]],
    );
    check(
        &without(EARLIER, "attn_kv_b.weight"),
        &expect![[r#"missing tensor "blk.0.attn_k_b.weight" of shape [32, 64, 4]"#]],
    );
    check(
        &without(TODAY, "attn_kv_a_norm.weight"),
        &expect![[r#"missing tensor "blk.0.attn_kv_a_norm.weight" of shape [64]"#]],
    );
}

#[test]
fn yarn_multiplies_the_scores_where_a_key_says_so() {
    let of = |multiplier: Option<f32>| {
        let key = "deepseek2.rope.scaling.yarn_log_multiplier";
        let architecture = architecture(&with_key(TODAY, key, multiplier.map(Value::from).as_ref()));
        let Position::Rope(ropes) = architecture.position else { panic!() };
        let RopeScaling::Yarn { factor, attn_factor, .. } = ropes.kinds[0].scaling else { panic!() };
        assert_eq!(factor, 8.0);
        (attn_factor, architecture.attention.scale)
    };
    let close = |(a, b): (f32, f32), (c, d): (f32, f32)| (a - c).abs() < 1e-6 && (b - d).abs() < 1e-6;
    assert!(close(of(Some(0.1)), (1.0, (1.0 + 0.1 * 8f32.ln()).powi(2) / 8.0)));
    assert!(close(of(Some(0.0707)), (1.0, (1.0 + 0.0707 * 8f32.ln()).powi(2) / 8.0)));
    assert!(close(of(None), (1.0 + 0.1 * 8f32.ln(), 1.0 / 8.0)));
}

#[test]
fn a_bias_of_the_choice_tells_of_sigmoids_where_no_key_does() {
    let router = |file: &Gguf| -> Router { architecture(file).mixture().unwrap().router };
    let stated = router(&with_key(EARLIER, "general.name", None));
    assert_eq!((stated.gating, stated.has_choice_bias), (Gating::Sigmoid, true));
    assert_eq!((stated.is_normalised, stated.scale), (true, 2.5));
    let none = router(&with_key(EARLIER, "deepseek2.expert_gating_func", None));
    assert_eq!(none, stated);
    let key = |key: &str, value: &Value| {
        let stays = !["deepseek2.expert_gating_func", "deepseek2.expert_weights_norm"].contains(&key);
        stays.then(|| value.clone())
    };
    let v2 = router(&rewritten(EARLIER, key, |name, _| !name.ends_with("exp_probs_b.bias")));
    assert_eq!((v2.gating, v2.has_choice_bias, v2.is_normalised), (Gating::Softmax, false, false));
}
