//! How is a model measured that is not there? Its shapes are published: a file with random weights of the same shapes and formats takes the same
//! time.
//!
//! The file is made in memory, without a name on any disk, and is gone with the process. Layers with the same shapes have the same values;
//! each has bytes of its own in the file.

mod blocks;
mod presets;

use std::collections::HashMap;
use std::fs::File;
use std::io::BufWriter;
use std::num::NonZeroUsize;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Context;
use gguf::{TensorBytes, Value, Writer};
use quant::Format;
use rustix::fs::MemfdFlags;

use self::blocks::Scheme;
use self::presets::{ALL, Preset};
use super::random::Random;
use crate::exit::Failure;

/// A model to make up: `NAME` or `NAME:FORMAT`, where a format is a weight format's name or that of a mixture.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    preset: Preset,
    n_left_out: usize,
    scheme: Scheme,
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Shape, String> {
        let (name, format) = text.split_once(':').unwrap_or((text, ""));
        let preset = ALL.into_iter().find(|preset| preset.name == name);
        let preset =
            preset.ok_or_else(|| format!("expected one of {}", ALL.map(|preset| preset.name).join(", ")))?;
        let format = match format {
            "" if preset.family == "gpt-oss" => "mxfp4",
            "" => "q4_k_m",
            format => format,
        };
        let scheme = Scheme::all().find(|scheme| scheme.to_string().eq_ignore_ascii_case(format));
        let scheme = scheme.ok_or_else(|| {
            let names: Vec<_> = Scheme::all().map(|scheme| scheme.to_string()).collect();
            format!("expected a format of {}", names.join(", "))
        })?;
        Ok(Shape { preset, n_left_out: 0, scheme })
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.preset.name, self.scheme)?;
        match self.n_left_out {
            0 => Ok(()),
            _ => write!(f, ", {} layers", self.preset.n_layer),
        }
    }
}

/// A file in memory; its path is good as long as this lives.
pub(crate) struct Made {
    pub(crate) path: PathBuf,
    _file: File,
}

impl Shape {
    /// With its first `n` layers alone.
    pub(crate) fn first_layers(&self, n: Option<NonZeroUsize>) -> Result<Shape, Failure> {
        let mut shape = self.clone();
        let has = self.preset.n_layer;
        let n = n.map_or(has, NonZeroUsize::get);
        let too_many =
            || Failure::Usage(format!("--layers: expected at most the {has} of {self}, found {n}"));
        shape.n_left_out = has.checked_sub(n).ok_or_else(too_many)?;
        shape.preset.n_layer = n;
        Ok(shape)
    }

    /// Makes the file.
    pub(crate) fn make(&self) -> anyhow::Result<Made> {
        tracing::info!("making random weights of {self}");
        let file = File::from(
            rustix::fs::memfd_create("model.gguf", MemfdFlags::CLOEXEC).context("a file in memory")?,
        );
        // By number, so that a peer's process finds it too.
        let path = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()));
        let mut out = BufWriter::with_capacity(1 << 20, file);
        self.writer().write(&mut out).context("a file in memory")?;
        let file = out.into_inner().context("a file in memory")?;
        Ok(Made { path, _file: file })
    }

    fn writer(&self) -> Writer {
        let mut draft = Draft {
            writer: Writer::new(),
            preset: self.preset,
            scheme: self.scheme,
            layer: 0,
            made: HashMap::new(),
            random: Random(1),
        };
        draft.metadata(&self.to_string());
        draft.ends();
        for layer in 0..self.preset.n_layer {
            draft.layer = layer;
            draft.layer();
        }
        draft.writer
    }
}

/// Tensors are alike if these are: format, sizes, the bits of mean and deviation.
type Kind = (Format, Vec<usize>, [u32; 2]);

/// The file so far.
struct Draft {
    writer: Writer,
    preset: Preset,
    scheme: Scheme,
    layer: usize,
    made: HashMap<Kind, TensorBytes>,
    random: Random,
}

