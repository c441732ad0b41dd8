//! Does a placement have room for everything once, and is what the kernels cannot compute refused? Placing needs no GPU.

use std::collections::HashMap;
use std::ops::Range;

use gguf::Gguf;
use model::Matrix;
use model::architecture::{
    DeltaRule, FeedForwardKind, Groups, KvSource, Mixer, Mixture, Position, Router, Shared,
};
use model::weights::{AttentionWeights, Experts, Ffn, Gated, MixerWeights};
use testkit::golden;

use super::*;
use crate::memory::layout::TILE;

mod latent;

fn models() -> impl Iterator<Item = (String, Model)> {
    golden().into_iter().map(|golden| {
        let file = Gguf::open(&golden.path).expect("a golden model");
        (golden.name, Model::load(&file).expect("a golden model"))
    })
}

/// Every tile that a part fills: its first byte and its size.
fn tiles_of(part: &Part<'_>) -> impl Iterator<Item = (u64, u64)> {
    let (format, n_col) = part.stored();
    let bytes = tile_bytes(format, n_col) as u64;
    let (at, order) = (part.at, part.order);
    (part.to / TILE..(part.to + part.rows.len()).div_ceil(TILE)).map(move |tile| {
        let tile = match order {
            Order::Interleaved(offset) => tile / 2 * 4 + tile % 2 + offset,
            _ => tile,
        };
        (at + tile as u64 * bytes, bytes)
    })
}

/// Every matrix that is copied, an expert's for itself.
fn matrices(model: &Model) -> Vec<&Matrix> {
    let weights = &model.weights;
    let mut all = vec![&weights.token_embd];
    if weights.output.weight.name != weights.token_embd.name {
        all.push(&weights.output.weight);
    }
    all.extend(weights.per_layer.iter().flat_map(|inputs| [&inputs.token_embd, &inputs.model.weight]));
    for layer in &weights.layers {
        let of_input = layer.per_layer.iter().flat_map(|place| [&place.gate, &place.output]);
        all.extend(of_input.map(|l| &l.weight));
        match &layer.mixer {
            // Its small maps are float32 vectors.
            MixerWeights::DeltaRule(rule) => {
                all.extend([&rule.qkv, &rule.gate, &rule.output].map(|l| &l.weight));
            }
            mixer => all.extend(mixer.parts().0.into_iter().map(|l| &l.weight)),
        }
        match &layer.ffn {
            Ffn::Gated(Gated { gate, up, down }) => all.extend([gate, up, down].map(|l| &l.weight)),
            Ffn::Plain { up, down } => all.extend([up, down].map(|l| &l.weight)),
            Ffn::Experts(e) => {
                all.extend(e.gate.iter().chain(&e.up).chain(&e.down).map(|l| &l.weight));
                let shared = e.shared.iter().map(|shared| &shared.ffn);
                all.extend(shared.flat_map(|Gated { gate, up, down }| [gate, up, down].map(|l| &l.weight)));
            }
        }
    }
    all
}

#[test]
fn parts_cover_every_row_once_and_overlap_nowhere() {
    for (name, model) in models() {
        let placement = place(&model).expect("a placement");
        let is_turned = |matrix: &Matrix| {
            let mut parts = placement.parts.iter().filter(|part| std::ptr::eq(part.matrix, matrix));
            parts.any(|part| part.order == Order::Transposed)
        };
        let mut rows: HashMap<*const Matrix, Vec<Range<usize>>> = HashMap::new();
        let mut tiles = Vec::new();
        for part in &placement.parts {
            rows.entry(std::ptr::from_ref(part.matrix)).or_default().push(part.rows.clone());
            assert!(part.to % TILE == 0 && part.at % 16 == 0, "{name}: {part:?}");
            tiles.extend(tiles_of(part));
        }
        let matrices = matrices(&model);
        assert_eq!(rows.len(), matrices.len(), "{name}");
        for matrix in matrices {
            let mut rows = rows.remove(&std::ptr::from_ref(matrix)).expect("its parts");
            rows.sort_by_key(|rows| rows.start);
            let end = rows.iter().fold(0, |end, rows| {
                assert_eq!(rows.start, end, "{name}: {matrix:?}");
                rows.end
            });
            assert_eq!(
                end,
                if is_turned(matrix) { matrix.n_cols } else { matrix.n_rows },
                "{name}: {matrix:?}"
            );
        }
        tiles.sort_unstable();
        for pair in tiles.windows(2) {
            assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{name}: {pair:?}");
        }
        let (last, bytes) = *tiles.last().expect("tiles");
        assert!(last + bytes <= placement.vectors_at, "{name}");
    }
}

