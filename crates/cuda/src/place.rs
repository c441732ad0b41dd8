//! Where does each tensor go in the region of weights, and what is copied there?
//!
//! Placing reads no weight: it gives the region's size, so that a model which does not fit is refused before anything is allocated, and
//! the list of [`Part`]s that the loader copies and repacks. Offsets are bytes into the region.

use std::ops::Range;

use model::architecture::{Architecture, Pairing, Position};
use model::weights::{AttentionWeights, Ffn, Gated, Layer, Linear, NormWeights};
use model::{Matrix, Model};
use quant::Format;
use thiserror::Error;

use crate::apart;
use crate::heads;
use crate::layout::{TILE, is_shared, matrix_bytes, n_unit, tile_bytes};

mod check;
#[cfg(test)]
mod tests;

/// Every region of the device starts at, and every tensor in it is rounded up to, a multiple of this.
const ALIGN: u64 = 256;

/// Bytes of the file's blocks that the loader moves at once, at most; see [`Part`].
pub(crate) const PART_BYTES: usize = 4 << 20;

/// What the kernels cannot compute.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("not supported on a GPU: {what}: expected {expected}, found {found}")]
pub struct Unsupported {
    /// Of the model.
    pub what: &'static str,
    /// What the kernels are made for.
    pub expected: String,
    /// What the model has.
    pub found: String,
}

/// How a matrix's rows are ordered in its tiles (`Order` in repack.cu).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// As in the file.
    Plain,
    /// Groups of 32, taking turns with another matrix; the tile within a group of four at which this one starts.
    Interleaved(usize),
    /// Within each head, pairs that RoPE turns together stand 8 rows apart.
    Heads,
}

/// A matrix in tiles, or several of the same format and width one after another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tiles {
    pub(crate) format: Format,
    /// Of the first tile.
    pub(crate) at: u64,
    pub(crate) n_tile: usize,
    /// Rows that mean something; the last tile may have more.
    pub(crate) n_row: usize,
    pub(crate) n_in: usize,
    pub(crate) n_unit: usize,
    /// `[n_tile * 16]` in the order of the tiles.
    pub(crate) bias: Option<u64>,
    /// Bytes from one expert to the next.
    pub(crate) expert_bytes: u64,
}

/// Queries, keys and values: runs of one layout, each with its first row among all of them.
#[derive(Clone, Debug)]
pub(crate) struct QkvTiles {
    pub(crate) runs: Vec<(usize, Tiles)>,
    /// `[n_q + 2 n_kv]` in the file's order, for the prompt's products.
    pub(crate) natural_bias: Option<u64>,
}

/// A norm's vectors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NormPlace {
    pub(crate) weight: u64,
    pub(crate) bias: Option<u64>,
}

/// A router, as float32.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RouterPlace {
    /// `[n_expert, n_embd]`.
    pub(crate) weight: u64,
    pub(crate) bias: Option<u64>,
    pub(crate) n_expert: usize,
}

/// A feed-forward's matrices.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FfnPlace {
    /// `input` is gate and up in turns of 32 rows for the gated kind, up alone for the plain one.
    Dense { input: Tiles, down: Tiles },
    /// Likewise, an expert after the other.
    Experts { router: RouterPlace, input: Tiles, down: Tiles },
}

/// One layer.
#[derive(Clone, Debug)]
pub(crate) struct LayerPlace {
    /// None where attention reads the residual stream itself.
    pub(crate) attn_norm: Option<NormPlace>,
    pub(crate) qkv: QkvTiles,
    pub(crate) q_norm: Option<u64>,
    pub(crate) k_norm: Option<u64>,
    pub(crate) sinks: Option<u64>,
    pub(crate) attn_output: Tiles,
    pub(crate) attn_post_norm: Option<NormPlace>,
    /// None where the feed-forward reads the residual stream itself.
    pub(crate) ffn_norm: Option<NormPlace>,
    pub(crate) ffn: FfnPlace,
    pub(crate) ffn_post_norm: Option<NormPlace>,
    /// What the residual stream is multiplied by after the layer.
    pub(crate) scale: Option<f32>,
}

/// Rows of a matrix that are copied and repacked together.
#[derive(Clone, Debug)]
pub(crate) struct Part<'m> {
    pub(crate) matrix: &'m Matrix,
    pub(crate) rows: Range<usize>,
    /// Of the matrix's first tile (the first of the group of four it takes turns in).
    pub(crate) at: u64,
    pub(crate) order: Order,
}

