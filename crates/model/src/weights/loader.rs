//! Finds every tensor that an architecture needs, and refuses what it has no use for.
//!
//! A file is complete or refused: a tensor that is there and not used means that the model is not the one that would be computed.

mod feed_forward;
mod mixer;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::ops::Range;

use gguf::{Gguf, Tensor};

use super::{
    Layer, Linear, Matrix, NormWeights, PerLayer, PerLayerInputs, Weights, floats, misshapen, vector,
};
use crate::architecture::{Architecture, NormKind, Position, RopeScaling};
use crate::architectures::{Family, Keys};
use crate::error::ModelError;
use crate::pooling::{Classifier, MAX_LABELS};
use feed_forward::FACTORS;

/// Values of biases and norms that loading copies, all together: 512 MiB. The largest published models have a hundredth of it, while a sparse
/// file may claim any number of them at no cost.
const MAX_COPIED: usize = 1 << 27;

/// What the entry in memory of one part of a tensor is charged, in values: of one expert, or of one head.
const PART_COST: usize = 64;

/// The family whose published files rank texts with a classifier (Qwen3-Reranker).
const RANKING: &str = "qwen3";

/// How many unused tensors an error names.
const N_NAMED: usize = 4;

/// Tensors of a layer (without `blk.N.`) that may be there without being used, each with its reason.
const REDUNDANT: [&str; 3] = [
    // Files of 2023 repeat the RoPE frequencies in each layer; they follow from `rope.freq_base`.
    "attn_rot_embd",
    "attn_rot_embd.weight",
    "attn.rotary_emb.inv_freq",
];

/// Likewise in a layer that reads the keys and values of an earlier one: what it had of its own before it was trained to.
const REDUNDANT_KV: [&str; 5] =
    ["attn_k.weight", "attn_v.weight", "attn_k_norm.weight", "attn_k.scale", "attn_v.scale"];

/// Ends the name of a matrix's scale for rounding activations to FP4, which some kernels multiply NVFP4 with. Here activations keep more,
/// so the scale has no part in the result.
const INPUT_SCALE: &str = ".input_scale";

/// All tensors of a model by role, and its classifier if it has one.
///
/// # Errors
/// A tensor that is missing or misshapen, or one that is not used.
pub(super) fn weights(
    gguf: &Gguf,
    family: &'static Family,
    arch: &Architecture,
) -> Result<(Weights, Option<Classifier>), ModelError> {
    let biased = biased(gguf, family, arch.n_layer);
    let is_factor = |name: &str| matches!(in_layer(name), Some((n, FACTORS)) if n < arch.n_layer);
    let has_factors = gguf.tensors().iter().any(|info| is_factor(&info.name));
    let loader = Loader {
        gguf,
        family,
        arch,
        biased,
        has_factors,
        used: RefCell::default(),
        maps: RefCell::default(),
        left: Cell::new(MAX_COPIED),
    };
    let weights = loader.weights()?;
    let classifier = loader.classifier()?;
    loader.check_all_used()?;
    Ok((weights, classifier))
}

/// A layer's tensor: its layer and its name without `blk.N.`.
fn in_layer(name: &str) -> Option<(usize, &str)> {
    let (n, part) = name.strip_prefix("blk.")?.split_once('.')?;
    Some((n.parse().ok()?, part))
}

/// Linear maps that have their biases together: Q, K and V may be one tensor in one file and three in another.
fn group(role: &str) -> &str {
    match role {
        "attn_q" | "attn_k" | "attn_v" => "attn_qkv",
        other => other,
    }
}

/// The roles that have biases: those of the family, and those that any layer has. A bias that only some layers have is one that
/// others lack, and zero in its place would be another model.
fn biased<'a>(gguf: &'a Gguf, family: &'static Family, n_layer: usize) -> HashSet<&'a str> {
    let of_layer = |name: &'a str| match in_layer(name) {
        Some((n, part)) if n < n_layer => part.strip_suffix(".bias").map(group),
        _ => None,
    };
    let found = gguf.tensors().iter().filter_map(|info| of_layer(&info.name));
    family.biases.iter().copied().chain(found).collect()
}

