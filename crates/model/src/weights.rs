//! A model's tensors by role, checked against its architecture, without copying any matrix.
//!
//! A [`Matrix`] is a range of rows of a tensor in the mapped file, in the file's own format. Fused tensors (QKV, gate and up) are
//! cut into their parts here, so an executor sees one shape of layer. Vectors (norms, biases, sinks) are small and become float32.

mod loader;
mod mixer;

use std::ops::Range;

use gguf::{Gguf, Tensor, TensorBytes};
use quant::Format;

use crate::architecture::Architecture;
use crate::architectures::{self, Keys};
use crate::error::ModelError;
use crate::pooling::{Classifier, Pooling};
pub use mixer::{
    AttentionWeights, DeltaRuleWeights, KeyMaps, LatentWeights, MixerWeights, QueryRow, ShortConvWeights,
};

/// A model: what it is, and its weights.
#[derive(Clone, Debug)]
pub struct Model {
    /// Sizes and choices.
    pub architecture: Architecture,
    /// Tensors by role.
    pub weights: Weights,
    /// What makes a text's vector, where the file says it.
    pub pooling: Option<Pooling>,
    /// What ranks a text's vector, where the file is for that.
    pub classifier: Option<Classifier>,
}

impl Model {
    /// Reads the architecture and finds every tensor it needs. No weight is read.
    ///
    /// # Errors
    /// An unknown architecture, a key or tensor that is missing, misshapen or contradicts another, a tensor that the architecture
    /// has no use for.
    pub fn load(gguf: &Gguf) -> Result<Model, ModelError> {
        let (family, architecture) = architectures::read(gguf)?;
        let pooling = Pooling::read(&Keys::new(gguf, family))?;
        let (weights, classifier) = loader::weights(gguf, family, &architecture)?;
        Ok(Model { architecture, weights, pooling, classifier })
    }
}

/// All tensors of a model.
#[derive(Clone, Debug)]
pub struct Weights {
    /// `[n_vocab, n_embd]`.
    pub token_embd: Matrix,
    /// `[n_ctx_train, n_embd]`, where positions are learned.
    pub position_embd: Option<Matrix>,
    /// Where each layer adds something of the token itself.
    pub per_layer: Option<PerLayerInputs>,
    /// By layer.
    pub layers: Vec<Layer>,
    /// Before the output.
    pub output_norm: NormWeights,
    /// `[n_vocab, n_embd]`: the file's own, or the embedding's where it is tied.
    pub output: Linear,
}

impl Weights {
    /// Bytes of all tensors in the file; a tied output counts once, a matrix's scale once for each part that the matrix is cut into.
    #[must_use]
    pub fn n_bytes(&self) -> u64 {
        let linear = |l: &Linear| {
            let scale = 4 * usize::from(l.weight.scale.is_some());
            l.weight.bytes.len() + scale + l.bias.as_ref().map_or(0, |b| 4 * b.len())
        };
        let norm = |n: &NormWeights| 4 * n.weight.len() + n.bias.as_ref().map_or(0, |b| 4 * b.len());
        let all = |ls: &[Linear]| ls.iter().map(linear).sum::<usize>();
        let gated =
            |Gated { gate, up, down }: &Gated| [gate, up, down].into_iter().map(linear).sum::<usize>();
        let layers = self.layers.iter().map(|l| {
            let ffn = match &l.ffn {
                Ffn::Gated(ffn) => gated(ffn),
                Ffn::Plain { up, down } => linear(up) + linear(down),
                Ffn::Experts(e) => {
                    let shared =
                        e.shared.as_ref().map_or(0, |s| gated(&s.ffn) + s.gate.as_ref().map_or(0, linear));
                    let vectors =
                        [&e.choice_bias, &e.scale].into_iter().flatten().map(|v| 4 * v.len()).sum::<usize>();
                    let norms = e.norms.iter().flat_map(|norms| norms.all()).map(norm).sum::<usize>();
                    linear(&e.router) + all(&e.gate) + all(&e.up) + all(&e.down) + shared + vectors + norms
                }
            };
            let (linears, vectors) = l.mixer.parts();
            let mixer = linears.into_iter().map(linear).sum::<usize>()
                + vectors.into_iter().map(|values| 4 * values.len()).sum::<usize>();
            let norms = [&l.attn_norm, &l.attn_post_norm, &l.ffn_norm, &l.ffn_post_norm];
            let norms = norms.into_iter().flatten().map(norm).sum::<usize>();
            let per_layer = l.per_layer.as_ref();
            let per_layer = per_layer.map_or(0, |p| linear(&p.gate) + linear(&p.output) + norm(&p.norm));
            norms + mixer + ffn + per_layer + 4 * usize::from(l.scale.is_some())
        });
        let tied = self.output.weight.name == self.token_embd.name;
        let output = if tied { 0 } else { linear(&self.output) };
        let per_layer = self.per_layer.as_ref();
        let per_layer =
            per_layer.map_or(0, |p| p.token_embd.bytes.len() + linear(&p.model) + 4 * p.norm.len());
        let positions = self.position_embd.as_ref().map_or(0, |p| p.bytes.len());
        let tables = self.token_embd.bytes.len() + positions + per_layer;
        (tables + output + norm(&self.output_norm) + layers.sum::<usize>()) as u64
    }
}

