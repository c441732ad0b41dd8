//! Lines of text as a model file: keys of any type, tensors of any shape and format. What loads runs a step, exact or fast.
//!
//! ```text
//! u KEY NUMBER..    f KEY NUMBER    b KEY 0|1..    s KEY TEXT    t TENSOR FORMAT SIZE..
//! ```
//!
//! Lines that are none of these are left out; more than one number is a list. Properties: no panic; a model that fits the limits below runs.

use std::str::FromStr;
use std::sync::Arc;

use cpu::{CpuExecutor, Options};
use device::batch::Want;
use device::{Batch, Executor};
use gguf::{Gguf, Value, Writer};
use model::Model;
use quant::Format;
use testkit::steps::prompt;

pub(crate) const WORDS: &[&str] = &[
    "deepseek2.",
    "gemma4.",
    "qwen35moe.",
    "attention.head_count_kv",
    "attention.key_length_mla",
    "attention.kv_lora_rank",
    "attention.sliding_window_pattern",
    "attn_kv_b.weight",
    "block_count",
    "expert_count",
    "expert_group_count",
    "leading_dense_block_count",
    "nextn_predict_layers",
    "rope.scaling.type yarn",
    "4294967295",
    " 0",
    " Q8_0 ",
    "\nt ",
    "\nu ",
];

/// Bytes of all tensors together.
const MAX_BYTES: usize = 4 << 20;

/// Bytes of what the executor keeps and computes in.
const MAX_PLAN: u64 = 256 << 20;

pub(crate) fn run(bytes: &[u8]) {
    let Some(file) = file(&String::from_utf8_lossy(bytes)) else { return };
    let Ok(model) = Model::load(&file) else { return };
    let exact = bytes.len().is_multiple_of(2);
    let options = Options { threads: 1, exact, n_ctx: 40, n_row: 40, ..Options::default() };
    let plan = options.plan(&model);
    if [plan.kv_cache, plan.state, plan.activations].into_iter().any(|n| n > MAX_PLAN) {
        return;
    }
    let Ok(mut executor) = CpuExecutor::new(Arc::new(model), &options) else { return };
    let n = executor.limits().n_ctx.min(3);
    let span = prompt(&executor, 0, 0, &[0; 3][..n], Want::Logits);
    let ticket = executor.submit(&Batch { spans: vec![span] }).expect("a step");
    assert_eq!(executor.collect(ticket).expect("its results").len(), 1);
}

/// The file; `None` where the lines make none.
fn file(text: &str) -> Option<Gguf> {
    let mut writer = Writer::new();
    let mut left = MAX_BYTES;
    for line in text.lines() {
        let mut words = line.split(' ');
        let (Some(kind), Some(name)) = (words.next(), words.next()) else { continue };
        let rest: Vec<&str> = words.collect();
        if kind == "t" {
            let Some((format, shape)) = tensor(&rest) else { continue };
            let n_value = shape.iter().try_fold(1_usize, |product, &n| product.checked_mul(n));
            let n_byte = n_value.and_then(|n| format.bytes_for(n)).filter(|&n| n <= left)?;
            left -= n_byte;
            // Small numbers in every format of floats, and small scales in the others.
            writer.tensor(name, format, &shape, vec![0x1c; n_byte]);
        } else if let Some(value) = value(kind, &rest) {
            writer.set(name, value);
        }
    }
    Gguf::from_bytes(writer.to_bytes().ok()?).ok()
}

fn tensor(words: &[&str]) -> Option<(Format, Vec<usize>)> {
    let (format, sizes) = words.split_first()?;
    let format = Format::ALL.into_iter().find(|known| known.name() == *format)?;
    Some((format, numbers(sizes)?))
}

fn value(kind: &str, words: &[&str]) -> Option<Value> {
    match kind {
        "u" => listed(numbers::<u32>(words)?),
        "f" => listed(numbers::<f32>(words)?),
        "b" => listed(numbers::<u8>(words)?.into_iter().map(|bit| bit != 0).collect()),
        "s" => Some(Value::from(words.join(" "))),
        _ => None,
    }
}

fn numbers<T: FromStr>(words: &[&str]) -> Option<Vec<T>> {
    words.iter().map(|word| word.parse().ok()).collect()
}

/// One value, or a list of more.
fn listed<T: Copy>(values: Vec<T>) -> Option<Value>
where
    Value: From<T> + From<Vec<T>>,
{
    match values[..] {
        [] => None,
        [value] => Some(Value::from(value)),
        _ => Some(Value::from(values)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_is_a_model() {
        let folder = testkit::root().join("fuzz/seeds/model");
        for entry in std::fs::read_dir(folder).expect("the seeds") {
            let path = entry.expect("a seed").path();
            let text = std::fs::read_to_string(&path).expect("text");
            let file = file(&text).unwrap_or_else(|| panic!("no file: {}", path.display()));
            Model::load(&file).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            run(text.as_bytes());
        }
    }
}