/// Finds tensors by name and checks their shapes. Shapes are `[n_out, n_in]`, the reverse of the file's order.
struct Loader<'a> {
    gguf: &'a Gguf,
    family: &'static Family,
    arch: &'a Architecture,
    /// Roles whose linear maps have a bias, in every layer.
    biased: HashSet<&'a str>,
    /// Whether experts with norms of their own have factors for their outputs in any layer, so that all must.
    has_factors: bool,
    /// Names of all tensors that were found.
    used: RefCell<HashSet<String>>,
    /// Names of all linear maps, without what they end in.
    maps: RefCell<HashSet<String>>,
    /// Of [`MAX_COPIED`].
    left: Cell<usize>,
}

impl Loader<'_> {
    fn weights(&self) -> Result<Weights, ModelError> {
        let a = self.arch;
        let table = [a.n_vocab, a.n_embd];
        let token_embd = self.matrix("token_embd.weight", table)?;
        let position_embd = match a.position {
            Position::Learned => Some(self.matrix("position_embd.weight", [a.n_ctx_train, a.n_embd])?),
            Position::Rope(_) => None,
        };
        let output = match self.gguf.tensor("output.weight") {
            Some(_) => self.linear("output", table)?,
            None => Linear { weight: token_embd.clone(), bias: self.optional("output.bias", a.n_vocab)? },
        };
        let per_layer = a.n_per_layer.map(|n| self.per_layer_inputs(n)).transpose()?;
        // A hostile block_count is refused at its first missing layer, before anything of its size is allocated.
        let layers = (0..a.n_layer).map(|n| self.layer(n)).collect::<Result<_, _>>()?;
        let output_norm = self.norm(self.family.norms.output)?;
        Ok(Weights { token_embd, position_embd, per_layer, layers, output_norm, output })
    }

    /// The classifier of the family whose files have one; elsewhere its tensor is one without a use.
    fn classifier(&self) -> Result<Option<Classifier>, ModelError> {
        const WEIGHT: &str = "cls.output.weight";
        let Some(tensor) = self.gguf.tensor(WEIGHT).filter(|_| self.family.name == RANKING) else {
            return Ok(None);
        };
        let n_row = tensor.info.shape.get(1).copied().unwrap_or(1);
        let named = Keys::new(self.gguf, self.family).n_text_of("classifier.output_labels")?;
        let n_label = named.unwrap_or(n_row);
        if n_label != n_row || !(1..=MAX_LABELS).contains(&n_label) {
            return Err(ModelError::Value {
                key: format!("{}.classifier.output_labels", self.family.name),
                expected: format!("a text for each row of {WEIGHT}, 1 to {MAX_LABELS}"),
                found: format!("{n_label} for {n_row} rows"),
            });
        }
        let weight = self.table(WEIGHT, [n_label, self.arch.n_embd])?;
        let bias = self.optional("cls.output.bias", n_label)?;
        Ok(Some(Classifier { weight, bias, n_label }))
    }

    fn check_all_used(&self) -> Result<(), ModelError> {
        let used = self.used.borrow();
        // The factors of RoPE are part of the architecture, which has them where the file's were read.
        let factors: &[&str] = match &self.arch.position {
            Position::Rope(ropes) => match ropes.kinds[0].scaling {
                RopeScaling::Llama3 { .. } => &["rope_freqs.weight"],
                RopeScaling::LongRope { .. } => &["rope_factors_short.weight", "rope_factors_long.weight"],
                _ => &[],
            },
            Position::Learned => &[],
        };
        // Whole blocks after the layers are the file's own further predictions.
        let after = self.arch.n_layer..self.arch.n_layer + self.arch.n_nextn;
        let reads_another = |n: usize| self.arch.heads(n).is_some_and(|heads| !heads.keeps());
        let redundant = |name: &str| {
            in_layer(name).is_some_and(|(n, part)| {
                after.contains(&n)
                    || REDUNDANT.contains(&part)
                    || (reads_another(n) && REDUNDANT_KV.contains(&part))
            })
        };
        let of_weights = |name: &str| used.contains(name) || factors.contains(&name) || redundant(name);
        let maps = self.maps.borrow();
        let of_inputs = |name: &str| {
            let map = name.strip_suffix(INPUT_SCALE);
            map.is_some_and(|map| maps.contains(map) || redundant(&format!("{map}.weight")))
        };
        let is_used = |name: &str| of_weights(name) || of_inputs(name);
        let mut unused = self.gguf.tensors().iter().map(|info| &info.name).filter(|name| !is_used(name));
        let names: Vec<String> = unused.by_ref().take(N_NAMED).cloned().collect();
        match names.len() + unused.count() {
            0 => Ok(()),
            count => Err(ModelError::UnusedTensors { architecture: self.family.name, names, count }),
        }
    }

    fn layer(&self, n: usize) -> Result<Layer, ModelError> {
        let norms = &self.family.norms;
        let norm = |role: Option<&str>| role.map(|role| self.norm(&format!("blk.{n}.{role}"))).transpose();
        Ok(Layer {
            attn_norm: norm(norms.attn)?,
            mixer: self.mixer(n)?,
            attn_post_norm: norm(norms.attn_post)?,
            ffn_norm: norm(norms.ffn)?,
            ffn: self.ffn(n)?,
            ffn_post_norm: norm(norms.ffn_post)?,
            per_layer: self.arch.n_per_layer.map(|width| self.per_layer(n, width)).transpose()?,
            scale: match self.arch.has_layer_scales {
                true => self.required(&format!("blk.{n}.layer_output_scale.weight"), 1)?.first().copied(),
                false => None,
            },
        })
    }

    fn per_layer_inputs(&self, n_per_layer: usize) -> Result<PerLayerInputs, ModelError> {
        let (n_vocab, n_embd) = (self.arch.n_vocab, self.arch.n_embd);
        let n_all = self.arch.n_layer * n_per_layer;
        Ok(PerLayerInputs {
            token_embd: self.matrix("per_layer_token_embd.weight", [n_vocab, n_all])?,
            model: self.linear("per_layer_model_proj", [n_all, n_embd])?,
            norm: self.required("per_layer_proj_norm.weight", n_per_layer)?,
        })
    }

    fn per_layer(&self, n: usize, width: usize) -> Result<PerLayer, ModelError> {
        let n_embd = self.arch.n_embd;
        Ok(PerLayer {
            gate: self.layer_linear(n, "inp_gate", [width, n_embd])?,
            output: self.layer_linear(n, "proj", [n_embd, width])?,
            norm: self.norm(&format!("blk.{n}.post_norm"))?,
        })
    }

    /// Takes `n` values from what may be copied, before they are.
    fn charge(&self, name: &str, n: Option<usize>) -> Result<(), ModelError> {
        let left = self.left.get();
        let rest = n.and_then(|n| left.checked_sub(n)).ok_or_else(|| ModelError::Value {
            key: name.to_owned(),
            expected: format!(
                "at most {MAX_COPIED} values of biases, norms, experts and heads in all tensors"
            ),
            found: n.map_or("more than can be counted".to_owned(), |n| format!("{n} where {left} are left")),
        })?;
        self.left.set(rest);
        Ok(())
    }

    fn find(&self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        let shape: Vec<usize> = shape.iter().rev().copied().collect();
        let tensor = self
            .gguf
            .tensor(name)
            .ok_or_else(|| ModelError::MissingTensor { name: name.to_owned(), shape: shape.clone() })?;
        self.used.borrow_mut().insert(name.to_owned());
        // Trailing dimensions of 1 may be written or left out.
        let significant = tensor.info.shape.iter().rposition(|&n| n != 1).map_or(1, |last| last + 1);
        let expected = shape.iter().rposition(|&n| n != 1).map_or(1, |last| last + 1);
        if tensor.info.shape.get(..significant) == shape.get(..expected) {
            Ok(tensor)
        } else {
            Err(misshapen(&tensor, &shape))
        }
    }

    fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<Matrix, ModelError> {
        let tensor = self.find(name, &shape)?;
        Matrix::new(name, tensor.info.format, shape, tensor.bytes.clone())
            .ok_or_else(|| misshapen(&tensor, &shape))
    }

    /// The matrix of a linear map, with its scale.
    fn weight(&self, name: &str, shape: [usize; 2]) -> Result<Matrix, ModelError> {
        let scale = self.scales(name, 1)?.and_then(|scales| scales.first().copied());
        Ok(Matrix { scale, ..self.matrix(&format!("{name}.weight"), shape)? })
    }

    /// The scales of `n` matrices in one tensor, where the file has them.
    fn scales(&self, name: &str, n: usize) -> Result<Option<Vec<f32>>, ModelError> {
        self.maps.borrow_mut().insert(name.to_owned());
        if self.has_other_scale(name) {
            return Ok(None);
        }
        let name = format!("{name}.scale");
        let scales = self.optional(&name, n)?;
        match scales.iter().flatten().find(|scale| !(scale.is_finite() && **scale > 0.0)) {
            None => Ok(scales),
            Some(scale) => Err(ModelError::Value {
                key: name,
                expected: "finite scales above 0".to_owned(),
                found: scale.to_string(),
            }),
        }
    }

    /// Whether the tensor that would be a matrix's scale is something else: a router's norm, or factors of experts' outputs.
    fn has_other_scale(&self, name: &str) -> bool {
        let Some((n, "ffn_gate_inp" | "ffn_down_exps")) = in_layer(name) else { return false };
        let mixture = self.arch.feed_forward[n].mixture();
        mixture.is_some_and(|mixture| mixture.has_branch_norms)
    }

    fn linear(&self, name: &str, shape: [usize; 2]) -> Result<Linear, ModelError> {
        let weight = self.weight(name, shape)?;
        Ok(Linear { weight, bias: self.optional(&format!("{name}.bias"), shape[0])? })
    }

    fn layer_linear(&self, n: usize, role: &str, shape: [usize; 2]) -> Result<Linear, ModelError> {
        let name = format!("blk.{n}.{role}");
        let weight = self.weight(&name, shape)?;
        let bias = match self.biased.contains(group(role)) {
            true => Some(self.required(&format!("{name}.bias"), shape[0])?),
            false => None,
        };
        Ok(Linear { weight, bias })
    }

    /// Linear maps of one shape in one tensor, `[n_map, n_out, n_in]`: of experts, or of heads. Each has a scale of its own, if any has.
    fn stacked(&self, n: usize, role: &str, shape: [usize; 3]) -> Result<Vec<Linear>, ModelError> {
        let [n_map, n_out, n_in] = shape;
        let name = format!("blk.{n}.{role}");
        let weight = format!("{name}.weight");
        let tensor = self.find(&weight, &shape)?;
        let all = Matrix::new(&weight, tensor.info.format, [n_map * n_out, n_in], tensor.bytes.clone())
            .ok_or_else(|| misshapen(&tensor, &shape))?;
        let bias = match self.biased.contains(group(role)) {
            true => Some(self.table(&format!("{name}.bias"), [n_map, n_out])?),
            false => None,
        };
        self.charge_parts(&weight, n_map)?;
        let all = Linear { weight: all, bias };
        let scales = self.scales(&name, n_map)?;
        let map = |i: usize| {
            let mut map = part(&all, i * n_out..(i + 1) * n_out)?;
            map.weight.scale = scales.as_ref().map(|scales| scales[i]);
            Ok(map)
        };
        (0..n_map).map(map).collect()
    }

    fn charge_parts(&self, name: &str, n: usize) -> Result<(), ModelError> {
        self.charge(name, n.checked_mul(PART_COST))
    }

    /// Rows of values that are copied.
    fn table(&self, name: &str, [n_row, n_col]: [usize; 2]) -> Result<Vec<f32>, ModelError> {
        let tensor = self.find(name, &[n_row, n_col])?;
        let n = n_row.checked_mul(n_col);
        self.charge(name, n)?;
        floats(&tensor, n.unwrap_or_default())
    }

    fn norm(&self, name: &str) -> Result<NormWeights, ModelError> {
        let n_embd = self.arch.n_embd;
        let weight = self.required(&format!("{name}.weight"), n_embd)?;
        let bias = match self.arch.norm.kind {
            NormKind::Rms => None,
            NormKind::Layer => Some(self.required(&format!("{name}.bias"), n_embd)?),
        };
        Ok(NormWeights { weight, bias })
    }

    fn required(&self, name: &str, len: usize) -> Result<Vec<f32>, ModelError> {
        let tensor = self.find(name, &[len])?;
        self.charge(name, Some(len))?;
        vector(&tensor, len)
    }

    fn optional(&self, name: &str, len: usize) -> Result<Option<Vec<f32>>, ModelError> {
        self.gguf.tensor(name).map(|_| self.required(name, len)).transpose()
    }
}

/// Some outputs of a linear map.
fn part(whole: &Linear, rows: Range<usize>) -> Result<Linear, ModelError> {
    let bias = whole.bias.as_ref().map(|b| b[rows.clone()].to_vec());
    Ok(Linear { weight: whole.weight.part(rows)?, bias })
}