/// All of a model.
pub(crate) struct Placement<'m> {
    pub(crate) token_embd: Tiles,
    /// `[n_ctx_train, n_embd]` float32.
    pub(crate) positions: Option<u64>,
    pub(crate) layers: Vec<LayerPlace>,
    pub(crate) output_norm: NormPlace,
    pub(crate) output: Tiles,
    /// Bytes of the region.
    pub(crate) n_bytes: u64,
    pub(crate) parts: Vec<Part<'m>>,
    /// All vectors, one after the other, and where they go.
    pub(crate) vectors: Vec<f32>,
    pub(crate) vectors_at: u64,
    /// The points of the grids that repacking looks up, each as a float32.
    pub(crate) grids: Vec<(Format, u64)>,
}

/// How RoPE pairs a head's rows: half the rotated values, and whether pairs are neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeadShape {
    pub(crate) head_dim: usize,
    pub(crate) half_rot: usize,
    pub(crate) adjacent: bool,
}

impl HeadShape {
    pub(crate) fn of(arch: &Architecture) -> HeadShape {
        let head_dim = heads::of(arch, 0).head_dim;
        match &arch.position {
            Position::Rope(ropes) => {
                let rope = &ropes.kinds[0];
                HeadShape { head_dim, half_rot: rope.n_rot / 2, adjacent: rope.pairing == Pairing::Adjacent }
            }
            Position::Learned => HeadShape { head_dim, half_rot: 0, adjacent: false },
        }
    }

    /// The row of the matrix that stands at `row` in the tiles (`source_row` in repack.cu).
    fn source(&self, row: usize) -> usize {
        let (head, within) = (row / self.head_dim, row % self.head_dim);
        let (tile, i) = (within / TILE, within % TILE);
        if tile * 8 >= self.half_rot {
            return row;
        }
        let (pair, side) = (tile * 8 + i % 8, i / 8);
        let within = if self.adjacent { 2 * pair + side } else { pair + side * self.half_rot };
        head * self.head_dim + within
    }
}

/// Places a model's tensors.
///
/// # Errors
/// What the kernels cannot compute, by name.
pub(crate) fn place(model: &Model) -> Result<Placement<'_>, Unsupported> {
    check::architecture(&model.architecture)?;
    check::weights(model)?;
    let weights = &model.weights;
    let mut placer = Placer {
        n_bytes: 0,
        parts: Vec::new(),
        vectors: Vec::new(),
        grids: Vec::new(),
        heads: HeadShape::of(&model.architecture),
        heads_apart: apart::heads(&model.architecture),
    };
    let token_embd = placer.matrix(&weights.token_embd, Order::Plain);
    let output = if weights.output.weight.name == weights.token_embd.name {
        Tiles { bias: placer.bias(weights.output.bias.as_deref(), token_embd.n_tile), ..token_embd }
    } else {
        placer.linear(&weights.output, Order::Plain)
    };
    let positions = match &weights.position_embd {
        Some(table) => Some(placer.floats(table)?),
        None => None,
    };
    let layers = weights.layers.iter().map(|layer| placer.layer(layer)).collect::<Result<Vec<_>, _>>()?;
    let output_norm = placer.norm(&weights.output_norm);
    let Placer { n_bytes, parts, vectors, grids, .. } = placer;
    // Kernels for four tiles read up to three past a matrix's end, which must still be the region's.
    let widest = layers
        .iter()
        .map(LayerPlace::widest_tile)
        .chain([tile_of(&token_embd), tile_of(&output)])
        .max()
        .unwrap_or(0);
    let vectors_at = n_bytes.next_multiple_of(ALIGN);
    let n_bytes = vectors_at + (4 * vectors.len() as u64).max(3 * widest);
    let shift = |at: &mut u64| *at += vectors_at;
    let mut placement = Placement {
        token_embd,
        positions,
        layers,
        output_norm,
        output,
        n_bytes,
        parts,
        vectors,
        vectors_at,
        grids,
    };
    placement.each_vector(shift);
    Ok(placement)
}

fn tile_of(tiles: &Tiles) -> u64 {
    tile_bytes(tiles.format, tiles.n_in) as u64
}