#[test]
fn vectors_lie_behind_the_matrices_and_apart() {
    for (name, model) in models() {
        let mut placement = place(&model).expect("a placement");
        let (first, end) = (placement.vectors_at, placement.vectors_at + 4 * placement.vectors.len() as u64);
        assert!(end <= placement.n_bytes, "{name}");
        let mut all = Vec::new();
        placement.each_vector(|at| all.push(*at));
        all.sort_unstable();
        assert!(all.iter().all(|at| (first..end).contains(at)), "{name}: {all:?}");
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "{name}: {all:?}");
        for (layer, placed) in model.weights.layers.iter().zip(&placement.layers) {
            for (placed, expected) in [
                (placed.attn_norm, &layer.attn_norm),
                (placed.attn_post_norm, &layer.attn_post_norm),
                (placed.ffn_norm, &layer.ffn_norm),
                (placed.ffn_post_norm, &layer.ffn_post_norm),
            ] {
                let found = placed.map(|placed| {
                    let at = ((placed.weight - first) / 4) as usize;
                    &placement.vectors[at..at + model.architecture.n_embd]
                });
                assert_eq!(found, expected.as_ref().map(|norm| &norm.weight[..]), "{name}");
            }
        }
    }
}

#[test]
fn heads_are_ordered_without_loss() {
    for (head_dim, half_rot, adjacent) in [(64, 32, false), (128, 64, true), (96, 32, false), (64, 0, false)]
    {
        let heads = HeadShape { head_dim, half_rot, adjacent };
        let mut sources: Vec<usize> = (0..3 * head_dim).map(|row| heads.source(row)).collect();
        sources.sort_unstable();
        assert!(sources.into_iter().eq(0..3 * head_dim), "{heads:?}");
    }
}

/// A model that can be changed.
fn named(name: &str) -> Model {
    models().find(|(found, _)| found == name).expect("a golden model of this name").1
}

/// Holds what placing says of a model after a change against how it must begin.
fn refused(name: &str, expected: &str, change: impl FnOnce(&mut Model)) {
    let mut model = named(name);
    change(&mut model);
    let found = place(&model).err().map(|error| error.to_string()).expect("a refusal");
    let text = found.strip_prefix("not supported on a GPU: ").expect("its beginning");
    assert!(text.starts_with(expected), "expected {expected}, found {text}");
}