/// One layer's tensors.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Before the mixer; `None` where it reads the residual stream itself.
    pub attn_norm: Option<NormWeights>,
    /// What mixes a token with those before it.
    pub mixer: MixerWeights,
    /// Of what the mixer adds to the residual stream.
    pub attn_post_norm: Option<NormWeights>,
    /// Before the feed-forward; `None` where it reads the residual stream itself.
    pub ffn_norm: Option<NormWeights>,
    /// The feed-forward.
    pub ffn: Ffn,
    /// Of what the feed-forward adds to the residual stream.
    pub ffn_post_norm: Option<NormWeights>,
    /// What the layer adds of the token itself.
    pub per_layer: Option<PerLayer>,
    /// What the residual stream is multiplied by after the layer.
    pub scale: Option<f32>,
}

/// What gives each layer an input of the token itself, `n_per_layer` values ([`crate::stage::Stage::Embed`]).
#[derive(Clone, Debug)]
pub struct PerLayerInputs {
    /// `[n_vocab, n_layer * n_per_layer]`.
    pub token_embd: Matrix,
    /// `[n_layer * n_per_layer, n_embd]`.
    pub model: Linear,
    /// `[n_per_layer]`: an RMS norm of each layer's part of what `model` gives.
    pub norm: Vec<f32>,
}

/// What a layer makes of its input of the token itself.
#[derive(Clone, Debug)]
pub struct PerLayer {
    /// `[n_per_layer, n_embd]`.
    pub gate: Linear,
    /// `[n_embd, n_per_layer]`.
    pub output: Linear,
    /// Of what is added to the residual stream.
    pub norm: NormWeights,
}

/// A layer's feed-forward.
#[derive(Clone, Debug)]
pub enum Ffn {
    /// Gate, up and down.
    Gated(Gated),
    /// Up `[n_ff, n_embd]`, down `[n_embd, n_ff]`.
    Plain {
        /// `[n_ff, n_embd]`.
        up: Linear,
        /// `[n_embd, n_ff]`.
        down: Linear,
    },
    /// A mixture of experts.
    Experts(Experts),
}

/// A gated feed-forward.
#[derive(Clone, Debug)]
pub struct Gated {
    /// `[n_ff, n_embd]`.
    pub gate: Linear,
    /// `[n_ff, n_embd]`.
    pub up: Linear,
    /// `[n_embd, n_ff]`.
    pub down: Linear,
}

/// A router, one gated feed-forward an expert, and one that all rows share.
#[derive(Clone, Debug)]
pub struct Experts {
    /// `[n_expert, n_embd]`.
    pub router: Linear,
    /// `[n_expert]`: added to the scores for the choice alone, where the architecture has it.
    pub choice_bias: Option<Vec<f32>>,
    /// `[n_expert][n_ff, n_embd]`.
    pub gate: Vec<Linear>,
    /// `[n_expert][n_ff, n_embd]`.
    pub up: Vec<Linear>,
    /// `[n_expert][n_embd, n_ff]`.
    pub down: Vec<Linear>,
    /// `[n_expert]`: multiplies an expert's output, where the file has it.
    pub scale: Option<Vec<f32>>,
    /// What every row uses besides, where the architecture has it.
    pub shared: Option<Box<SharedExpert>>,
    /// Where experts and what every row uses are branches with norms of their own.
    pub norms: Option<Box<BranchNorms>>,
}

