//! A model's tensors by role, checked against its architecture, without copying any matrix.
//!
//! A [`Matrix`] is a range of rows of a tensor in the mapped file, in the file's own format. Fused tensors (QKV, gate and up) are
//! cut into their parts here, so an executor sees one shape of layer. Vectors (norms, biases, sinks) are small and become float32.

use std::ops::Range;

use gguf::{Gguf, Tensor, TensorBytes};
use quant::Format;

use crate::architecture::{Architecture, FeedForwardKind, NormKind, Position};
use crate::architectures::{self, Family};
use crate::error::ModelError;

/// A model: what it is, and its weights.
#[derive(Clone, Debug)]
pub struct Model {
    /// Sizes and choices.
    pub architecture: Architecture,
    /// Tensors by role.
    pub weights: Weights,
}

impl Model {
    /// Reads the architecture and finds every tensor it needs. No weight is read.
    ///
    /// # Errors
    /// An unknown architecture, a key or tensor that is missing, misshapen or contradicts another.
    pub fn load(gguf: &Gguf) -> Result<Model, ModelError> {
        let (family, architecture) = architectures::read(gguf)?;
        let weights = Loader { gguf, family, arch: &architecture }.weights()?;
        Ok(Model { architecture, weights })
    }
}

/// All tensors of a model.
#[derive(Clone, Debug)]
pub struct Weights {
    /// `[n_vocab, n_embd]`.
    pub token_embd: Matrix,
    /// `[n_ctx_train, n_embd]`, where positions are learned.
    pub position_embd: Option<Matrix>,
    /// By layer.
    pub layers: Vec<Layer>,
    /// Before the output.
    pub output_norm: NormWeights,
    /// `[n_vocab, n_embd]`: the file's own, or the embedding's where it is tied.
    pub output: Linear,
}

impl Weights {
    /// Bytes of all tensors in the file; a tied output counts once.
    #[must_use]
    pub fn n_bytes(&self) -> u64 {
        let linear = |l: &Linear| l.weight.bytes.len() + l.bias.as_ref().map_or(0, |b| 4 * b.len());
        let norm = |n: &NormWeights| 4 * n.weight.len() + n.bias.as_ref().map_or(0, |b| 4 * b.len());
        let all = |ls: &[Linear]| ls.iter().map(linear).sum::<usize>();
        let layers = self.layers.iter().map(|l| {
            let ffn = match &l.ffn {
                Ffn::Gated { gate, up, down } => linear(gate) + linear(up) + linear(down),
                Ffn::Plain { up, down } => linear(up) + linear(down),
                Ffn::Experts(e) => linear(&e.router) + all(&e.gate) + all(&e.up) + all(&e.down),
            };
            let attention =
                [&l.attn_q, &l.attn_k, &l.attn_v, &l.attn_output].map(linear).iter().sum::<usize>();
            let sinks = l.attn_sinks.as_ref().map_or(0, |s| 4 * s.len());
            norm(&l.attn_norm) + attention + sinks + norm(&l.ffn_norm) + ffn
        });
        let tied = self.output.weight.name == self.token_embd.name;
        let output = if tied { 0 } else { linear(&self.output) };
        let tables = self.token_embd.bytes.len() + self.position_embd.as_ref().map_or(0, |p| p.bytes.len());
        (tables + output + norm(&self.output_norm) + layers.sum::<usize>()) as u64
    }
}

/// One layer's tensors.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Before attention.
    pub attn_norm: NormWeights,
    /// `[n_head * head_dim, n_embd]`.
    pub attn_q: Linear,
    /// `[n_kv_head * head_dim, n_embd]`.
    pub attn_k: Linear,
    /// `[n_kv_head * head_dim, n_embd]`.
    pub attn_v: Linear,
    /// `[n_head]`: one more logit a head, where the architecture has sinks.
    pub attn_sinks: Option<Vec<f32>>,
    /// `[n_embd, n_head * head_dim]`.
    pub attn_output: Linear,
    /// Before the feed-forward.
    pub ffn_norm: NormWeights,
    /// The feed-forward.
    pub ffn: Ffn,
}