#[test]
fn sizes_that_no_kernel_is_made_for_are_refused_by_name() {
    let llama = |expected: &str, change: &dyn Fn(&mut Model)| refused("llama-f16", expected, change);
    let attention = |expected: &str, change: &dyn Fn(&mut Heads)| {
        llama(expected, &|model| {
            if let Some(Mixer::Attention(heads)) = model.architecture.mixers.last_mut() {
                change(heads);
            }
        });
    };
    for head_dim in [0, 72, 528] {
        attention("head size: expected a multiple of 16 up to 512", &|a| a.head_dim = head_dim);
    }
    attention("query heads of a key head: ", &|a| a.n_kv_head = 0);
    attention("query heads of a key head: ", &|a| a.n_head = 257 * a.n_kv_head);
    attention("keys and values of a layer: ", &|a| a.source = KvSource::Layer(0));
    attention("values: ", &|a| a.source = KvSource::KeysAlone);
    llama("layers: ", &|model| model.architecture.mixers.truncate(1));
    llama("values: ", &|model| model.architecture.attention.v_norm = true);
    llama("inputs of layers of the token itself: ", &|model| model.architecture.n_per_layer = Some(32));
    llama("factors of layers: ", &|model| model.architecture.has_layer_scales = true);
    for n_rot in [7, 66] {
        llama("rotated values of a head: expected an even number up to 64", &|model| {
            if let Position::Rope(ropes) = &mut model.architecture.position {
                let rope = &mut ropes.kinds[0];
                rope.n_rot = n_rot;
            }
        });
    }
    for n in [0, 48, 1 << 20] {
        llama("embedding width: ", &|model| model.architecture.n_embd = n);
        llama("feed-forward width: ", &|model| {
            model.architecture.feed_forward.iter_mut().for_each(|f| f.n_ff = n);
        });
    }
    llama("size of the vocabulary: ", &|model| model.architecture.n_vocab = 0);
    llama("layers: ", &|model| model.weights.layers.clear());
    let kind = |expected: &str, kind: FeedForwardKind| {
        llama(expected, &|model| model.architecture.feed_forward.iter_mut().for_each(|f| f.kind = kind));
    };
    kind("plain feed-forward: expected GELU", FeedForwardKind::Plain);
    let router = Router::SOFTMAX_OF_CHOSEN;
    let mixture = Mixture { n_expert: 4, n_used: 2, router, shared: None, has_branch_norms: false };
    let experts = |expected: &str, mixture| kind(expected, FeedForwardKind::Experts(mixture));
    experts("experts: ", Mixture { n_expert: 513, ..mixture });
    experts("experts: ", Mixture { n_used: 5, ..mixture });
    experts("experts: ", Mixture { n_expert: 512, n_used: 17, ..mixture });
    experts("feed-forward: ", mixture);
    for (n_group, n_used) in [(0, 1), (3, 1), (4, 0), (4, 5)] {
        let router = Router { groups: Some(Groups { n_group, n_used }), ..mixture.router };
        experts("groups of experts: ", Mixture { router, ..mixture });
    }
    experts(
        "feed-forward width: ",
        Mixture { shared: Some(Shared { n_ff: 48, has_gate: false }), ..mixture },
    );
    refused("gpt-oss-mxfp4_moe", "experts: expected in all layers ", |model| {
        if let FeedForwardKind::Experts(mixture) = &mut model.architecture.feed_forward[1].kind {
            mixture.n_used -= 1;
        }
    });
    experts("experts with norms of their own: ", Mixture { has_branch_norms: true, ..mixture });
    llama("feed-forwards: ", &|model| model.architecture.feed_forward.truncate(1));
    llama("shape of a matrix: ", &|model| model.architecture.feed_forward[1].n_ff /= 2);
}

