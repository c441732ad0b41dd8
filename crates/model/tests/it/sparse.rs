//! Files that claim far more than they take on the disk: refused before anything of that size is copied.

use std::fs::File;
use std::io::Write;

use expect_test::{Expect, expect};
use gguf::Gguf;
use model::Model;

/// Float32 and float16, by ggml's numbers, with their bytes.
const F32: (u32, u64) = (0, 4);
const F16: (u32, u64) = (1, 2);

type Tensor = (&'static str, Vec<u64>, (u32, u64));

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// A llama of one layer and one column with these sizes and further tensors, all of whose data is a hole.
fn open(sizes: &[(&str, u32)], n_vocab: u64, tensors: &[Tensor]) -> Gguf {
    let common: [Tensor; 8] = [
        ("token_embd.weight", vec![1, n_vocab], F16),
        ("output_norm.weight", vec![1], F32),
        ("blk.0.attn_norm.weight", vec![1], F32),
        ("blk.0.attn_q.weight", vec![1, 2], F32),
        ("blk.0.attn_k.weight", vec![1, 2], F32),
        ("blk.0.attn_v.weight", vec![1, 2], F32),
        ("blk.0.attn_output.weight", vec![2, 1], F32),
        ("blk.0.ffn_norm.weight", vec![1], F32),
    ];
    let keys = [
        ("block_count", 1),
        ("embedding_length", 1),
        ("context_length", 256),
        ("attention.head_count", 1),
        ("attention.key_length", 2),
        ("attention.value_length", 2),
        ("rope.dimension_count", 2),
    ];
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend(((common.len() + tensors.len()) as u64).to_le_bytes());
    out.extend(((keys.len() + sizes.len() + 2) as u64).to_le_bytes());
    string(&mut out, "general.architecture");
    out.extend(8u32.to_le_bytes());
    string(&mut out, "llama");
    string(&mut out, "llama.attention.layer_norm_rms_epsilon");
    out.extend(6u32.to_le_bytes());
    out.extend(1e-5f32.to_le_bytes());
    for (key, value) in keys.iter().chain(sizes) {
        string(&mut out, &format!("llama.{key}"));
        out.extend(4u32.to_le_bytes());
        out.extend(value.to_le_bytes());
    }
    let mut end = 0u64;
    for (name, shape, (format, bytes)) in common.iter().chain(tensors) {
        string(&mut out, name);
        out.extend((shape.len() as u32).to_le_bytes());
        shape.iter().for_each(|n| out.extend(n.to_le_bytes()));
        out.extend(format.to_le_bytes());
        out.extend(end.to_le_bytes());
        end = (end + bytes * shape.iter().product::<u64>()).next_multiple_of(32);
    }
    out.resize(out.len().next_multiple_of(32), 0);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sparse.gguf");
    let mut file = File::create(&path).unwrap();
    file.write_all(&out).unwrap();
    file.set_len(out.len() as u64 + end).unwrap();
    Gguf::open(&path).unwrap()
}

fn experts(n_used: u32, n_ff: u64, biased: bool) -> Result<Model, model::ModelError> {
    let n = 1 << 16;
    let mut tensors = vec![
        ("blk.0.ffn_gate_inp.weight", vec![1, n], F32),
        ("blk.0.ffn_gate_exps.weight", vec![1, n_ff, n], F16),
        ("blk.0.ffn_up_exps.weight", vec![1, n_ff, n], F16),
        ("blk.0.ffn_down_exps.weight", vec![n_ff, 1, n], F16),
    ];
    if biased {
        tensors.push(("blk.0.ffn_gate_exps.bias", vec![n_ff, n], F32));
    }
    let sizes =
        [("feed_forward_length", n_ff as u32), ("expert_count", 1 << 16), ("expert_used_count", n_used)];
    Model::load(&open(&sizes, 320, &tensors))
}

fn check(model: Result<Model, model::ModelError>, expected: &Expect) {
    expected.assert_eq(&model.err().map_or("a model".to_owned(), |error| error.to_string()));
}

#[test]
fn what_a_sparse_file_claims_is_refused_before_it_is_copied() {
    check(
        experts(1, 1 << 20, true),
        &expect![
            "blk.0.ffn_gate_exps.bias: expected at most 134217728 values of biases, norms, experts and heads in all tensors, found 68719476736 where 134217726 are left"
        ],
    );
    check(
        experts(1 << 16, 1, false),
        &expect!["llama.expert_used_count: expected a number from 1 to 256, found 65536"],
    );
    check(experts(256, 1, false), &expect!["a model"]);
    let with_vocabulary = |n_vocab, bias: Option<u64>| {
        let mut tensors = vec![
            ("blk.0.ffn_gate.weight", vec![1, 2], F32),
            ("blk.0.ffn_up.weight", vec![1, 2], F32),
            ("blk.0.ffn_down.weight", vec![2, 1], F32),
        ];
        tensors.extend(bias.map(|n| ("output.bias", vec![n], F32)));
        Model::load(&open(&[("feed_forward_length", 2)], n_vocab, &tensors))
    };
    check(with_vocabulary(1 << 24, Some(1 << 24)), &expect!["a model"]);
    check(
        with_vocabulary((1 << 24) + 1, None),
        &expect!["token_embd.weight: expected at most 16777216 rows, found 16777217"],
    );
}