impl LayerPlace {
    fn tiles(&mut self) -> Vec<&mut Tiles> {
        let mut all: Vec<&mut Tiles> = self.qkv.runs.iter_mut().map(|(_, tiles)| tiles).collect();
        all.push(&mut self.attn_output);
        match &mut self.ffn {
            FfnPlace::Dense { input, down } => all.extend([input, down]),
            FfnPlace::Experts { input, down, .. } => all.extend([input, down]),
        }
        all
    }

    fn widest_tile(&self) -> u64 {
        self.clone().tiles().iter().map(|tiles| tile_of(tiles)).max().unwrap_or(0)
    }
}

impl Placement<'_> {
    /// Every offset of a vector.
    fn each_vector(&mut self, mut visit: impl FnMut(&mut u64)) {
        let norm = |n: &mut NormPlace, visit: &mut dyn FnMut(&mut u64)| {
            visit(&mut n.weight);
            n.bias.iter_mut().for_each(visit);
        };
        self.positions.iter_mut().for_each(&mut visit);
        self.grids.iter_mut().for_each(|(_, at)| visit(at));
        self.output.bias.iter_mut().for_each(&mut visit);
        norm(&mut self.output_norm, &mut visit);
        for layer in &mut self.layers {
            let norms = [
                &mut layer.attn_norm,
                &mut layer.attn_post_norm,
                &mut layer.ffn_norm,
                &mut layer.ffn_post_norm,
            ];
            norms.into_iter().flatten().for_each(|place| norm(place, &mut visit));
            layer.q_norm.iter_mut().chain(&mut layer.k_norm).for_each(&mut visit);
            layer.sinks.iter_mut().for_each(&mut visit);
            layer.qkv.natural_bias.iter_mut().for_each(&mut visit);
            layer.tiles().into_iter().flat_map(|tiles| &mut tiles.bias).for_each(&mut visit);
            if let FfnPlace::Experts { router, .. } = &mut layer.ffn {
                visit(&mut router.weight);
                router.bias.iter_mut().for_each(&mut visit);
            }
        }
    }
}

struct Placer<'m> {
    n_bytes: u64,
    parts: Vec<Part<'m>>,
    /// Offsets of vectors count from here until all matrices are placed.
    vectors: Vec<f32>,
    grids: Vec<(Format, u64)>,
    heads: HeadShape,
    /// Whether kernels of their own turn queries and keys, so that these stand in the file's order.
    heads_apart: bool,
}

impl<'m> Placer<'m> {
    fn layer(&mut self, layer: &'m Layer) -> Result<LayerPlace, Unsupported> {
        let attention = check::attention(&layer.mixer)?;
        Ok(LayerPlace {
            attn_norm: self.maybe_norm(layer.attn_norm.as_ref()),
            qkv: self.qkv(attention),
            q_norm: self.maybe_vector(attention.q_norm.as_deref()),
            k_norm: self.maybe_vector(attention.k_norm.as_deref()),
            sinks: self.maybe_vector(attention.sinks.as_deref()),
            attn_output: self.linear(&attention.output, Order::Plain),
            attn_post_norm: self.maybe_norm(layer.attn_post_norm.as_ref()),
            ffn_norm: self.maybe_norm(layer.ffn_norm.as_ref()),
            ffn_post_norm: self.maybe_norm(layer.ffn_post_norm.as_ref()),
            scale: layer.scale,
            ffn: match &layer.ffn {
                Ffn::Gated(Gated { gate, up, down }) => FfnPlace::Dense {
                    input: self.gate_and_up(std::slice::from_ref(gate), std::slice::from_ref(up))?,
                    down: self.linear(down, Order::Plain),
                },
                Ffn::Plain { up, down } => FfnPlace::Dense {
                    input: self.linear(up, Order::Plain),
                    down: self.linear(down, Order::Plain),
                },
                Ffn::Experts(experts) => FfnPlace::Experts {
                    router: self.router(&experts.router)?,
                    input: self.gate_and_up(&experts.gate, &experts.up)?,
                    down: self.stacked(&experts.down),
                },
            },
        })
    }

