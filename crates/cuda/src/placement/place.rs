//! Where does each tensor go in the region of weights, and what is copied there?
//!
//! Placing reads no weight: it gives the region's size, so that a model which does not fit is refused before anything is allocated, and
//! the list of [`Part`]s that the loader copies and repacks. Offsets are bytes into the region.

use std::ops::Range;

use model::architecture::{Architecture, Heads, Pairing, Position};
use model::weights::{Layer, Linear, NormWeights, PerLayer};
use model::{Matrix, Model};
use quant::Format;
use thiserror::Error;

use crate::memory::layout::{TILE, matrix_bytes, n_unit, tile_bytes};
use crate::placement::heads;
use crate::placement::transpose;
use crate::step::apart;

mod check;
mod ffn;
mod latent;
mod mixer;
#[cfg(test)]
mod tests;

pub(crate) use ffn::{ExpertsPlace, FfnPlace, RouterPlace, SharedPlace};
pub(crate) use latent::{LatentPlace, QueryRowPlace};
pub(crate) use mixer::{AttentionPlace, DeltaRulePlace, MixerPlace, ShortConvPlace};

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
    /// The columns are the rows, of floats: the host turns the matrix round ([`crate::placement::transpose`]).
    Transposed,
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
    /// Of the experts of a mixture, of which each row has its own.
    pub(crate) of_experts: bool,
}

impl Tiles {
    /// So many rows like a matrix's, from there on, without a bias.
    fn at(at: u64, like: &Matrix, n_row: usize) -> Tiles {
        Tiles::of(at, like.format, [n_row, like.n_cols])
    }

    fn of(at: u64, format: Format, [n_row, n_in]: [usize; 2]) -> Tiles {
        Tiles {
            format,
            at,
            n_tile: n_row.div_ceil(TILE),
            n_row,
            n_in,
            n_unit: n_unit(n_in),
            bias: None,
            expert_bytes: 0,
            of_experts: false,
        }
    }
}

/// A norm's vectors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NormPlace {
    pub(crate) weight: u64,
    pub(crate) bias: Option<u64>,
}

/// A small linear map as float32, of which the kernel `router` computes rows of float activations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FloatMap {
    /// `[n_row, n_embd]`.
    pub(crate) weight: u64,
    pub(crate) bias: Option<u64>,
    pub(crate) n_row: usize,
}

/// One layer.
#[derive(Clone, Debug)]
pub(crate) struct LayerPlace {
    /// None where attention reads the residual stream itself.
    pub(crate) attn_norm: Option<NormPlace>,
    pub(crate) mixer: MixerPlace,
    /// Of the mixer.
    pub(crate) attn_output: Tiles,
    pub(crate) attn_post_norm: Option<NormPlace>,
    /// None where the feed-forward reads the residual stream itself.
    pub(crate) ffn_norm: Option<NormPlace>,
    pub(crate) ffn: FfnPlace,
    pub(crate) ffn_post_norm: Option<NormPlace>,
    /// What the layer adds of the token itself.
    pub(crate) per_layer: Option<PerLayerPlace>,
    /// What the residual stream is multiplied by after the layer.
    pub(crate) scale: Option<f32>,
}

/// What a layer makes of its input of the token itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PerLayerPlace {
    pub(crate) gate: Tiles,
    pub(crate) output: Tiles,
    pub(crate) norm: NormPlace,
}

/// What those inputs are made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PerLayerInputsPlace {
    pub(crate) token_embd: Tiles,
    pub(crate) model: Tiles,
    pub(crate) norm: u64,
}

/// Rows of a matrix that are copied and repacked together.
#[derive(Clone, Debug)]
pub(crate) struct Part<'m> {
    pub(crate) matrix: &'m Matrix,
    /// Columns, where these are the rows.
    pub(crate) rows: Range<usize>,
    /// Of the matrix's first tile (the first of the group of four it takes turns in).
    pub(crate) at: u64,
    /// The row of those tiles' matrix that the first of them becomes: their own, but for the heads of gated queries.
    pub(crate) to: usize,
    pub(crate) order: Order,
}

impl Part<'_> {
    /// How its values are stored as they are copied, and how many a row has.
    pub(crate) fn stored(&self) -> (Format, usize) {
        match self.order {
            Order::Transposed => (transpose::format(self.matrix.format), self.matrix.n_rows),
            _ => (self.matrix.format, self.matrix.n_cols),
        }
    }
}

