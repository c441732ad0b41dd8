//! Mixtures of experts as files state them: which layers have one, its router, its shared experts, and how its tensors are cut.

use model::Matrix;
use model::architecture::{FeedForward, Gating, Groups, Mixture, Shared};
use model::weights::Ffn;
use quant::Format;

use super::*;

const GLM: &str = "glm4moe-q4_0.gguf";

/// A golden file with keys set.
pub(crate) fn with_keys(name: &str, set: &[(&str, Value)]) -> Gguf {
    let keep =
        |key: &str, value: &Value| (!set.iter().any(|(changed, _)| *changed == key)).then(|| value.clone());
    let mut writer = rewriting(name, keep, |_, _| true);
    for (key, value) in set {
        writer.set(*key, value.clone());
    }
    Gguf::from_bytes(writer.to_bytes().unwrap()).unwrap()
}

fn glm(set: &[(&str, Value)]) -> Vec<FeedForward> {
    Model::load(&with_keys(GLM, set)).unwrap().architecture.feed_forward
}

fn mixture(set: &[(&str, Value)]) -> Mixture {
    *glm(set)[2].mixture().unwrap()
}

#[test]
fn the_layers_in_front_are_dense() {
    let layers = glm(&[]);
    assert_eq!(layers.iter().map(|layer| layer.n_ff).collect::<Vec<_>>(), [192, 32, 32]);
    assert_eq!(layers.iter().map(|layer| layer.mixture().is_some()).collect::<Vec<_>>(), [false, true, true]);
    check(
        &with_keys(GLM, &[("glm4moe.leading_dense_block_count", Value::from(2u32))]),
        &expect![[r#"missing tensor "blk.1.ffn_gate.weight" of shape [128, 192]"#]],
    );
    check(
        &with_keys(GLM, &[("glm4moe.leading_dense_block_count", Value::from(4u32))]),
        &expect!["glm4moe.leading_dense_block_count: expected a number from 0 to 3, found 4"],
    );
}

#[test]
fn widths_may_be_listed_by_block() {
    const KEY: &str = "glm4moe.feed_forward_length";
    let listed = |widths: Vec<u32>| with_keys(GLM, &[(KEY, Value::from(widths))]);
    let layers = Model::load(&listed(vec![192, 7, 9])).unwrap().architecture.feed_forward;
    assert_eq!(layers, glm(&[]));
    check(
        &listed(vec![192, 7]),
        &expect![
            "glm4moe.feed_forward_length: expected a number from 1 to 1048576 for each of 3 layers, found a list of 2 values"
        ],
    );
    check(
        &listed(vec![192, 0, 9]),
        &expect![
            "glm4moe.feed_forward_length: expected a number from 1 to 1048576 for each of 3 layers, found 0 among them"
        ],
    );
    check(
        &with_keys(GLM, &[(KEY, Value::from(vec![true; 3]))]),
        &expect![
            "glm4moe.feed_forward_length: expected a number from 1 to 1048576 for each of 3 layers, found others"
        ],
    );
    check(
        &listed(vec![160, 7, 9]),
        &expect![[r#"tensor "blk.0.ffn_gate.weight": expected shape [128, 160], found [128, 192]"#]],
    );
}

#[test]
fn a_router_follows_from_the_family_and_the_keys() {
    let Mixture { n_expert, n_used, router, shared, .. } = mixture(&[]);
    assert_eq!((n_expert, n_used), (8, 3));
    assert_eq!((router.gating, router.has_choice_bias, router.groups), (Gating::Sigmoid, true, None));
    assert!(router.is_normalised);
    assert_eq!(shared, Some(Shared { n_ff: 32, has_gate: false }));

    let number = |key, value: u32| (key, Value::from(value));
    let gating = |n| mixture(&[number("glm4moe.expert_gating_func", n)]).router.gating;
    // The bias counts for the choice by probabilities, so that the softmax of the chosen is another router.
    assert_eq!(
        [0, 1, 2, 3].map(gating),
        [Gating::Sigmoid, Gating::Softmax, Gating::Sigmoid, Gating::SoftmaxOfChosen]
    );
    let groups = [number("glm4moe.expert_group_count", 4), number("glm4moe.expert_group_used_count", 2)];
    assert_eq!(mixture(&groups).router.groups, Some(Groups { n_group: 4, n_used: 2 }));
    let unscaled = mixture(&[
        ("glm4moe.expert_weights_scale", Value::from(0f32)),
        ("glm4moe.expert_weights_norm", Value::from(false)),
    ]);
    assert_eq!((unscaled.router.scale, unscaled.router.is_normalised), (1.0, false));

    let file = Gguf::open(&testkit::root().join("tests/golden/qwen3moe-q4_0.gguf")).unwrap();
    let of_chosen = *Model::load(&file).unwrap().architecture.mixture().unwrap();
    let stated = with_keys("qwen3moe-q4_0.gguf", &[number("qwen3moe.expert_gating_func", 1)]);
    assert_eq!(*Model::load(&stated).unwrap().architecture.mixture().unwrap(), of_chosen);
}

#[test]
fn routers_that_make_no_sense_are_refused_by_key() {
    let refused = |key: &str, value: Value, expected: &Expect| {
        let groups = ("glm4moe.expert_group_used_count", Value::from(1u32));
        check(&with_keys(GLM, &[groups, (key, value)]), expected);
    };
    refused(
        "glm4moe.expert_gating_func",
        Value::from(4u32),
        &expect![
            "glm4moe.expert_gating_func: expected 1 (softmax), 2 (sigmoid) or 3 (softmax of the chosen), found 4"
        ],
    );
    refused(
        "glm4moe.expert_weights_scale",
        Value::from(-1f32),
        &expect!["glm4moe.expert_weights_scale: expected a number of at least 0, found -1"],
    );
    refused(
        "glm4moe.expert_group_count",
        Value::from(3u32),
        &expect!["glm4moe.expert_group_count: expected a divisor of expert_count = 8, found 3"],
    );
    // Three experts of groups of two need two groups.
    refused(
        "glm4moe.expert_group_count",
        Value::from(4u32),
        &expect!["glm4moe.expert_group_used_count: expected a number from 2 to 4, found 1"],
    );
    refused(
        "glm4moe.expert_shared_count",
        Value::from(u32::MAX),
        &expect!["glm4moe.expert_shared_count: expected a number from 0 to 32768, found 4294967295"],
    );
    refused(
        "glm4moe.expert_shared_count",
        Value::from(0u32),
        &expect![[
            r#"6 tensors are no part of glm4moe as its metadata describes it: "blk.1.ffn_down_shexp.weight", "blk.1.ffn_gate_shexp.weight", "blk.1.ffn_up_shexp.weight", "blk.2.ffn_down_shexp.weight", ..."#
        ]],
    );
    let without = |missing: &str| rewritten(GLM, |_, value| Some(value.clone()), |name, _| name != missing);
    check(
        &without("blk.2.exp_probs_b.bias"),
        &expect![[r#"missing tensor "blk.2.exp_probs_b.bias" of shape [8]"#]],
    );
}

#[test]
fn blocks_that_predict_further_tokens_are_no_layers() {
    let file = with_keys(GLM, &[("glm4moe.nextn_predict_layers", Value::from(1u32))]);
    let model = Model::load(&file).unwrap();
    assert_eq!((model.architecture.n_layer, model.architecture.n_nextn), (2, 1));
    assert_eq!((model.weights.layers.len(), model.architecture.feed_forward.len()), (2, 2));
    check(
        &with_keys(GLM, &[("glm4moe.nextn_predict_layers", Value::from(3u32))]),
        &expect!["glm4moe.nextn_predict_layers: expected a number from 0 to 2, found 3"],
    );
}

/// A golden mixture with gate and up of all experts in one tensor, and scales of their matrices.
fn fused() -> Gguf {
    let keep = |name: &str| !name.contains("_gate_exps") && !name.contains("_up_exps");
    let path = testkit::root().join("tests/golden").join(GLM);
    let file = Gguf::open(&path).unwrap();
    let mut writer = Writer::new();
    for (key, value) in file.metadata().iter() {
        writer.set(key, value.clone());
    }
    for info in file.tensors().iter().filter(|info| keep(&info.name)) {
        let bytes = file.tensor(&info.name).unwrap().bytes;
        writer.tensor(info.name.clone(), info.format, &info.shape, bytes);
    }
    for n in [1, 2] {
        let [gate, up] =
            ["gate", "up"].map(|role| file.tensor(&format!("blk.{n}.ffn_{role}_exps.weight")).unwrap());
        let expert = gate.bytes.len() / 8;
        let both = gate.bytes.chunks(expert).zip(up.bytes.chunks(expert));
        let bytes: Vec<u8> = both.flat_map(|(gate, up)| [gate, up].concat()).collect();
        writer.tensor(format!("blk.{n}.ffn_gate_up_exps.weight"), gate.info.format, &[128, 64, 8], bytes);
        for (role, first) in [("gate_up", 11), ("down", 1)] {
            let scales = (first..first + 8u8).flat_map(|e| f32::from(e).to_le_bytes()).collect::<Vec<_>>();
            writer.tensor(format!("blk.{n}.ffn_{role}_exps.scale"), Format::F32, &[8], scales);
        }
    }
    Gguf::from_bytes(writer.to_bytes().unwrap()).unwrap()
}

#[test]
fn gate_and_up_in_one_tensor_are_cut_by_expert_and_keep_its_scale() {
    let apart = Model::load(&with_keys(GLM, &[])).unwrap();
    let model = Model::load(&fused()).unwrap();
    for (found, expected) in model.weights.layers.iter().zip(&apart.weights.layers).skip(1) {
        let (Ffn::Experts(found), Ffn::Experts(expected)) = (&found.ffn, &expected.ffn) else { panic!() };
        let bytes = |matrix: &Matrix| matrix.bytes().to_vec();
        for (found, expected) in [(&found.gate, &expected.gate), (&found.up, &expected.up)] {
            assert_eq!(found.len(), 8);
            assert!(found.iter().zip(expected).all(|(a, b)| bytes(&a.weight) == bytes(&b.weight)));
        }
        for (matrices, first) in [(&found.gate, 11u8), (&found.up, 11), (&found.down, 1)] {
            let scales = matrices.iter().map(|linear| linear.weight.scale);
            assert!(scales.eq((first..first + 8).map(|e| Some(f32::from(e)))), "{matrices:?}");
        }
        assert_eq!((&found.scale, &expected.scale, expected.down[0].weight.scale), (&None, &None, None));
    }
}

#[test]
fn experts_beside_a_dense_feed_forward_have_norms_of_their_own() {
    const GEMMA4: &str = "gemma4-moe-q4_0.gguf";
    let model = Model::load(&with_keys(GEMMA4, &[])).unwrap();
    let mixture = model.architecture.mixture().unwrap();
    assert_eq!(mixture.shared, Some(Shared { n_ff: 64, has_gate: false }));
    assert!(mixture.has_branch_norms);
    for layer in &model.weights.layers {
        let Ffn::Experts(experts) = &layer.ffn else { panic!("{layer:?}") };
        let shared = experts.shared.as_deref().unwrap();
        assert_eq!(shared.ffn.gate.weight.name.split_once(".ffn_").unwrap().1, "gate.weight");
        assert!(experts.norms.is_some() && experts.scale.is_some());
        // The tensors that would be scales of these matrices are the router's norm and the factors.
        let unscaled = [&experts.router].into_iter().chain(&experts.down);
        assert!(unscaled.into_iter().all(|linear| linear.weight.scale.is_none()));
    }
    for tensor in ["ffn_gate_inp.scale", "pre_ffw_norm_2.weight", "post_ffw_norm_1.weight"] {
        let name = format!("blk.3.{tensor}");
        let file = rewritten(GEMMA4, |_, value| Some(value.clone()), |other, _| other != name);
        let error = Model::load(&file).unwrap_err().to_string();
        assert_eq!(error, format!("missing tensor {name:?} of shape [128]"));
    }
    check(
        &with_keys(GEMMA4, &[("gemma4.expert_shared_count", Value::from(1u32))]),
        &expect![
            "gemma4.expert_shared_count: expected no shared experts but the dense feed-forward, found 1"
        ],
    );
}
