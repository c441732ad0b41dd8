//! What is special about a family: read where a file says it, refused where no device would compute it.

use model::architecture::{Heads, KvSource, Mixer, Position, RopeScaling};

use super::*;

/// Sets one key, whether it was there or not.
pub(crate) fn added(name: &str, changed: &str, to: impl Into<Value>) -> Gguf {
    let mut writer = rewriting(name, |key, value| (key != changed).then(|| value.clone()), |_, _| true);
    writer.set(changed, to.into());
    Gguf::from_bytes(writer.to_bytes().unwrap()).unwrap()
}

fn windows(file: &Gguf) -> Vec<bool> {
    let model = Model::load(file).unwrap();
    let heads = model.architecture.mixers.iter().filter_map(Mixer::heads);
    heads.map(|heads| heads.window.is_some()).collect()
}

#[test]
fn local_layers_follow_from_the_family_or_from_the_file() {
    const GEMMA3: &str = "gemma3-q4_0.gguf";
    let default = with_key(GEMMA3, "general.name", None);
    assert_eq!(windows(&default), [true, true, true, true, true, false, true]);
    let Position::Rope(ropes) = Model::load(&default).unwrap().architecture.position else { panic!() };
    assert_eq!(ropes.layers, [1, 1, 1, 1, 1, 0, 1].map(Some));
    assert_eq!([ropes.kinds[0].base, ropes.kinds[1].base], [1e6, 1e4]);

    let key = "gemma3.attention.sliding_window_pattern";
    assert_eq!(windows(&added(GEMMA3, key, 2u32)), [true, false, true, false, true, false, true]);
    let listed = [false, false, true, false, false, false, true];
    assert_eq!(windows(&added(GEMMA3, key, listed.to_vec())), listed);
    check(
        &added(GEMMA3, key, listed[..6].to_vec()),
        &expect![
            "gemma3.attention.sliding_window_pattern: expected a period, or true or false for each of 7 layers, found another list"
        ],
    );
    check(
        &added(GEMMA3, key, 0u32),
        &expect!["gemma3.attention.sliding_window_pattern: expected a number from 1 to 4096, found 0"],
    );
    assert_eq!(windows(&with_key("gemma2-q4_0.gguf", "general.name", None)), [true, false, true, false]);
}

#[test]
fn a_window_makes_olmo3_of_olmo2() {
    const OLMO2: &str = "olmo2-q4_0.gguf";
    let key = |name: &str| format!("olmo2.{name}");
    let add: [(&str, Value); 5] = [
        ("attention.sliding_window", 16u32.into()),
        ("attention.sliding_window_pattern", vec![true, true, false].into()),
        ("rope.scaling.type", "yarn".into()),
        ("rope.scaling.factor", 8f32.into()),
        ("rope.scaling.original_context_length", 64u32.into()),
    ];
    let mut writer = rewriting(OLMO2, |_, value| Some(value.clone()), |_, _| true);
    for (name, value) in add {
        writer.set(key(name), value);
    }
    let file = Gguf::from_bytes(writer.to_bytes().unwrap()).unwrap();
    assert_eq!(windows(&file), [true, true, false]);
    let Position::Rope(ropes) = Model::load(&file).unwrap().architecture.position else { panic!() };
    assert_eq!(ropes.layers, [1, 1, 0].map(Some));
    assert!(matches!(ropes.kinds[0].scaling, RopeScaling::Yarn { factor: 8.0, .. }));
    assert_eq!((ropes.kinds[1].base, &ropes.kinds[1].scaling), (ropes.kinds[0].base, &RopeScaling::None));
    // Without a list, three layers of four.
    assert_eq!(windows(&added(OLMO2, &key("attention.sliding_window"), 16u32)), [true; 3]);
    assert_eq!(windows(&with_key(OLMO2, "general.name", None)), [false; 3]);
}

#[test]
fn key_heads_may_differ_by_layer() {
    let key = "qwen3.attention.head_count_kv";
    let file = |heads: Vec<u32>| added("qwen3-q4_0.gguf", key, heads);
    let same = Model::load(&with_key("qwen3-q4_0.gguf", "general.name", None)).unwrap().architecture;
    let n = same.heads(0).unwrap().n_kv_head as u32;
    let heads = vec![n; same.n_layer];
    assert_eq!(Model::load(&file(heads.clone())).unwrap().architecture, same);
    let mut other = heads.clone();
    other[1] = 1;
    let error = Model::load(&file(other)).expect_err("weights of another shape").to_string();
    assert!(error.starts_with("tensor \"blk.1.attn_k.weight\""), "{error}");
    other = heads;
    other[0] = 3;
    check(
        &file(other),
        &expect!["qwen3.attention.head_count_kv: expected a divisor of head_count = 4, found 3"],
    );
    check(
        &file(vec![n]),
        &expect![
            "qwen3.attention.head_count_kv: expected a number from 1 to 4096 for each of 3 layers, found a list of 1 values"
        ],
    );
    check(
        &file(vec![0; same.n_layer]),
        &expect![
            "qwen3.attention.head_count_kv: expected a number from 1 to 4096 for each of 3 layers, found 0 among them"
        ],
    );
}

const GEMMA4: &str = "gemma4-q4_0.gguf";

fn heads(file: &Gguf) -> Vec<Heads> {
    Model::load(file).unwrap().architecture.mixers.iter().filter_map(Mixer::heads).collect()
}