/// A layer's feed-forward.
#[derive(Clone, Debug)]
pub enum Ffn {
    /// Gate and up `[n_ff, n_embd]`, down `[n_embd, n_ff]`.
    Gated {
        /// `[n_ff, n_embd]`.
        gate: Linear,
        /// `[n_ff, n_embd]`.
        up: Linear,
        /// `[n_embd, n_ff]`.
        down: Linear,
    },
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

/// A router and one gated feed-forward an expert.
#[derive(Clone, Debug)]
pub struct Experts {
    /// `[n_expert, n_embd]`.
    pub router: Linear,
    /// How many a row uses.
    pub n_used: usize,
    /// `[n_expert][n_ff, n_embd]`.
    pub gate: Vec<Linear>,
    /// `[n_expert][n_ff, n_embd]`.
    pub up: Vec<Linear>,
    /// `[n_expert][n_embd, n_ff]`.
    pub down: Vec<Linear>,
}

/// A norm's learned parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct NormWeights {
    /// `[n_embd]`.
    pub weight: Vec<f32>,
    /// `[n_embd]`; layer norm only.
    pub bias: Option<Vec<f32>>,
}

/// `y = W x + b`.
#[derive(Clone, Debug)]
pub struct Linear {
    /// `[n_out, n_in]`.
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
    bytes: TensorBytes,
}

impl Matrix {
    /// A matrix over `bytes`; `None` unless these are exactly `n_rows` rows of `n_cols` values.
    #[must_use]
    pub fn new(name: &str, format: Format, shape: [usize; 2], bytes: TensorBytes) -> Option<Matrix> {
        let [n_rows, n_cols] = shape;
        let matches = format.bytes_for(n_cols)?.checked_mul(n_rows)? == bytes.len();
        matches.then(|| Matrix { name: name.to_owned(), format, n_rows, n_cols, bytes })
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

/// Finds tensors by name and checks their shapes. Shapes are `[n_out, n_in]`, the reverse of the file's order.
struct Loader<'a> {
    gguf: &'a Gguf,
    family: &'static Family,
    arch: &'a Architecture,
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
        // A hostile block_count is refused at its first missing layer, before anything of its size is allocated.
        let layers = (0..a.n_layer).map(|n| self.layer(n)).collect::<Result<_, _>>()?;
        Ok(Weights { token_embd, position_embd, layers, output_norm: self.norm("output_norm")?, output })
    }

    fn layer(&self, n: usize) -> Result<Layer, ModelError> {
        let (a, attn) = (self.arch, &self.arch.attention);
        let name = |part: &str| format!("blk.{n}.{part}");
        let (n_q, n_kv) = (attn.n_q(), attn.n_kv());
        let [attn_q, attn_k, attn_v] = if self.gguf.tensor(&name("attn_qkv.weight")).is_some() {
            let fused = self.linear(&name("attn_qkv"), [n_q + 2 * n_kv, a.n_embd])?;
            [part(&fused, 0..n_q)?, part(&fused, n_q..n_q + n_kv)?, part(&fused, n_q + n_kv..n_q + 2 * n_kv)?]
        } else {
            [
                self.linear(&name("attn_q"), [n_q, a.n_embd])?,
                self.linear(&name("attn_k"), [n_kv, a.n_embd])?,
                self.linear(&name("attn_v"), [n_kv, a.n_embd])?,
            ]
        };
        let attn_sinks = match attn.sinks {
            true => Some(self.required(&name("attn_sinks.weight"), attn.n_head)?),
            false => None,
        };
        Ok(Layer {
            attn_norm: self.norm(&name("attn_norm"))?,
            attn_q,
            attn_k,
            attn_v,
            attn_sinks,
            attn_output: self.linear(&name("attn_output"), [a.n_embd, n_q])?,
            ffn_norm: self.norm(&name(self.family.ffn_norm))?,
            ffn: self.ffn(n)?,
        })
    }