impl Draft {
    fn set(&mut self, key: &str, value: impl Into<Value>) {
        let family = self.preset.family;
        self.writer.set(format!("{family}.{key}"), value);
    }

    fn metadata(&mut self, name: &str) {
        let p = self.preset;
        self.writer.set("general.architecture", p.family).set("general.name", format!("random {name}"));
        self.writer.set("tokenizer.ggml.model", "no_vocab");
        for (key, value) in [
            ("block_count", p.n_layer),
            ("context_length", p.n_ctx),
            ("embedding_length", p.n_embd),
            ("feed_forward_length", p.n_ff),
            ("attention.head_count", p.n_head),
            ("attention.head_count_kv", p.n_head_kv),
            ("attention.key_length", p.head_size),
            ("attention.value_length", p.head_size),
            ("rope.dimension_count", p.recurrent.map_or(p.head_size, |recurrent| recurrent.n_rotated)),
            ("vocab_size", p.n_vocab),
        ] {
            self.set(key, value as u32);
        }
        self.set("attention.layer_norm_rms_epsilon", 1e-5f32);
        self.set("rope.freq_base", p.rope_base);
        if p.window > 0 {
            self.set("attention.sliding_window", p.window as u32);
        }
        if let Some(mixture) = p.mixture {
            self.set("expert_count", mixture.n_expert as u32);
            self.set("expert_used_count", mixture.n_used as u32);
            self.set("expert_feed_forward_length", mixture.n_ff as u32);
        }
        if p.family == "gpt-oss" {
            self.set("rope.scaling.type", "yarn");
            self.set("rope.scaling.factor", 32f32);
            self.set("rope.scaling.original_context_length", 4096u32);
        }
        if let Some(r) = p.recurrent {
            for (key, value) in [
                ("full_attention_interval", r.interval),
                ("ssm.conv_kernel", r.n_conv),
                ("ssm.state_size", r.state),
                ("ssm.group_count", r.n_key_head),
                ("ssm.time_step_rank", r.n_value_head),
                ("ssm.inner_size", r.n_value_head * r.state),
            ] {
                self.set(key, value as u32);
            }
            self.set("rope.dimension_sections", Value::from(vec![11i32, 11, 10, 0]));
        }
    }

    /// What stands before and after the layers.
    fn ends(&mut self) {
        let p = self.preset;
        self.matrix("token_embd", &[p.n_embd, p.n_vocab]);
        if !p.is_tied {
            self.matrix("output", &[p.n_embd, p.n_vocab]);
        }
        self.values("output_norm.weight", &[p.n_embd], (1.0, 0.02));
    }

    fn layer(&mut self) {
        let p = self.preset;
        self.norm("attn_norm", p.n_embd);
        match p.recurrent.filter(|recurrent| !(self.layer + 1).is_multiple_of(recurrent.interval)) {
            Some(recurrent) => self.recurrent(recurrent),
            None => self.attention(),
        }
        let is_post = p.recurrent.is_some() || p.family == "gpt-oss";
        self.norm(if is_post { "post_attention_norm" } else { "ffn_norm" }, p.n_embd);
        match (p.mixture, p.family) {
            (Some(mixture), _) => self.experts(mixture),
            (None, "phi3") => {
                self.in_layer("ffn_up", &[p.n_embd, 2 * p.n_ff]);
                self.in_layer("ffn_down", &[p.n_ff, p.n_embd]);
            }
            (None, _) => {
                self.in_layer("ffn_gate", &[p.n_embd, p.n_ff]);
                self.in_layer("ffn_up", &[p.n_embd, p.n_ff]);
                self.in_layer("ffn_down", &[p.n_ff, p.n_embd]);
            }
        }
    }