#[test]
fn gemma4_has_two_kinds_of_heads() {
    let file = with_key(GEMMA4, "general.name", None);
    let n_head = 4;
    let local = Heads { n_head, n_kv_head: 2, head_dim: 32, window: Some(16), source: KvSource::Projections };
    let global = Heads { n_head, n_kv_head: 1, head_dim: 64, window: None, source: KvSource::KeysAlone };
    assert_eq!(heads(&file), [local, local, local, global, local, global]);
    let architecture = Model::load(&file).unwrap().architecture;
    let Position::Rope(ropes) = &architecture.position else { panic!() };
    assert_eq!(ropes.kinds.iter().map(|rope| rope.n_rot).collect::<Vec<_>>(), [64, 32]);
    assert_eq!(ropes.layers, [1, 1, 1, 0, 1, 0].map(Some));
    let scales: Vec<_> = Model::load(&file).unwrap().weights.layers.iter().map(|l| l.scale).collect();
    assert!(scales.iter().all(Option::is_some));
    check(
        &with_key(GEMMA4, "gemma4.attention.sliding_window_pattern", None),
        &expect!["gemma4.attention.sliding_window_pattern: expected a number from 1 to 4096, found nothing"],
    );
    check(
        &added(GEMMA4, "gemma4.attention.value_length_swa", 64u32),
        &expect!["gemma4.attention.value_length_swa: expected attention.key_length_swa = 32, found 64"],
    );
    check(
        &added(GEMMA4, "gemma4.rope.dimension_count_swa", 34u32),
        &expect!["gemma4.rope.dimension_count_swa: expected a number from 2 to 32, found 34"],
    );
    check(
        &added(GEMMA4, "gemma4.expert_count", 4u32),
        &expect!["gemma4.expert_used_count: expected a number from 1 to 4, found nothing"],
    );
    let without = |tensor: &'static str| {
        rewritten(GEMMA4, |_, value| Some(value.clone()), move |name, _| name != tensor)
    };
    check(
        &without("blk.0.attn_v.weight"),
        &expect![[r#"missing tensor "blk.0.attn_v.weight" of shape [128, 64]"#]],
    );
    check(
        &without("blk.1.layer_output_scale.weight"),
        &expect![[r#"missing tensor "blk.1.layer_output_scale.weight" of shape [1]"#]],
    );
}

#[test]
fn the_last_layers_may_read_the_keys_and_values_of_earlier_ones() {
    let shared = |n: u32| added(GEMMA4, "gemma4.attention.shared_kv_layers", n);
    // What such a layer has of its own is left over from its training.
    let file = shared(2);
    let sources: Vec<_> = heads(&file).iter().map(|heads| heads.source).collect();
    assert_eq!(sources[4..], [KvSource::Layer(2), KvSource::Layer(3)]);
    let architecture = Model::load(&file).unwrap().architecture;
    assert_eq!((0..6).map(|n| architecture.cache_of(n)).collect::<Vec<_>>(), [0, 1, 2, 3, 2, 3]);
    assert_eq!(architecture.kv_layers().count(), 4);
    check(
        &shared(3),
        &expect![
            "gemma4.attention.shared_kv_layers: expected a layer before with the heads of layer 3, found none"
        ],
    );
    check(&shared(6), &expect!["gemma4.attention.shared_kv_layers: expected a number from 0 to 5, found 6"]);
}

#[test]
fn every_fourth_layer_of_smollm3_has_no_positions() {
    let file = with_key("smollm3-q4_0.gguf", "general.name", None);
    let Position::Rope(ropes) = Model::load(&file).unwrap().architecture.position else { panic!() };
    assert_eq!(ropes.layers, [Some(0), Some(0), Some(0), None]);
}

#[test]
fn queries_grow_with_each_original_context() {
    let file = with_key("mistral3-q4_0.gguf", "general.name", None);
    let temperature = Model::load(&file).unwrap().architecture.attention.temperature.unwrap();
    assert_eq!((temperature.at(0), temperature.at(31)), (1.0, 1.0));
    assert_eq!(temperature.at(32), 1.0 + 0.1 * 2f32.ln());
    check(
        &added("mistral3-q4_0.gguf", "mistral3.attention.temperature_scale", -1f32),
        &expect!["mistral3.attention.temperature_scale: expected a number of at least 0, found -1"],
    );
    let none = added("mistral3-q4_0.gguf", "mistral3.attention.temperature_scale", 0f32);
    assert_eq!(Model::load(&none).unwrap().architecture.attention.temperature, None);
}

#[test]
fn factors_are_above_zero_and_logits_are_divided() {
    const GRANITE: &str = "granite-q4_0.gguf";
    let scales = Model::load(&with_key(GRANITE, "general.name", None)).unwrap().architecture.scales;
    assert_eq!((scales.embedding, scales.residual, scales.logits), (6.0, 0.5, 4.0));
    check(
        &with_key(GRANITE, "granite.logit_scale", None),
        &expect!["granite.logit_scale: expected a number above 0, found nothing"],
    );
    check(
        &added(GRANITE, "granite.residual_scale", 0f32),
        &expect!["granite.residual_scale: expected a number above 0, found 0"],
    );
    check(
        &added(GRANITE, "granite.embedding_scale", f32::NAN),
        &expect!["granite.embedding_scale: expected a number above 0, found NaN"],
    );
    check(
        &added(GRANITE, "granite.rope.scaling.finetuned", false),
        &expect!["granite.rope.scaling.finetuned: expected true, found false"],
    );
}

#[test]
fn what_no_golden_file_proves_is_refused() {
    check(
        &added("gemma2-q4_0.gguf", "gemma2.attn_logit_softcapping", -1f32),
        &expect!["gemma2.attn_logit_softcapping: expected a number of at least 0, found -1"],
    );
    let without_norm = rewritten(
        "qwen3-q4_0.gguf",
        |_, value| Some(value.clone()),
        |name, _| name != "blk.1.attn_k_norm.weight",
    );
    check(&without_norm, &expect![[r#"missing tensor "blk.1.attn_k_norm.weight" of shape [64]"#]]);
}
