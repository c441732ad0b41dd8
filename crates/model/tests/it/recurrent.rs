//! Layers that are no attention: which they are, and what is refused of their sizes.

use model::architecture::{Conv, DeltaRule, Mixer};

use super::families::added;
use super::*;

const LFM2: &str = "lfm2-q4_0.gguf";
const QWEN35: &str = "qwen35-q4_0.gguf";

fn mixers(file: &Gguf) -> Vec<Mixer> {
    Model::load(file).unwrap().architecture.mixers
}

#[test]
fn layers_without_key_heads_are_convolutions() {
    let conv = Mixer::ShortConv(Conv { n_tap: 3, n_channel: 128 });
    let found = mixers(&with_key(LFM2, "general.name", None));
    assert_eq!([found[0], found[1], found[3]], [conv; 3]);
    assert!([found[2], found[4]].iter().all(|mixer| mixer.heads().is_some()));
    let architecture = Model::load(&with_key(LFM2, "general.name", None)).unwrap().architecture;
    assert_eq!(
        (architecture.kv_layers().count(), architecture.cache_of(4), architecture.n_state()),
        (2, 1, 3 * 2 * 128)
    );

    let key = "lfm2.attention.head_count_kv";
    let heads = |heads: Vec<i32>| added(LFM2, key, heads);
    check(
        &heads(vec![0, 0, 2, 0]),
        &expect![
            "lfm2.attention.head_count_kv: expected 0 or one and the same number for each of 5 layers, found a list of 4 values"
        ],
    );
    check(
        &heads(vec![0, 0, 2, 0, 4]),
        &expect![
            "lfm2.attention.head_count_kv: expected 0 or one and the same number for each of 5 layers, found others"
        ],
    );
    check(
        &heads(vec![0, 0, -2, 0, 2]),
        &expect![
            "lfm2.attention.head_count_kv: expected 0 or one and the same number for each of 5 layers, found others"
        ],
    );
    check(
        &heads(vec![0; 5]),
        &expect![
            "lfm2.attention.head_count_kv: expected 0 or one and the same number for each of 5 layers, found others"
        ],
    );
    check(&heads(vec![2; 5]), &expect![[r#"missing tensor "blk.0.attn_q.weight" of shape [128, 128]"#]]);
    check(
        &added(LFM2, key, 2u32),
        &expect![
            "lfm2.attention.head_count_kv: expected 0 or one and the same number for each of 5 layers, found one value"
        ],
    );
    check(
        &added(LFM2, "lfm2.shortconv.l_cache", 1u32),
        &expect!["lfm2.shortconv.l_cache: expected a number from 2 to 64, found 1"],
    );
    check(
        &added(LFM2, "lfm2.shortconv.l_cache", 4u32),
        &expect![[r#"tensor "blk.0.shortconv.conv.weight": expected shape [4, 128], found [3, 128]"#]],
    );
    // A list elsewhere than where layers differ is no number of heads.
    check(
        &added("qwen3-q4_0.gguf", "qwen3.attention.head_count_kv", vec![2u32, 0]),
        &expect![
            "qwen3.attention.head_count_kv: expected a number from 1 to 4096 for each of 3 layers, found a list of 2 values"
        ],
    );
}

#[test]
fn delta_rules_stand_where_the_file_says() {
    let rule = DeltaRule { n_k_head: 2, n_v_head: 4, head_dim: 32, n_tap: 4 };
    let recurrent = Mixer::DeltaRule(rule);
    let file = with_key(QWEN35, "general.name", None);
    assert_eq!(mixers(&file)[..3], [recurrent; 3]);
    assert!(mixers(&file)[3].heads().is_some());
    let architecture = Model::load(&file).unwrap().architecture;
    assert_eq!(architecture.n_state(), 3 * (3 * (2 * 64 + 128) + 4 * 32 * 32));
    assert!(architecture.attention.gated);
    let listed = "qwen35.attention.recurrent_layers";
    assert!(mixers(&with_key(QWEN35, listed, None))[3].heads().is_some());

    check(
        &added(QWEN35, listed, vec![true; 3]),
        &expect![
            "qwen35.attention.recurrent_layers: expected true or false for each of 4 layers, found a list of 3 values"
        ],
    );
    check(
        &added(QWEN35, listed, vec![true, true, false, false]),
        &expect![[r#"tensor "blk.2.attn_qkv.weight": expected shape [128, 768], found [128, 256]"#]],
    );
    check(
        &added(QWEN35, "qwen35.ssm.group_count", 3u32),
        &expect!["qwen35.ssm.group_count: expected a divisor of time_step_rank = 4, found 3"],
    );
    check(
        &added(QWEN35, "qwen35.ssm.inner_size", 64u32),
        &expect!["qwen35.ssm.inner_size: expected a number from 128 to 128, found 64"],
    );
    check(
        &added(QWEN35, "qwen35.ssm.state_size", 1u32 << 20),
        &expect!["qwen35.ssm.state_size: expected a number from 1 to 4096, found 1048576"],
    );
    check(
        &with_key(QWEN35, "qwen35.ssm.conv_kernel", None),
        &expect!["qwen35.ssm.conv_kernel: expected a number from 2 to 64, found nothing"],
    );
    let sections = "qwen35.rope.dimension_sections";
    check(
        &with_key(QWEN35, sections, None),
        &expect!["qwen35.rope.dimension_sections: expected four numbers that add up to 8, found []"],
    );
    check(
        &added(QWEN35, sections, vec![4i32, 2, 1, 0]),
        &expect![
            "qwen35.rope.dimension_sections: expected four numbers that add up to 8, found [4, 2, 1, 0]"
        ],
    );
    check(
        &added(QWEN35, sections, vec![4i32, 2, 2]),
        &expect![
            "qwen35.rope.dimension_sections: expected four numbers that add up to 8, found a list of 3 values"
        ],
    );
    check(
        &added(QWEN35, sections, vec![12i32, 2, 1, -7]),
        &expect![
            "qwen35.rope.dimension_sections: expected four numbers that add up to 8, found [12, 2, 1, -7]"
        ],
    );
}

#[test]
fn every_tensor_of_a_recurrent_layer_is_needed() {
    for (name, tensors) in [
        (LFM2, &["shortconv.in_proj.weight", "shortconv.conv.weight", "shortconv.out_proj.weight"][..]),
        (
            QWEN35,
            &[
                "attn_qkv.weight",
                "attn_gate.weight",
                "ssm_alpha.weight",
                "ssm_beta.weight",
                "ssm_conv1d.weight",
                "ssm_a",
                "ssm_dt.bias",
                "ssm_norm.weight",
                "ssm_out.weight",
                "post_attention_norm.weight",
            ],
        ),
    ] {
        for tensor in tensors {
            let missing = format!("blk.1.{tensor}");
            let file = rewritten(name, |_, value| Some(value.clone()), |tensor, _| tensor != missing);
            let error = Model::load(&file).expect_err(&missing).to_string();
            assert!(error.starts_with(&format!("missing tensor {missing:?}")), "{error}");
        }
    }
}