/// The norms of the branches of a mixture, each `[n_embd]`.
#[derive(Clone, Debug)]
pub struct BranchNorms {
    /// Before the router.
    pub router: NormWeights,
    /// Before the experts.
    pub experts: NormWeights,
    /// Of the experts' sum.
    pub experts_post: NormWeights,
    /// Of what every row uses.
    pub shared_post: NormWeights,
}

impl BranchNorms {
    fn all(&self) -> [&NormWeights; 4] {
        [&self.router, &self.experts, &self.experts_post, &self.shared_post]
    }
}

/// The feed-forward that every row of a mixture uses.
#[derive(Clone, Debug)]
pub struct SharedExpert {
    /// The feed-forward.
    pub ffn: Gated,
    /// `[1, n_embd]`: the logit whose sigmoid its output is multiplied by, where the architecture has it.
    pub gate: Option<Linear>,
}

/// A norm's learned parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct NormWeights {
    /// One for each value of a row.
    pub weight: Vec<f32>,
    /// As many; layer norm only.
    pub bias: Option<Vec<f32>>,
}

/// `y = s (W x) + b`.
#[derive(Clone, Debug)]
pub struct Linear {
    /// `[n_out, n_in]`, and its scale `s`, which is 1 where there is none.
    pub weight: Matrix,
    /// `[n_out]`.
    pub bias: Option<Vec<f32>>,
}

/// Consecutive rows of a tensor in the mapped file: `[n_rows, n_cols]`, each row a whole number of blocks.
#[derive(Clone)]
pub struct Matrix {
    /// The tensor's name in the file.
    pub name: String,
    /// How the values are stored.
    pub format: Format,
    /// Outputs.
    pub n_rows: usize,
    /// Inputs.
    pub n_cols: usize,
    /// What multiplies a product with the matrix, before a bias is added: NVFP4's scale of a whole tensor, a tensor of its own in the
    /// file. Finite and above 0. Tables of embeddings have none.
    pub scale: Option<f32>,
    bytes: TensorBytes,
}

impl Matrix {
    /// A matrix over `bytes` without a scale; `None` unless these are exactly `n_rows` rows of `n_cols` values.
    #[must_use]
    pub fn new(name: &str, format: Format, shape: [usize; 2], bytes: TensorBytes) -> Option<Matrix> {
        let [n_rows, n_cols] = shape;
        let matches = format.bytes_for(n_cols)?.checked_mul(n_rows)? == bytes.len();
        matches.then(|| Matrix { name: name.to_owned(), format, n_rows, n_cols, scale: None, bytes })
    }

    /// Bytes of one row.
    #[must_use]
    pub fn row_bytes(&self) -> usize {
        self.n_cols / self.format.block_len() * self.format.block_bytes()
    }

    /// The blocks of all rows.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The blocks of some rows.
    ///
    /// # Panics
    /// If the range is not within the matrix.
    #[must_use]
    pub fn row_range(&self, rows: Range<usize>) -> &[u8] {
        &self.bytes[rows.start * self.row_bytes()..rows.end * self.row_bytes()]
    }

    fn part(&self, rows: Range<usize>) -> Result<Matrix, ModelError> {
        let bytes = self.bytes.slice(rows.start * self.row_bytes()..rows.end * self.row_bytes())?;
        Ok(Matrix { name: self.name.clone(), n_rows: rows.len(), bytes, ..*self })
    }
}

impl std::fmt::Debug for Matrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} [{}, {}]", self.name, self.format, self.n_rows, self.n_cols)
    }
}

/// A tensor of one dimension as float32.
pub(crate) fn vector(tensor: &Tensor, len: usize) -> Result<Vec<f32>, ModelError> {
    if tensor.info.shape.iter().product::<usize>() != len || tensor.info.shape[0] != len {
        return Err(misshapen(tensor, &[len]));
    }
    floats(tensor, len)
}

fn floats(tensor: &Tensor, len: usize) -> Result<Vec<f32>, ModelError> {
    let mut values = vec![0.0; len];
    tensor.info.format.dequantize(&tensor.bytes, &mut values).map_err(|error| ModelError::Value {
        key: tensor.info.name.clone(),
        expected: format!("{len} values"),
        found: error.to_string(),
    })?;
    Ok(values)
}

fn misshapen(tensor: &Tensor, expected: &[usize]) -> ModelError {
    ModelError::TensorShape {
        name: tensor.info.name.clone(),
        expected: expected.to_vec(),
        found: tensor.info.shape.clone(),
    }
}
