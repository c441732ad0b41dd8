//! What is special about a family: read where a file says it, refused where no device would compute it.

use model::architecture::Position;

use super::*;

/// Sets one key, whether it was there or not.
pub(crate) fn added(name: &str, changed: &str, to: impl Into<Value>) -> Gguf {
    let mut writer = rewriting(name, |key, value| (key != changed).then(|| value.clone()), |_, _| true);
    writer.set(changed, to.into());
    Gguf::from_bytes(writer.to_bytes().unwrap()).unwrap()
}

fn windows(file: &Gguf) -> Vec<bool> {
    let model = Model::load(file).unwrap();
    model.architecture.attention.window.iter().map(Option::is_some).collect()
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
        &added("olmo2-q4_0.gguf", "olmo2.attention.sliding_window", 4096u32),
        &expect!["olmo2.attention.sliding_window: expected no window, found 4096"],
    );
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
