//! Where do a latent attention's tensors go?

use model::weights::{KeyMaps, LatentWeights, Linear};

use super::placer::{ALIGN, NormPlace, Order, Part, Placer, Tiles};
use crate::memory::layout::matrix_bytes;
use crate::placement::transpose;

/// A latent attention's tensors but for its output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LatentPlace {
    /// What queries are made of, where that is not the layer's own row.
    pub(crate) q_row: Option<QueryRowPlace>,
    /// Of queries, all heads' parts without position: `[n_head * n_plain, _]`.
    pub(crate) plain: Tiles,
    /// And all heads' parts that turn: `[n_head * n_rot, _]`.
    pub(crate) rotated: Tiles,
    /// `[kv_rank + n_rot, n_embd]`.
    pub(crate) kept: Tiles,
    /// `[kv_rank]`.
    pub(crate) norm: u64,
    /// By head, as experts are: `[kv_rank, n_plain]`.
    pub(crate) k: Tiles,
    /// Likewise `[n_value, kv_rank]`.
    pub(crate) v: Tiles,
}

/// The row that queries are made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueryRowPlace {
    pub(crate) map: Tiles,
    pub(crate) norm: NormPlace,
}

impl LatentPlace {
    /// The matrices that make queries.
    pub(crate) fn queries(&self) -> [&Tiles; 2] {
        [&self.plain, &self.rotated]
    }

    /// The matrices that read the layer's normalised rows.
    pub(super) fn readers(&self) -> Vec<&Tiles> {
        let of_queries = match &self.q_row {
            Some(row) => vec![&row.map],
            None => self.queries().to_vec(),
        };
        of_queries.into_iter().chain([&self.kept]).collect()
    }

    pub(super) fn tiles(&mut self) -> Vec<&mut Tiles> {
        let LatentPlace { q_row, plain, rotated, kept, k, v, .. } = self;
        q_row.iter_mut().map(|row| &mut row.map).chain([plain, rotated, kept, k, v]).collect()
    }

    pub(super) fn vectors(&mut self) -> Vec<&mut u64> {
        self.q_row.iter_mut().map(|row| &mut row.norm.weight).chain([&mut self.norm]).collect()
    }
}

impl<'m> Placer<'m> {
    pub(super) fn latent(&mut self, weights: &'m LatentWeights) -> LatentPlace {
        let LatentWeights { q_row, q, kv, kv_norm, k, v, .. } = weights;
        let q_row = q_row.as_ref().map(|row| QueryRowPlace {
            map: self.linear(&row.map, Order::Plain),
            norm: self.norm(&row.norm),
        });
        let n_rot = kv.weight.n_rows - v[0].weight.n_cols;
        let [plain, rotated] = self.parts_of_heads(q, (v.len(), n_rot));
        LatentPlace {
            q_row,
            plain,
            rotated,
            kept: self.linear(kv, Order::Plain),
            norm: self.vector(kv_norm.weight.iter().copied()),
            k: match k {
                KeyMaps::OfQueries(maps) => self.stacked(maps),
                KeyMaps::OfKeys(maps) => self.transposed(maps),
            },
            v: self.stacked(v),
        }
    }

    /// Of the rows of each head all but the last `n_rot`, and these, each for themselves.
    fn parts_of_heads(&mut self, q: &'m Linear, (n_head, n_rot): (usize, usize)) -> [Tiles; 2] {
        let whole = q.weight.n_rows / n_head;
        [0..whole - n_rot, whole - n_rot..whole].map(|of_head| {
            self.n_bytes = self.n_bytes.next_multiple_of(ALIGN);
            let tiles = self.room(&q.weight, n_head * of_head.len());
            for head in 0..n_head {
                let rows = head * whole + of_head.start..head * whole + of_head.end;
                self.cut_rows(&q.weight, rows, (tiles.at, head * of_head.len()), Order::Plain);
            }
            tiles
        })
    }

    /// The transposes of all heads' matrices, one after another.
    fn transposed(&mut self, maps: &'m [Linear]) -> Tiles {
        let first = &maps[0].weight;
        let (format, n_row, n_in) = (transpose::format(first.format), first.n_cols, first.n_rows);
        let head_bytes = matrix_bytes(format, n_row, n_in) as u64;
        let at = self.reserve(head_bytes * maps.len() as u64);
        for (head, map) in maps.iter().enumerate() {
            let at = at + head as u64 * head_bytes;
            let (matrix, order) = (&map.weight, Order::Transposed);
            self.parts.push(Part { matrix, rows: 0..n_row, at, to: 0, order });
        }
        Tiles { expert_bytes: head_bytes, of_experts: true, ..Tiles::of(at, format, [n_row, n_in]) }
    }
}