#[test]
fn recurrences_that_no_kernel_is_made_for_are_refused_by_name() {
    let rule = |expected: &str, change: &dyn Fn(&mut DeltaRule)| {
        refused("qwen35-q4_0", expected, |model| {
            for mixer in &mut model.architecture.mixers {
                if let Mixer::DeltaRule(rule) = mixer {
                    change(rule);
                }
            }
        });
    };
    rule("head size of a delta rule: expected one of [32, 64, 128]", &|rule| rule.head_dim = 48);
    rule("value heads of a delta rule: ", &|rule| rule.n_k_head = 3);
    rule("value heads of a delta rule: ", &|rule| rule.n_k_head = 0);
    rule("taps of a convolution: expected from 2 to 64", &|rule| rule.n_tap = 1);
    rule("taps of a convolution: ", &|rule| rule.n_tap = 5);
    rule("shape of a matrix: ", &|rule| rule.n_v_head *= 2);
    let weights = |expected: &str, change: &dyn Fn(&mut MixerWeights)| {
        refused("qwen35-q4_0", expected, |model| {
            model.weights.layers.iter_mut().for_each(|layer| change(&mut layer.mixer));
        });
    };
    weights("values of a delta rule's heads: ", &|mixer| {
        if let MixerWeights::DeltaRule(rule) = mixer {
            rule.dt.clear();
        }
    });
    weights("bias of gated attention: ", &|mixer| {
        if let MixerWeights::Attention(attention) = mixer {
            attention.q.bias = Some(vec![0.0; attention.q.weight.n_rows]);
        }
    });
    refused("qwen35-q4_0", "gated attention: ", |model| {
        if let Some(Mixer::Attention(heads)) = model.architecture.mixers.last_mut() {
            heads.source = KvSource::KeysAlone;
        }
    });
    refused("qwen35-q4_0", "layers: expected DeltaRule", |model| {
        model.weights.layers[0] = model.weights.layers[3].clone();
    });
    refused("lfm2-q4_0", "layers: expected attention in one of them", |model| {
        let first = model.architecture.mixers[0];
        model.architecture.mixers.fill(first);
    });
    refused("lfm2-q4_0", "taps of a convolution: ", |model| match &mut model.weights.layers[0].mixer {
        MixerWeights::ShortConv(conv) => conv.taps.clear(),
        other => panic!("{other:?}"),
    });
    let inputs = "inputs of layers of the token itself: ";
    refused("gemma4-ple-q4_0", inputs, |model| model.architecture.n_per_layer = Some(48));
    refused("gemma4-ple-q4_0", inputs, |model| model.architecture.n_per_layer = None);
    refused("gemma4-ple-q4_0", inputs, |model| model.weights.layers[2].per_layer = None);
    refused("gemma4-ple-q4_0", "shape of a matrix: ", |model| model.architecture.n_per_layer = Some(64));
}

#[test]
fn queries_and_gates_are_put_apart_by_head() {
    let model = named("qwen35-q4_0");
    let placement = place(&model).expect("a placement");
    let (MixerWeights::Attention(weights), MixerPlace::Attention(placed)) =
        (&model.weights.layers[3].mixer, &placement.layers[3].mixer)
    else {
        panic!("expected attention");
    };
    let gate = placed.gate.expect("a gate");
    let [n_q, head_dim] = [256, 64];
    assert_eq!([gate.n_row, placed.qkv.runs[0].1.n_row], [n_q, n_q + 2 * 128]);
    let parts = placement.parts.iter().filter(|part| std::ptr::eq(part.matrix, &weights.q.weight));
    for part in parts {
        let (head, side) = (part.rows.start / head_dim / 2, part.rows.start / head_dim % 2);
        let to = if side == 0 { placed.qkv.runs[0].1.at } else { gate.at };
        assert_eq!((part.at, part.to, part.rows.len()), (to, head * head_dim, head_dim));
    }
}

