//! What is supported, and what shows it: the tables of the book's page `support.md`, made from the code's own lists and the golden models.
//!
//! Families are those of `model`; their features are read off the architectures of their golden models. The tests of both devices go through all of
//! these, and one without a GPU holds that none is refused there.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use gguf::Gguf;
use model::Architecture;
use model::architecture::{
    Activation, FeedForwardKind, Gating, KvSource, Mixer, NormKind, Pairing, Position, QkNorm, RopeScaling,
};
use model::architectures::FAMILIES;
use quant::Format;

use crate::process::root;

/// The page, from the root.
pub(crate) const PAGE: &str = "docs/src/support.md";
const BEGIN: &str = "<!-- support: begin -->\n";
const END: &str = "<!-- support: end -->\n";

/// A golden model, as far as the tables tell of it.
struct Proof {
    name: String,
    architecture: Architecture,
    formats: Vec<Format>,
}

/// Writes the tables into the page.
pub(crate) fn run() -> Result<()> {
    let path = root().join(PAGE);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {PAGE}"))?;
    fs::write(&path, with_tables(&text, &tables(&proofs()?))?)?;
    println!("{PAGE} is current");
    Ok(())
}

/// Whether the page has the tables that [`run`] would write.
pub(crate) fn is_current() -> Result<bool> {
    let text = fs::read_to_string(root().join(PAGE)).with_context(|| format!("cannot read {PAGE}"))?;
    Ok(with_tables(&text, &tables(&proofs()?))? == text)
}

fn proofs() -> Result<Vec<Proof>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(root().join("tests/golden"))? {
        paths.push(entry?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|end| end == "gguf"));
    paths.sort();
    paths.iter().map(|path| proof(path)).collect()
}

fn proof(path: &Path) -> Result<Proof> {
    let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let gguf = Gguf::open(path).with_context(|| format!("cannot read {name}"))?;
    let (_, architecture) =
        model::architectures::read(&gguf).with_context(|| format!("cannot read {name}"))?;
    let mut formats: Vec<Format> = gguf.tensors().iter().map(|info| info.format).collect();
    formats.sort_unstable();
    formats.dedup();
    Ok(Proof { name, architecture, formats })
}

