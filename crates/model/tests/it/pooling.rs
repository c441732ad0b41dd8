//! What a file says of texts' vectors and ranks.

use gguf::Array;
use model::Pooling;
use quant::Format;

use super::*;
use crate::families::added;

const QWEN3: &str = "qwen3-q4_0.gguf";
const KEY: &str = "qwen3.pooling_type";

#[test]
fn pooling_is_what_the_file_says() {
    let read = |to: Option<i32>| {
        let file = to.map_or_else(|| with_key(QWEN3, "general.name", None), |to| added(QWEN3, KEY, to));
        Model::load(&file).unwrap().pooling
    };
    for (to, expected) in [
        (None, None),
        (Some(-1), None),
        (Some(0), Some(Pooling::None)),
        (Some(1), Some(Pooling::Mean)),
        (Some(2), Some(Pooling::First)),
        (Some(3), Some(Pooling::Last)),
        (Some(4), Some(Pooling::Rank)),
    ] {
        assert_eq!(read(to), expected);
    }
    check(
        &added(QWEN3, KEY, 5u32),
        &expect!["qwen3.pooling_type: expected 0 (none), 1 (mean), 2 (cls), 3 (last) or 4 (rank), found 5"],
    );
    check(
        &added(QWEN3, "qwen3.attention.causal", false),
        &expect![
            "qwen3.attention.causal: expected true: a token sees those before it and none after it, found false"
        ],
    );
}

/// A golden file with a classifier of these labels and this shape.
fn classifier(name: &str, labels: Option<&[&str]>, shape: &[usize]) -> Gguf {
    let mut writer = rewriting(name, |_, value| Some(value.clone()), |_, _| true);
    let values: Vec<f32> = (0..shape.iter().product()).map(|i: usize| i as f32).collect();
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    writer.tensor("cls.output.weight", Format::F32, shape, bytes);
    if let Some(labels) = labels {
        writer.set("qwen3.classifier.output_labels", Array::string_array(labels));
    }
    Gguf::from_bytes(writer.to_bytes().unwrap()).unwrap()
}

#[test]
fn a_classifier_has_a_row_for_each_label() {
    let model = Model::load(&classifier(QWEN3, Some(&["yes", "no"]), &[128, 2])).unwrap();
    let found = model.classifier.unwrap();
    assert_eq!((found.n_label, found.weight.len(), found.weight[129], found.bias), (2, 256, 129.0, None));
    assert_eq!(Model::load(&classifier(QWEN3, None, &[128])).unwrap().classifier.unwrap().n_label, 1);
    check(
        &classifier(QWEN3, Some(&["yes"]), &[128, 2]),
        &expect![
            "qwen3.classifier.output_labels: expected a text for each row of cls.output.weight, 1 to 1024, found 1 for 2 rows"
        ],
    );
    check(
        &classifier(QWEN3, None, &[127, 2]),
        &expect![[r#"tensor "cls.output.weight": expected shape [128, 2], found [127, 2]"#]],
    );
    check(
        &classifier(LLAMA, None, &[256, 2]),
        &expect![[r#"1 tensor is no part of llama as its metadata describes it: "cls.output.weight""#]],
    );
}
