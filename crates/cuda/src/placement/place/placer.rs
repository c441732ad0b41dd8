//! How is room taken for a matrix or a vector, and in which parts does a matrix go there?

use std::ops::Range;

use model::Matrix;
use model::architecture::{Architecture, Pairing, Position};
use model::weights::{Linear, NormWeights};
use quant::Format;

use super::unsupported::Unsupported;
use crate::memory::layout::{TILE, matrix_bytes, n_unit};
use crate::placement::{heads, transpose};

/// Every region of the device starts at, and every tensor in it is rounded up to, a multiple of this.
pub(super) const ALIGN: u64 = 256;

/// Bytes of the file's blocks that the loader moves at once, at most; see [`Part`].
pub(super) const PART_BYTES: usize = 4 << 20;

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
    pub(super) fn at(at: u64, like: &Matrix, n_row: usize) -> Tiles {
        Tiles::of(at, like.format, [n_row, like.n_cols])
    }

    pub(super) fn of(at: u64, format: Format, [n_row, n_in]: [usize; 2]) -> Tiles {
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
    pub(super) fn source(&self, row: usize) -> usize {
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

/// Takes room for one thing after another.
pub(super) struct Placer<'m> {
    pub(super) n_bytes: u64,
    pub(super) parts: Vec<Part<'m>>,
    /// Offsets of vectors count from here until all matrices are placed.
    pub(super) vectors: Vec<f32>,
    pub(super) grids: Vec<(Format, u64)>,
    pub(super) heads: HeadShape,
    /// Whether kernels of their own turn queries and keys, so that these stand in the file's order.
    pub(super) heads_apart: bool,
}

impl<'m> Placer<'m> {
    pub(super) fn linear(&mut self, linear: &'m Linear, order: Order) -> Tiles {
        let tiles = self.matrix(&linear.weight, order);
        Tiles { bias: self.bias(linear.bias.as_deref(), tiles.n_tile), ..tiles }
    }

    pub(super) fn bias(&mut self, bias: Option<&[f32]>, n_tile: usize) -> Option<u64> {
        let padded = |b: &'_ [f32]| {
            let padding = n_tile * TILE - b.len();
            b.iter().copied().chain(std::iter::repeat_n(0.0, padding)).collect::<Vec<_>>()
        };
        bias.map(|b| self.vector(padded(b)))
    }

    pub(super) fn matrix(&mut self, matrix: &'m Matrix, order: Order) -> Tiles {
        self.n_bytes = self.n_bytes.next_multiple_of(ALIGN);
        self.placed(matrix, order)
    }

    /// A matrix right after the one before it.
    pub(super) fn placed(&mut self, matrix: &'m Matrix, order: Order) -> Tiles {
        let tiles = self.room(matrix, matrix.n_rows);
        self.cut(matrix, tiles.at, order);
        tiles
    }

    /// Room for so many rows like a matrix's.
    pub(super) fn room(&mut self, matrix: &Matrix, n_row: usize) -> Tiles {
        let tiles = Tiles::at(self.n_bytes, matrix, n_row);
        self.n_bytes += matrix_bytes(matrix.format, n_row, matrix.n_cols) as u64;
        tiles
    }

    pub(super) fn reserve(&mut self, n_bytes: u64) -> u64 {
        let at = self.n_bytes.next_multiple_of(ALIGN);
        self.n_bytes = at + n_bytes;
        at
    }

    /// Cuts a matrix into parts of whole tiles and heads.
    pub(super) fn cut(&mut self, matrix: &'m Matrix, at: u64, order: Order) {
        self.cut_rows(matrix, 0..matrix.n_rows, (at, 0), order);
    }

    /// Likewise some of its rows, which become those from `to` on of the matrix at `at`.
    pub(super) fn cut_rows(
        &mut self,
        matrix: &'m Matrix,
        rows: Range<usize>,
        (at, to): (u64, usize),
        order: Order,
    ) {
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

    pub(super) fn float_map(&mut self, map: &Linear) -> Result<FloatMap, Unsupported> {
        let weight = self.floats(&map.weight)?;
        let bias = self.maybe_vector(map.bias.as_deref());
        Ok(FloatMap { weight, bias, n_row: map.weight.n_rows })
    }

    pub(super) fn norm(&mut self, norm: &NormWeights) -> NormPlace {
        let weight = self.vector(norm.weight.iter().copied());
        NormPlace { weight, bias: norm.bias.as_ref().map(|bias| self.vector(bias.iter().copied())) }
    }

    pub(super) fn maybe_norm(&mut self, norm: Option<&NormWeights>) -> Option<NormPlace> {
        norm.map(|norm| self.norm(norm))
    }

    /// A small matrix as float32.
    pub(super) fn floats(&mut self, matrix: &Matrix) -> Result<u64, Unsupported> {
        let mut values = vec![0.0; matrix.n_rows * matrix.n_cols];
        matrix.format.dequantize(matrix.bytes(), &mut values).map_err(|error| Unsupported {
            what: "table of floats",
            expected: format!("{} values", matrix.n_rows * matrix.n_cols),
            found: error.to_string(),
        })?;
        values.iter_mut().for_each(|value| *value *= matrix.scale.unwrap_or(1.0));
        Ok(self.vector(values))
    }

    pub(super) fn maybe_vector(&mut self, values: Option<&[f32]>) -> Option<u64> {
        values.map(|values| self.vector(values.iter().copied()))
    }

    pub(super) fn vector(&mut self, values: impl IntoIterator<Item = f32>) -> u64 {
        let at = self.vectors.len().next_multiple_of(64);
        self.vectors.resize(at, 0.0);
        self.vectors.extend(values);
        4 * at as u64
    }
}