fn with_tables(text: &str, tables: &str) -> Result<String> {
    let (before, rest) = text.split_once(BEGIN).with_context(|| format!("{PAGE} has no {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("{PAGE} has no {END}"))?;
    Ok(format!("{before}{BEGIN}\n{tables}\n{END}{after}"))
}

fn tables(proofs: &[Proof]) -> String {
    let mut text =
        "| family | features | CPU | GPU | compared with the reference on |\n|---|---|---|---|---|\n"
            .to_owned();
    for family in FAMILIES {
        let of_family: Vec<&Proof> =
            proofs.iter().filter(|proof| proof.architecture.family == family.name).collect();
        let runs = if of_family.is_empty() { "read, compared with nothing" } else { "yes" };
        let row = [&features(&of_family), runs, runs, &names(&of_family)];
        text += &format!("| `{}` | {} |\n", family.name, row.join(" | "));
    }
    text += "\n| format | compared with the reference on |\n|---|---|\n";
    for format in Format::ALL {
        let of_format: Vec<&Proof> = proofs.iter().filter(|proof| proof.formats.contains(&format)).collect();
        let shown = match of_format.as_slice() {
            [] if matches!(format, Format::Q1_0 | Format::Q2_0) => {
                "blocks decoded by ggml's rule (`crates/quant/tests/vectors`)".to_owned()
            }
            [] => "blocks decoded by gguf-py (`crates/quant/tests/vectors`)".to_owned(),
            few if few.len() <= 4 => names(few),
            many => format!("{} and {} others", names(&many[..3]), many.len() - 3),
        };
        text += &format!("| {format} | {shown} |\n");
    }
    text
}

fn names(proofs: &[&Proof]) -> String {
    proofs.iter().map(|proof| format!("`{}`", proof.name)).collect::<Vec<_>>().join(", ")
}

/// What the models of a family have, each named once.
fn features(proofs: &[&Proof]) -> String {
    let mut all: Vec<&'static str> = Vec::new();
    for feature in proofs.iter().flat_map(|proof| features_of(&proof.architecture)) {
        if !all.contains(&feature) {
            all.push(feature);
        }
    }
    all.join(", ")
}

fn features_of(arch: &Architecture) -> Vec<&'static str> {
    let mut found = Vec::new();
    let mut note = |is_there: bool, what: &'static str| found.extend(is_there.then_some(what));
    note(arch.norm.kind == NormKind::Layer, "layer norm");
    note(arch.has_post_norms, "norms after attention and feed-forward");
    positions(arch, &mut note);
    attention(arch, &mut note);
    feed_forward(arch, &mut note);
    note(arch.scales.embedding != 1.0, "scaled embedding");
    note(arch.scales.residual != 1.0, "scaled residual");
    note(arch.scales.logits != 1.0, "scaled logits");
    note(arch.logit_cap.is_some(), "capped logits");
    note(arch.n_per_layer.is_some(), "inputs of the token by layer");
    note(arch.has_layer_scales, "scaled layers");
    note(arch.n_nextn > 0, "skipped blocks of further predictions");
    found
}

fn positions(arch: &Architecture, note: &mut impl FnMut(bool, &'static str)) {
    let Position::Rope(ropes) = &arch.position else { return note(true, "learned positions") };
    let head_dim = |rope: usize| {
        let mut layers = ropes.layers.iter().enumerate().filter(|(_, kind)| **kind == Some(rope));
        layers.find_map(|(layer, _)| arch.heads(layer)).map_or(0, |heads| heads.head_dim)
    };
    for (kind, rope) in ropes.kinds.iter().enumerate() {
        note(rope.pairing == Pairing::Adjacent, "RoPE of adjacent pairs");
        note(rope.pairing == Pairing::HalfSplit, "RoPE of half-split pairs");
        note(rope.n_rot < head_dim(kind), "partial RoPE");
        note(matches!(rope.scaling, RopeScaling::Linear { .. }), "linear scaling");
        note(matches!(rope.scaling, RopeScaling::Llama3 { .. }), "factors of frequencies");
        note(matches!(rope.scaling, RopeScaling::LongRope { .. }), "LongRoPE");
        note(matches!(rope.scaling, RopeScaling::Yarn { .. }), "YaRN");
    }
    note(ropes.kinds.len() > 1, "two rotations");
    note(ropes.layers.contains(&None), "layers without positions");
}

fn attention(arch: &Architecture, note: &mut impl FnMut(bool, &'static str)) {
    let attention = &arch.attention;
    let any = |is: fn(&Mixer) -> bool| arch.mixers.iter().any(is);
    note(any(|mixer| matches!(mixer, Mixer::Latent(_))), "latent attention");
    note(any(|mixer| matches!(mixer, Mixer::ShortConv(_))), "short convolutions");
    note(any(|mixer| matches!(mixer, Mixer::DeltaRule(_))), "gated delta rule");
    note(any(|mixer| mixer.heads().is_some_and(|heads| heads.window.is_some())), "sliding window");
    let from = |source: fn(KvSource) -> bool| {
        arch.mixers.iter().filter_map(Mixer::heads).any(|heads| source(heads.source))
    };
    note(from(|source| source == KvSource::KeysAlone), "values that are keys");
    note(from(|source| matches!(source, KvSource::Layer(_))), "keys and values of an earlier layer");
    note(attention.qk_norm == Some(QkNorm::Head), "norms of query and key heads");
    note(attention.qk_norm == Some(QkNorm::Row), "norms of query and key rows");
    note(attention.v_norm, "norms of value heads");
    note(attention.sinks, "sinks");
    note(attention.score_cap.is_some(), "capped scores");
    note(attention.temperature.is_some(), "temperature by position");
    note(attention.gated, "gated attention");
}

fn feed_forward(arch: &Architecture, note: &mut impl FnMut(bool, &'static str)) {
    for layer in &arch.feed_forward {
        note(layer.activation == Activation::Silu, "SiLU");
        note(layer.activation == Activation::GeluTanh, "GELU");
        note(matches!(layer.activation, Activation::ClampedSwiglu { .. }), "clamped SwiGLU");
        note(layer.kind == FeedForwardKind::Plain, "plain feed-forward");
        let Some(mixture) = layer.mixture() else { continue };
        note(true, "experts");
        note(mixture.router.gating == Gating::Sigmoid, "sigmoid router");
        note(mixture.router.gating == Gating::Softmax, "softmax router over all");
        note(mixture.router.has_choice_bias, "bias of the choice");
        note(mixture.router.groups.is_some(), "groups of experts");
        note(mixture.shared.is_some() && !mixture.has_branch_norms, "shared experts");
        note(mixture.has_branch_norms, "dense feed-forward beside experts");
    }
    let dense = arch.feed_forward.iter().filter(|layer| layer.mixture().is_none()).count();
    note(dense > 0 && dense < arch.feed_forward.len(), "dense layers before mixtures");
}