    fn qkv(&mut self, attention: &'m AttentionWeights) -> QkvTiles {
        self.n_bytes = self.n_bytes.next_multiple_of(ALIGN);
        let order = if self.heads_apart { Order::Plain } else { Order::Heads };
        let own = attention.k.iter().map(|k| (k, order)).chain(attention.v.iter().map(|v| (v, Order::Plain)));
        let linears: Vec<_> = [(&attention.q, order)].into_iter().chain(own).collect();
        let mut runs: Vec<(usize, Tiles)> = Vec::new();
        let mut first_row = 0;
        let heads = self.heads;
        let has_bias = linears.iter().any(|(linear, _)| linear.bias.is_some());
        let bias_of = |linear: &Linear, row: usize| linear.bias.as_ref().map_or(0.0, |b| b[row]);
        for &(linear, order) in &linears {
            let tiles = self.placed(&linear.weight, order);
            match runs.last_mut() {
                Some((_, run)) if is_shared(run.format, tiles.format) => {
                    run.n_tile += tiles.n_tile;
                    run.n_row += tiles.n_row;
                }
                _ => runs.push((first_row, tiles)),
            }
            first_row += tiles.n_row;
        }
        if !has_bias {
            return QkvTiles { runs, natural_bias: None };
        }
        let ordered = linears.iter().flat_map(|&(linear, order)| {
            (0..linear.weight.n_rows)
                .map(move |row| bias_of(linear, if order == Order::Heads { heads.source(row) } else { row }))
        });
        let ordered = self.vector(ordered);
        for (first_row, run) in &mut runs {
            run.bias = Some(ordered + 4 * *first_row as u64);
        }
        let natural = linears
            .iter()
            .flat_map(|&(linear, _)| (0..linear.weight.n_rows).map(move |row| bias_of(linear, row)));
        QkvTiles { runs, natural_bias: Some(self.vector(natural)) }
    }

    /// Gate and up of one or more experts: rows in turns of 32.
    fn gate_and_up(&mut self, gate: &'m [Linear], up: &'m [Linear]) -> Result<Tiles, Unsupported> {
        let (first, n_expert) = (&gate[0].weight, gate.len());
        for linear in gate.iter().chain(up) {
            if !is_shared(linear.weight.format, first.format) {
                return Err(Unsupported {
                    what: "feed-forward",
                    expected: format!("gate and up of one format, {}", first.format),
                    found: format!("{} in {}", linear.weight.format, linear.weight.name),
                });
            }
        }
        let (n_ff, n_in) = (first.n_rows, first.n_cols);
        let n_tile = 2 * n_ff / TILE;
        let expert_bytes = matrix_bytes(first.format, 2 * n_ff, n_in) as u64;
        let at = self.reserve(expert_bytes * n_expert as u64);
        for (e, pair) in gate.iter().zip(up).enumerate() {
            let at = at + e as u64 * expert_bytes;
            self.cut(&pair.0.weight, at, Order::Interleaved(0));
            self.cut(&pair.1.weight, at, Order::Interleaved(2));
        }
        let has_bias = gate.iter().chain(up).any(|linear| linear.bias.is_some());
        let bias = has_bias.then(|| {
            let of = |linear: &Linear, row: usize| linear.bias.as_ref().map_or(0.0, |b| b[row]);
            let pairs = gate.iter().zip(up);
            self.vector(pairs.flat_map(|(gate, up)| {
                (0..2 * n_ff).map(move |row| {
                    let (group, i) = (row / 64, row % 64);
                    if i < 32 { of(gate, group * 32 + i) } else { of(up, group * 32 + i - 32) }
                })
            }))
        });
        let format = first.format;
        Ok(Tiles { format, at, n_tile, n_row: 2 * n_ff, n_in, n_unit: n_unit(n_in), bias, expert_bytes })
    }

    /// The matrices of all experts, one after another.
    fn stacked(&mut self, experts: &'m [Linear]) -> Tiles {
        let first = &experts[0].weight;
        let expert_bytes = matrix_bytes(first.format, first.n_rows, first.n_cols) as u64;
        let at = self.reserve(expert_bytes * experts.len() as u64);
        for (e, expert) in experts.iter().enumerate() {
            self.cut(&expert.weight, at + e as u64 * expert_bytes, Order::Plain);
        }
        let n_tile = first.n_rows.div_ceil(TILE);
        let has_bias = experts.iter().any(|linear| linear.bias.is_some());
        let bias = has_bias.then(|| {
            self.vector(experts.iter().flat_map(|expert| {
                (0..n_tile * TILE)
                    .map(move |row| expert.bias.as_ref().and_then(|b| b.get(row)).copied().unwrap_or(0.0))
            }))
        });
        let (n_row, n_in) = (first.n_rows, first.n_cols);
        Tiles { format: first.format, at, n_tile, n_row, n_in, n_unit: n_unit(n_in), bias, expert_bytes }
    }