    fn attention(&mut self) {
        let p = self.preset;
        let (q, kv) = (p.n_head * p.head_size, p.n_head_kv * p.head_size);
        // Where attention is gated, a head's gate stands beside its query.
        let q_rows = if p.recurrent.is_some() { 2 * q } else { q };
        if p.family == "phi3" {
            self.in_layer("attn_qkv", &[p.n_embd, q + 2 * kv]);
        } else {
            self.in_layer("attn_q", &[p.n_embd, q_rows]);
            self.in_layer("attn_k", &[p.n_embd, kv]);
            self.in_layer("attn_v", &[p.n_embd, kv]);
        }
        if matches!(p.family, "qwen2" | "gpt-oss") {
            for (name, n) in [("attn_q", q), ("attn_k", kv), ("attn_v", kv)] {
                self.in_layer_values(&format!("{name}.bias"), &[n], (0.0, 0.02));
            }
        }
        if p.family.starts_with("qwen3") {
            self.norm("attn_q_norm", p.head_size);
            self.norm("attn_k_norm", p.head_size);
        }
        self.in_layer("attn_output", &[q, p.n_embd]);
        if p.family == "gpt-oss" {
            self.in_layer_values("attn_output.bias", &[p.n_embd], (0.0, 0.02));
            self.in_layer_values("attn_sinks.weight", &[p.n_head], (0.0, 1.0));
        }
    }

    fn recurrent(&mut self, r: presets::Recurrent) {
        let n_embd = self.preset.n_embd;
        let (qkv, z) = ((2 * r.n_key_head + r.n_value_head) * r.state, r.n_value_head * r.state);
        self.in_layer("attn_qkv", &[n_embd, qkv]);
        self.in_layer("attn_gate", &[n_embd, z]);
        self.in_layer("ssm_alpha", &[n_embd, r.n_value_head]);
        self.in_layer("ssm_beta", &[n_embd, r.n_value_head]);
        self.in_layer_values("ssm_conv1d.weight", &[r.n_conv, qkv], (0.0, 0.3));
        self.in_layer_values("ssm_a", &[r.n_value_head], (-1.0, 0.02));
        self.in_layer_values("ssm_dt.bias", &[r.n_value_head], (0.0, 0.02));
        self.norm("ssm_norm", r.state);
        self.in_layer("ssm_out", &[z, n_embd]);
    }

    fn experts(&mut self, mixture: presets::Mixture) {
        let (n_embd, n) = (self.preset.n_embd, mixture.n_expert);
        let has_bias = self.preset.family == "gpt-oss";
        self.in_layer_values("ffn_gate_inp.weight", &[n_embd, n], (0.0, 0.02));
        if has_bias {
            self.in_layer_values("ffn_gate_inp.bias", &[n], (0.0, 0.02));
        }
        for (name, n_in, n_out) in [
            ("ffn_gate_exps", n_embd, mixture.n_ff),
            ("ffn_up_exps", n_embd, mixture.n_ff),
            ("ffn_down_exps", mixture.n_ff, n_embd),
        ] {
            self.in_layer(name, &[n_in, n_out, n]);
            if has_bias {
                self.in_layer_values(&format!("{name}.bias"), &[n_out, n], (0.0, 0.02));
            }
        }
    }

    fn norm(&mut self, name: &str, n: usize) {
        self.in_layer_values(&format!("{name}.weight"), &[n], (1.0, 0.02));
    }

    fn in_layer(&mut self, name: &str, shape: &[usize]) {
        self.put(&format!("blk.{}.{name}.weight", self.layer), name, shape);
    }

    fn in_layer_values(&mut self, name: &str, shape: &[usize], normal: (f32, f32)) {
        self.values(&format!("blk.{}.{name}", self.layer), shape, normal);
    }

    fn matrix(&mut self, name: &str, shape: &[usize]) {
        self.put(&format!("{name}.weight"), name, shape);
    }

