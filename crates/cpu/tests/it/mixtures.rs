//! Mixtures in forms that no golden file has: the same weights must give the same bits.

use std::sync::Arc;

use cpu::{CpuExecutor, Options};
use gguf::{Gguf, Value, Writer};
use model::Model;
use quant::Format;
use testkit::golden;

const N_EXPERT: usize = 8;

/// A golden mixture with gate and up of all experts in one tensor, and a scale of 2 for each expert's down matrix where the router's scale is
/// half of what it was.
fn other_form(file: &Gguf) -> Gguf {
    let mut writer = Writer::new();
    for (key, value) in file.metadata().iter() {
        match (key, value) {
            ("glm4moe.expert_weights_scale", Value::F32(scale)) => writer.set(key, Value::F32(scale / 2.0)),
            _ => writer.set(key, value.clone()),
        };
    }
    for info in file.tensors() {
        let tensor = file.tensor(&info.name).expect("a tensor");
        if let Some(layer) = info.name.strip_suffix(".ffn_gate_exps.weight") {
            let up = file.tensor(&format!("{layer}.ffn_up_exps.weight")).expect("as many as gates");
            let of_expert = tensor.bytes.len() / N_EXPERT;
            let pairs = tensor.bytes.chunks(of_expert).zip(up.bytes.chunks(of_expert));
            let bytes: Vec<u8> = pairs.flat_map(|(gate, up)| [gate, up].concat()).collect();
            let shape = [info.shape[0], 2 * info.shape[1], N_EXPERT];
            writer.tensor(format!("{layer}.ffn_gate_up_exps.weight"), info.format, &shape, bytes);
            let scales = 2f32.to_le_bytes().repeat(N_EXPERT);
            writer.tensor(format!("{layer}.ffn_down_exps.scale"), Format::F32, &[N_EXPERT], scales);
        } else if !info.name.ends_with(".ffn_up_exps.weight") {
            writer.tensor(info.name.clone(), info.format, &info.shape, tensor.bytes);
        }
    }
    Gguf::from_bytes(writer.to_bytes().expect("a file")).expect("a file")
}

#[test]
fn fused_experts_with_scales_give_the_same_bits() {
    let golden = golden().into_iter().find(|golden| golden.name == "glm4moe-q4_0").expect("a golden mixture");
    let file = Gguf::open(&golden.path).expect("a golden model");
    let tokens = &golden.cases[0].0;
    for exact in [true, false] {
        let [expected, found] = [&file, &other_form(&file)].map(|file| {
            let model = Model::load(file).expect("a model");
            let options = Options { threads: 2, exact, n_ctx: tokens.len(), ..Options::default() };
            let mut executor = CpuExecutor::new(Arc::new(model), &options).expect("an executor");
            testkit::steps::logits(&mut executor, tokens)
        });
        assert!(expected.iter().map(|l| l.to_bits()).eq(found.iter().map(|l| l.to_bits())), "exact={exact}");
    }
}
