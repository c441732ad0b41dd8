//! Where latent attention's matrices go, and which sizes of it are refused.

use model::architecture::{Latent, QkNorm};
use model::weights::{KeyMaps, LatentWeights};

use super::*;

const EARLIER: &str = "deepseek2-plain-q4_0";
const TODAY: &str = "deepseek2-v3-yarn-q8_0";

fn weights(model: &mut Model) -> &mut LatentWeights {
    match &mut model.weights.layers[0].mixer {
        MixerWeights::Latent(weights) => weights,
        other => panic!("{other:?}"),
    }
}

fn place_of(placement: &Placement<'_>) -> LatentPlace {
    match &placement.layers[0].mixer {
        MixerPlace::Latent(place) => **place,
        _ => panic!("expected latent attention"),
    }
}

#[test]
fn parts_of_queries_are_put_apart_by_head() {
    let model = named(TODAY);
    let placement = place(&model).expect("a placement");
    let placed = place_of(&placement);
    let MixerWeights::Latent(weights) = &model.weights.layers[0].mixer else { panic!("latent attention") };
    // Four heads of 32 values without position and 32 that turn.
    let parts: Vec<_> =
        placement.parts.iter().filter(|part| std::ptr::eq(part.matrix, &weights.q.weight)).collect();
    assert_eq!(parts.len(), 8);
    for part in parts {
        let (head, side) = (part.rows.start / 64, part.rows.start % 64 / 32);
        assert_eq!((part.at, part.to), (placed.queries()[side].at, 32 * head));
        assert_eq!(part.rows.len(), 32);
    }
    assert_eq!(placed.queries().map(|tiles| tiles.n_row), [128; 2]);
}

#[test]
fn maps_that_make_keys_are_turned_round() {
    for (name, format) in [(EARLIER, Format::F16), (TODAY, Format::Q8_0)] {
        let mut model = named(name);
        let placed = place_of(&place(&model).expect("a placement"));
        // From 32 values without position to a row of 64.
        let found = (placed.k.format, placed.k.n_row, placed.k.n_in);
        assert_eq!(found, (format, 64, 32), "{name}");
        assert!(placed.k.of_experts && placed.v.of_experts && placed.k.expert_bytes > 0);
        let is_turned = matches!(weights(&mut model).k, KeyMaps::OfKeys(_));
        assert_eq!(is_turned, name == EARLIER);
    }
}

#[test]
fn sizes_of_latent_attention_are_refused_by_name() {
    let sizes = |expected: &str, change: &dyn Fn(&mut Latent)| {
        refused(TODAY, expected, |model| {
            for mixer in &mut model.architecture.mixers {
                if let Mixer::Latent(latent) = mixer {
                    change(latent);
                }
            }
        });
    };
    sizes("heads of latent attention: expected from 1 to 1024", &|latent| latent.n_head = 0);
    sizes("row that queries are made of: expected a multiple of 32 ", &|latent| latent.q_rank = Some(48));
    for kv_rank in [0, 48, 544] {
        let expected = "row that keys and values are made of: expected a multiple of 32 up to 512";
        sizes(expected, &|latent| latent.kv_rank = kv_rank);
    }
    sizes("part of a head without position: ", &|latent| latent.n_plain = 16);
    sizes("values of a head: ", &|latent| latent.n_value = 24);
    sizes("rotated values of a head: expected 16, found 32", &|latent| latent.n_rot = 16);
    refused(TODAY, "part of a head that is rotated: expected a multiple of 16 up to 128", |model| {
        for mixer in &mut model.architecture.mixers {
            if let Mixer::Latent(latent) = mixer {
                latent.n_rot = 144;
            }
        }
        if let Position::Rope(ropes) = &mut model.architecture.position {
            ropes.kinds[0].n_rot = 144;
        }
    });
    sizes("row that queries are made of: expected None", &|latent| latent.q_rank = None);
    sizes("shape of a matrix: ", &|latent| latent.kv_rank = 32);
    refused(TODAY, "heads of latent attention: expected in all layers 4, found 8", |model| {
        if let Some(Mixer::Latent(latent)) = model.architecture.mixers.last_mut() {
            latent.n_head = 8;
        }
    });
    refused(TODAY, "latent attention: expected no sinks", |model| {
        model.architecture.attention.qk_norm = Some(QkNorm::Head);
    });
    let tensors = |expected: &str, change: &dyn Fn(&mut LatentWeights)| {
        refused(TODAY, expected, |model| change(weights(model)));
    };
    tensors("matrices of heads: expected 4, found 3", &|weights| drop(weights.v.pop()));
    tensors("matrices of heads: expected of one format", &|w| w.v[1].weight.format = Format::F32);
    tensors("bias of latent attention: ", &|w| w.kv.bias = Some(vec![0.0; w.kv.weight.n_rows]));
    tensors("values of a norm: ", &|weights| weights.kv_norm.weight.clear());
}