    fn linear(&mut self, linear: &'m Linear, order: Order) -> Tiles {
        let tiles = self.matrix(&linear.weight, order);
        Tiles { bias: self.bias(linear.bias.as_deref(), tiles.n_tile), ..tiles }
    }

    fn bias(&mut self, bias: Option<&[f32]>, n_tile: usize) -> Option<u64> {
        let padded = |b: &'_ [f32]| {
            let padding = n_tile * TILE - b.len();
            b.iter().copied().chain(std::iter::repeat_n(0.0, padding)).collect::<Vec<_>>()
        };
        bias.map(|b| self.vector(padded(b)))
    }

    fn matrix(&mut self, matrix: &'m Matrix, order: Order) -> Tiles {
        self.n_bytes = self.n_bytes.next_multiple_of(ALIGN);
        self.placed(matrix, order)
    }

    /// A matrix right after the one before it.
    fn placed(&mut self, matrix: &'m Matrix, order: Order) -> Tiles {
        let (n_row, n_in, format) = (matrix.n_rows, matrix.n_cols, matrix.format);
        let at = self.n_bytes;
        self.n_bytes += matrix_bytes(format, n_row, n_in) as u64;
        self.cut(matrix, at, order);
        let n_tile = n_row.div_ceil(TILE);
        Tiles { format, at, n_tile, n_row, n_in, n_unit: n_unit(n_in), bias: None, expert_bytes: 0 }
    }

    fn reserve(&mut self, n_bytes: u64) -> u64 {
        let at = self.n_bytes.next_multiple_of(ALIGN);
        self.n_bytes = at + n_bytes;
        at
    }

    /// Cuts a matrix into parts of whole tiles and heads.
    fn cut(&mut self, matrix: &'m Matrix, at: u64, order: Order) {
        if !self.grids.iter().any(|&(format, _)| format == matrix.format)
            && let Some(points) = quant::grid_points(matrix.format)
        {
            let at = self.vector(points.iter().map(|&point| f32::from(point)));
            self.grids.push((matrix.format, at));
        }
        let whole = if order == Order::Heads { self.heads.head_dim } else { TILE };
        let n = (PART_BYTES / matrix.row_bytes().max(1) / whole).max(1) * whole;
        for first in (0..matrix.n_rows).step_by(n) {
            let rows = first..(first + n).min(matrix.n_rows);
            self.parts.push(Part { matrix, rows, at, order });
        }
    }

    fn router(&mut self, router: &Linear) -> Result<RouterPlace, Unsupported> {
        let weight = self.floats(&router.weight)?;
        let bias = router.bias.as_ref().map(|bias| self.vector(bias.iter().copied()));
        Ok(RouterPlace { weight, bias, n_expert: router.weight.n_rows })
    }

    fn norm(&mut self, norm: &NormWeights) -> NormPlace {
        let weight = self.vector(norm.weight.iter().copied());
        NormPlace { weight, bias: norm.bias.as_ref().map(|bias| self.vector(bias.iter().copied())) }
    }

    fn maybe_norm(&mut self, norm: Option<&NormWeights>) -> Option<NormPlace> {
        norm.map(|norm| self.norm(norm))
    }

    /// A small matrix as float32.
    fn floats(&mut self, matrix: &Matrix) -> Result<u64, Unsupported> {
        let mut values = vec![0.0; matrix.n_rows * matrix.n_cols];
        matrix.format.dequantize(matrix.bytes(), &mut values).map_err(|error| Unsupported {
            what: "table of floats",
            expected: format!("{} values", matrix.n_rows * matrix.n_cols),
            found: error.to_string(),
        })?;
        Ok(self.vector(values))
    }

    fn maybe_vector(&mut self, values: Option<&[f32]>) -> Option<u64> {
        values.map(|values| self.vector(values.iter().copied()))
    }

    fn vector(&mut self, values: impl IntoIterator<Item = f32>) -> u64 {
        let at = self.vectors.len().next_multiple_of(64);
        self.vectors.resize(at, 0.0);
        self.vectors.extend(values);
        4 * at as u64
    }
}