/// All of a model.
pub(crate) struct Placement<'m> {
    pub(crate) token_embd: Tiles,
    /// `[n_ctx_train, n_embd]` float32.
    pub(crate) positions: Option<u64>,
    pub(crate) per_layer: Option<PerLayerInputsPlace>,
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
        let head_dim = heads::all(arch).next().map_or(TILE, |heads| heads.head_dim);
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
    let per_layer = weights.per_layer.as_ref().map(|inputs| PerLayerInputsPlace {
        token_embd: placer.matrix(&inputs.token_embd, Order::Plain),
        model: placer.linear(&inputs.model, Order::Plain),
        norm: placer.vector(inputs.norm.iter().copied()),
    });
    let layers = weights.layers.iter().enumerate();
    let layers = layers
        .map(|(n, layer)| placer.layer(layer, model.architecture.heads(n)))
        .collect::<Result<Vec<_>, _>>()?;
    let output_norm = placer.norm(&weights.output_norm);
    let Placer { n_bytes, parts, vectors, grids, .. } = placer;
    // Kernels for four tiles read up to three past a matrix's end, which must still be the region's.
    let widest = layers
        .iter()
        .map(LayerPlace::widest_tile)
        .chain([tile_of(&token_embd), tile_of(&output)])
        .chain(per_layer.iter().flat_map(|inputs| [tile_of(&inputs.token_embd), tile_of(&inputs.model)]))
        .max()
        .unwrap_or(0);
    let vectors_at = n_bytes.next_multiple_of(ALIGN);
    let n_bytes = vectors_at + (4 * vectors.len() as u64).max(3 * widest);
    let shift = |at: &mut u64| *at += vectors_at;
    let mut placement = Placement {
        token_embd,
        positions,
        per_layer,
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
        let mut all = self.mixer.tiles();
        all.push(&mut self.attn_output);
        all.extend(self.ffn.tiles());
        all.extend(self.per_layer.iter_mut().flat_map(|place| [&mut place.gate, &mut place.output]));
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
        if let Some(inputs) = &mut self.per_layer {
            visit(&mut inputs.norm);
            inputs.model.bias.iter_mut().for_each(&mut visit);
        }
        norm(&mut self.output_norm, &mut visit);
        for layer in &mut self.layers {
            let norms = [
                &mut layer.attn_norm,
                &mut layer.attn_post_norm,
                &mut layer.ffn_norm,
                &mut layer.ffn_post_norm,
            ];
            let of_input = layer.per_layer.iter_mut().map(|place| &mut place.norm);
            norms.into_iter().flatten().chain(of_input).for_each(|place| norm(place, &mut visit));
            layer.mixer.vectors().into_iter().for_each(&mut visit);
            layer.tiles().into_iter().flat_map(|tiles| &mut tiles.bias).for_each(&mut visit);
            layer.ffn.vectors().into_iter().for_each(&mut visit);
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
    fn layer(&mut self, layer: &'m Layer, heads: Option<Heads>) -> Result<LayerPlace, Unsupported> {
        let head_dim = heads.map_or(0, |heads| heads.head_dim);
        let (mixer, output) = self.mixer(&layer.mixer, head_dim)?;
        Ok(LayerPlace {
            attn_norm: self.maybe_norm(layer.attn_norm.as_ref()),
            mixer,
            attn_output: output,
            attn_post_norm: self.maybe_norm(layer.attn_post_norm.as_ref()),
            ffn_norm: self.maybe_norm(layer.ffn_norm.as_ref()),
            ffn_post_norm: self.maybe_norm(layer.ffn_post_norm.as_ref()),
            per_layer: layer.per_layer.as_ref().map(|PerLayer { gate, output, norm }| PerLayerPlace {
                gate: self.linear(gate, Order::Plain),
                output: self.linear(output, Order::Plain),
                norm: self.norm(norm),
            }),
            scale: layer.scale,
            ffn: self.ffn(&layer.ffn)?,
        })
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
        let tiles = self.room(matrix, matrix.n_rows);
        self.cut(matrix, tiles.at, order);
        tiles
    }

    /// Room for so many rows like a matrix's.
    fn room(&mut self, matrix: &Matrix, n_row: usize) -> Tiles {
        let tiles = Tiles::at(self.n_bytes, matrix, n_row);
        self.n_bytes += matrix_bytes(matrix.format, n_row, matrix.n_cols) as u64;
        tiles
    }

    fn reserve(&mut self, n_bytes: u64) -> u64 {
        let at = self.n_bytes.next_multiple_of(ALIGN);
        self.n_bytes = at + n_bytes;
        at
    }

    /// Cuts a matrix into parts of whole tiles and heads.
    fn cut(&mut self, matrix: &'m Matrix, at: u64, order: Order) {
        self.cut_rows(matrix, 0..matrix.n_rows, (at, 0), order);
    }

    /// Likewise some of its rows, which become those from `to` on of the matrix at `at`.
    fn cut_rows(&mut self, matrix: &'m Matrix, rows: Range<usize>, (at, to): (u64, usize), order: Order) {
        if !self.grids.iter().any(|&(format, _)| format == matrix.format)
            && let Some(points) = quant::grid_points(matrix.format)
        {
            let at = self.vector(points.iter().map(|&point| f32::from(point)));
            self.grids.push((matrix.format, at));
        }
        let whole = if order == Order::Heads { self.heads.head_dim } else { TILE };
        let n = (PART_BYTES / matrix.row_bytes().max(1) / whole).max(1) * whole;
        for first in rows.clone().step_by(n) {
            let part = first..(first + n).min(rows.end);
            self.parts.push(Part { matrix, rows: part, at, to: to + first - rows.start, order });
        }
    }

    fn float_map(&mut self, map: &Linear) -> Result<FloatMap, Unsupported> {
        let weight = self.floats(&map.weight)?;
        let bias = self.maybe_vector(map.bias.as_deref());
        Ok(FloatMap { weight, bias, n_row: map.weight.n_rows })
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
        values.iter_mut().for_each(|value| *value *= matrix.scale.unwrap_or(1.0));
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