#[test]
fn tensors_that_do_not_match_are_refused_by_name() {
    let llama = |expected: &str, change: &dyn Fn(&mut Model)| refused("llama-f16", expected, change);
    llama("shape of a matrix: ", &|model| model.architecture.n_vocab += 1);
    llama("values of a norm: ", &|model| model.weights.layers[0].attn_norm.as_mut().unwrap().weight.clear());
    llama("values of a norm's bias: ", &|model| model.weights.output_norm.bias = Some(Vec::new()));
    let attention = |expected: &str, change: &dyn Fn(&mut AttentionWeights)| {
        llama(expected, &|model| match &mut model.weights.layers[0].mixer {
            MixerWeights::Attention(attention) => change(attention),
            other => panic!("{other:?}"),
        });
    };
    attention("values of a bias: ", &|a| a.q.bias = Some(vec![0.0; 3]));
    attention("sinks of attention: ", &|a| a.sinks = Some(Vec::new()));
    let none_but_nvfp4 =
        "scale of a matrix: expected none but in NVFP4 (this one runs with --device cpu), found";
    attention(none_but_nvfp4, &|a| a.q.weight.scale = Some(2.0));
    refused("qwen3-scales-nvfp4", "scale of an embedding: expected none, found", |model| {
        model.weights.token_embd.scale = Some(2.0);
    });
    llama("table of positions: ", &|model| {
        model.weights.position_embd = Some(model.weights.token_embd.clone());
    });
    // Gate and up take turns in one matrix, so they must be of one format.
    let other = named("llama-q8_0").weights.layers.swap_remove(0);
    llama("feed-forward: expected gate and up of one format, ", &|model| {
        if let (Ffn::Gated(Gated { gate, .. }), Ffn::Gated(Gated { gate: other, .. })) =
            (&mut model.weights.layers[0].ffn, &other.ffn)
        {
            *gate = other.clone();
        }
    });
    // Those in tables bring these along, tile by tile.
    let mut model = named("qwen3-k-iq3_s");
    let other = named("qwen3-k-iq1_s").weights.layers.swap_remove(0);
    model.weights.layers[0].ffn = match (model.weights.layers[0].ffn.clone(), other.ffn) {
        (Ffn::Gated(Gated { gate, down, .. }), Ffn::Gated(Gated { up, .. })) => {
            Ffn::Gated(Gated { gate, up, down })
        }
        other => panic!("expected gate, up and down, found {other:?}"),
    };
    assert!(place(&model).is_ok());
    // Of one and two bits have the layout of Q4_0.
    let mut model = named("llama-q4_0");
    if let Ffn::Gated(Gated { gate, up, .. }) = &mut model.weights.layers[0].ffn {
        (gate.weight.format, up.weight.format) = (Format::Q1_0, Format::Q2_0);
    }
    if let Ffn::Gated(Gated { gate, .. }) = &mut model.weights.layers[1].ffn {
        gate.weight.format = Format::Q2_0;
    }
    assert!(place(&model).is_ok());
    let experts = |expected: &str, change: &dyn Fn(&mut Experts)| {
        refused("gpt-oss-mxfp4_moe", expected, |model| {
            if let Ffn::Experts(experts) = &mut model.weights.layers[0].ffn {
                change(experts);
            }
        });
    };
    let counts = "gates, ups and downs of experts: ";
    experts(counts, &|e| drop(e.gate.pop()));
    experts(counts, &|e| e.down.clear());
    experts("factors of experts' outputs: ", &|e| e.scale = Some(Vec::new()));
    experts("values of the choice's bias: ", &|e| e.choice_bias = Some(Vec::new()));
    experts("bias of the choice of experts: ", &|e| e.choice_bias = Some(vec![0.0; e.gate.len()]));
    refused("gemma4-moe-q4_0", "norms of experts: ", |model| match &mut model.weights.layers[0].ffn {
        Ffn::Experts(experts) => experts.norms = None,
        other => panic!("{other:?}"),
    });
    let glm = |expected: &str, change: &dyn Fn(&mut Experts)| {
        refused("glm4moe-q4_0", expected, |model| match &mut model.weights.layers[1].ffn {
            Ffn::Experts(experts) => change(experts),
            other => panic!("{other:?}"),
        });
    };
    glm("bias of the choice of experts: ", &|e| e.choice_bias = None);
    glm("shared experts: ", &|e| e.shared = None);
    glm("gate of shared experts: ", &|e| {
        let mut gate = e.router.clone();
        gate.weight.n_rows = 1;
        e.shared.as_mut().unwrap().gate = Some(gate);
    });
    experts("shape of a matrix: ", &|e| e.router.weight.n_rows += 1);
    experts("feed-forward: expected experts of one format, ", &|e| e.down[1].weight.format = Format::F32);
}

#[test]
fn small_maps_have_the_scale_in_their_floats() {
    let model = named("qwen3-scales-nvfp4");
    let matrix = &model.weights.output.weight;
    let scale = matrix.scale.expect("a scale");
    let mut placer = Placer {
        n_bytes: 0,
        parts: Vec::new(),
        vectors: Vec::new(),
        grids: Vec::new(),
        heads: HeadShape::of(&model.architecture),
        heads_apart: false,
    };
    let map = placer.float_map(&model.weights.output).expect("whole blocks");
    let mut values = vec![0.0; matrix.n_rows * matrix.n_cols];
    matrix.format.dequantize(matrix.bytes(), &mut values).expect("whole blocks");
    values.iter_mut().for_each(|value| *value *= scale);
    assert_eq!((map.weight, placer.vectors), (0, values));
}
