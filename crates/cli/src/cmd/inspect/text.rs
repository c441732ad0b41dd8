//! How are a file's facts written for people? One labelled line a topic.
//!
//! What the file does not say is left out, so that a line is never a guess. Sizes are in binary units, contexts and windows in
//! tokens, shapes innermost dimension first.

use std::fmt;

use super::facts::Facts;
use crate::units::{Bytes, Count};

impl fmt::Display for Facts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.model(f)?;
        self.shape(f)?;
        self.text_side(f)?;
        if let Some(memory) = &self.memory {
            line(f, "memory", &memory.to_string())?;
        }
        for notice in &self.notices {
            line(f, "notice", notice)?;
        }
        if let Some(metadata) = &self.metadata {
            write!(f, "{metadata}")?;
        }
        for t in self.tensors.iter().flatten() {
            let shape: Vec<String> = t.shape.iter().map(ToString::to_string).collect();
            writeln!(f, "  {:<40} {:<7} [{}] {}", t.name, t.format, shape.join(", "), Bytes(t.bytes as u64))?;
        }
        Ok(())
    }
}

impl Facts<'_> {
    fn model(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for file in &self.files {
            line(f, "file", file)?;
        }
        line(f, "size", &format!("{} (GGUF version {})", Bytes(self.file_bytes), self.gguf_version))?;
        if let Some(name) = &self.name {
            line(f, "name", name)?;
        }
        let runs = match &self.unsupported_reason {
            None => String::new(),
            Some(reason) => format!(" (cannot run: {reason})"),
        };
        line(f, "architecture", &format!("{}{runs}", self.architecture.as_deref().unwrap_or("not stated")))?;
        let weights = format!("{} in {} tensors", Bytes(self.weights_bytes), self.tensor_count);
        line(f, "parameters", &format!("{}, {weights}", Count(self.parameters)))?;
        for (n, share) in self.formats.iter().enumerate() {
            let said = format!(
                "{:<6} {:>4} tensors {:>10}",
                share.format,
                share.tensors,
                Bytes(share.bytes).to_string()
            );
            line(f, if n == 0 { "formats" } else { "" }, &said)?;
        }
        Ok(())
    }

    fn shape(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = &self.sizes;
        let layers = [("", s.n_layer), ("width ", s.n_embd), ("feed-forward ", s.n_ff)];
        listed(f, "layers", &layers)?;
        let attention = [("heads ", s.n_head), ("KV heads ", s.n_kv_head), ("values a head ", s.head_dim)];
        listed(f, "attention", &attention)?;
        if let Some(window) = s.window {
            let layers = s.n_window_layer.zip(s.n_layer).map(|(n, all)| format!(" on {n} of {all} layers"));
            line(f, "window", &format!("{window} tokens{}", layers.unwrap_or_default()))?;
        }
        if let (Some(n), Some(used)) = (s.n_expert, s.n_expert_used) {
            line(f, "experts", &format!("{n}, {used} used by a token"))?;
        }
        if let Some(base) = s.rope_base {
            let scaling = s.rope_scaling.as_ref().map(|text| format!(", {text}")).unwrap_or_default();
            line(f, "RoPE", &format!("base {base}{scaling}"))?;
        }
        match s.n_ctx_train {
            Some(n) => line(f, "context", &format!("{n} tokens")),
            None => Ok(()),
        }
    }

    fn text_side(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = &self.tokenizer;
        if let Some(n) = t.n_vocab {
            let id = |name, id: Option<u32>| id.map(|id| format!(", {name} {id}")).unwrap_or_default();
            line(f, "vocabulary", &format!("{n} tokens{}{}", id("BOS", t.bos), id("EOS", t.eos)))?;
        }
        if let Some(kind) = &t.kind {
            let pre = t.pre.as_ref().map(|pre| format!(", pre-tokenizer {pre}")).unwrap_or_default();
            line(f, "tokenizer", &format!("{kind}{pre}"))?;
        }
        line(f, "chat template", if self.chat_template { "yes" } else { "no" })?;
        match &self.sampling {
            Some(defaults) => line(f, "sampling", &defaults.to_string()),
            None => Ok(()),
        }
    }
}

fn line(f: &mut fmt::Formatter<'_>, label: &str, text: &str) -> fmt::Result {
    writeln!(f, "{label:<14} {text}")
}

/// `30, width 576`: those that are known.
fn listed(f: &mut fmt::Formatter<'_>, label: &str, facts: &[(&str, Option<usize>)]) -> fmt::Result {
    let known: Vec<String> = facts.iter().filter_map(|(name, n)| Some(format!("{name}{}", (*n)?))).collect();
    if known.is_empty() { Ok(()) } else { line(f, label, &known.join(", ")) }
}