    fn ffn(&self, n: usize) -> Result<Ffn, ModelError> {
        let name = |part: &str| format!("blk.{n}.{part}");
        let (n_embd, n_ff) = (self.arch.n_embd, self.arch.feed_forward.n_ff);
        match self.arch.feed_forward.kind {
            FeedForwardKind::Gated => {
                let up = self.gguf.tensor(&name("ffn_up.weight"));
                let is_fused = up.is_some_and(|up| up.info.shape.get(1) == Some(&(2 * n_ff)));
                let [gate, up] = if is_fused {
                    let fused = self.linear(&name("ffn_up"), [2 * n_ff, n_embd])?;
                    [part(&fused, 0..n_ff)?, part(&fused, n_ff..2 * n_ff)?]
                } else {
                    [
                        self.linear(&name("ffn_gate"), [n_ff, n_embd])?,
                        self.linear(&name("ffn_up"), [n_ff, n_embd])?,
                    ]
                };
                Ok(Ffn::Gated { gate, up, down: self.linear(&name("ffn_down"), [n_embd, n_ff])? })
            }
            FeedForwardKind::Plain => Ok(Ffn::Plain {
                up: self.linear(&name("ffn_up"), [n_ff, n_embd])?,
                down: self.linear(&name("ffn_down"), [n_embd, n_ff])?,
            }),
            FeedForwardKind::Experts { n_expert, n_used } => Ok(Ffn::Experts(Experts {
                n_used,
                router: self.linear(&name("ffn_gate_inp"), [n_expert, n_embd])?,
                gate: self.experts(&name("ffn_gate_exps"), [n_expert, n_ff, n_embd])?,
                up: self.experts(&name("ffn_up_exps"), [n_expert, n_ff, n_embd])?,
                down: self.experts(&name("ffn_down_exps"), [n_expert, n_embd, n_ff])?,
            })),
        }
    }

    fn find(&self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        let shape: Vec<usize> = shape.iter().rev().copied().collect();
        let tensor = self
            .gguf
            .tensor(name)
            .ok_or_else(|| ModelError::MissingTensor { name: name.to_owned(), shape: shape.clone() })?;
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

    fn linear(&self, name: &str, shape: [usize; 2]) -> Result<Linear, ModelError> {
        let weight = self.matrix(&format!("{name}.weight"), shape)?;
        Ok(Linear { weight, bias: self.optional(&format!("{name}.bias"), shape[0])? })
    }

    fn experts(&self, name: &str, shape: [usize; 3]) -> Result<Vec<Linear>, ModelError> {
        let [n_expert, n_out, n_in] = shape;
        let weight = format!("{name}.weight");
        let tensor = self.find(&weight, &shape)?;
        let stacked =
            Matrix::new(&weight, tensor.info.format, [n_expert * n_out, n_in], tensor.bytes.clone())
                .ok_or_else(|| misshapen(&tensor, &shape))?;
        let bias_name = format!("{name}.bias");
        let bias = match self.gguf.tensor(&bias_name) {
            Some(_) => Some(floats(&self.find(&bias_name, &[n_expert, n_out])?, n_expert * n_out)?),
            None => None,
        };
        let stacked = Linear { weight: stacked, bias };
        (0..n_expert).map(|e| part(&stacked, e * n_out..(e + 1) * n_out)).collect()
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
        vector(&self.find(name, &[len])?, len)
    }

    fn optional(&self, name: &str, len: usize) -> Result<Option<Vec<f32>>, ModelError> {
        self.gguf.tensor(name).map(|tensor| vector(&tensor, len)).transpose()
    }
}

/// Some outputs of a linear map.
fn part(whole: &Linear, rows: Range<usize>) -> Result<Linear, ModelError> {
    let bias = whole.bias.as_ref().map(|b| b[rows.clone()].to_vec());
    Ok(Linear { weight: whole.weight.part(rows)?, bias })
}