    /// Adds a matrix, or one for each expert, in the format that the scheme has for its role.
    fn put(&mut self, full_name: &str, name: &str, shape: &[usize]) {
        let p = self.preset;
        let format = self.scheme.of(name, (self.layer, p.n_layer), shape[0], p.is_tied);
        let deviation = if name == "token_embd" { 0.02 } else { 0.6 / (shape[0] as f32).sqrt() };
        let bytes = self.bytes(format, shape, (0.0, deviation));
        self.writer.tensor(full_name, format, shape, bytes);
    }

    /// Adds values of float32.
    fn values(&mut self, full_name: &str, shape: &[usize], normal: (f32, f32)) {
        let bytes = self.bytes(Format::F32, shape, normal);
        self.writer.tensor(full_name, Format::F32, shape, bytes);
    }

    fn bytes(&mut self, format: Format, shape: &[usize], (mean, deviation): (f32, f32)) -> TensorBytes {
        let (kind, n) =
            ((format, shape.to_vec(), [mean.to_bits(), deviation.to_bits()]), shape.iter().product());
        let random = &mut self.random;
        let made = self.made.entry(kind).or_insert_with(|| {
            let bytes = match format {
                Format::F32 => blocks::floats(random, n, mean, deviation),
                format => blocks::weights(random, format, n, deviation),
            };
            bytes.into()
        });
        made.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file of a model of two layers, or as many as its kinds of layers ask for.
    fn small(text: &str) -> Vec<u8> {
        let mut shape: Shape = text.parse().unwrap();
        shape.preset.n_layer = if shape.preset.recurrent.is_some() { 4 } else { 2 };
        shape.preset.n_vocab = 64;
        if let Some(mixture) = &mut shape.preset.mixture {
            mixture.n_expert = 8;
        }
        shape.writer().to_bytes().unwrap()
    }

    #[test]
    fn layers_may_be_left_out_but_not_added() {
        let mut whole: Shape = "smollm2-135m:q4_1".parse().unwrap();
        whole.preset.n_vocab = 64;
        let layers = |n| whole.first_layers(NonZeroUsize::new(n)).map_err(|failure| failure.to_string());
        let two = layers(2).unwrap();
        assert_eq!(two.to_string(), "smollm2-135m:q4_1, 2 layers");
        let file = two.writer().to_bytes().unwrap();
        let is_there = |name: &[u8]| file.windows(name.len()).any(|window| window == name);
        assert!(is_there(b"blk.1.ffn_up.weight") && !is_there(b"blk.2.ffn_up.weight"));
        assert_eq!(layers(30).unwrap().to_string(), "smollm2-135m:q4_1");
        assert_eq!(
            layers(31).unwrap_err(),
            "--layers: expected at most the 30 of smollm2-135m:q4_1, found 31"
        );
    }

    #[test]
    fn every_preset_is_a_model_that_loads() {
        for name in [
            "smollm2-135m",
            "qwen2.5-0.5b:f16",
            "phi-3-mini:q4_0",
            "gpt-oss-20b",
            "qwen3-30b-a3b",
            "qwen35-like",
            "smollm2-135m:iq3_s",
            "qwen2.5-0.5b:tq1_0",
            "qwen3-30b-a3b:iq1_m",
            "qwen35-like:iq2_xxs",
        ] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), small(name)).unwrap();
            let gguf = gguf::Gguf::open(file.path()).unwrap();
            let model = model::Model::load(&gguf).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(model.architecture.n_vocab, 64, "{name}");
        }
    }

    #[test]
    fn names_that_are_not_there_are_answered_with_those_that_are() {
        assert!("llama-4".parse::<Shape>().unwrap_err().contains("llama-3-8b"));
        assert!("llama-3-8b:q9".parse::<Shape>().unwrap_err().contains("q4_k_m"));
        assert_eq!("gpt-oss-20b".parse::<Shape>().unwrap().to_string(), "gpt-oss-20b:mxfp4");
        assert_eq!("llama-3-8b:IQ3_S".parse::<Shape>().unwrap().to_string(), "llama-3-8b:iq3_s");
    }
}
