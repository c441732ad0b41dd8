//! The fast kernels: prompts through [`super::gemm`], generated rows through [`super::gemv`], attention over the pages of `cache`.
//!
//! Which kernel a row takes depends on its role and on the weights' format, never on how many rows there are. All products that do
//! not depend on each other share one parallel section, cut by weight rows into more pieces than threads.

use std::cell::RefCell;

use model::KvType;
use model::architecture::{Activation, Attention};

use super::activate::activate;
use super::attend::{self, PAGE};
use super::cache::Cache;
use super::columns::Columns;
use super::gemm::{self, Kernel, Prepared};
use super::gemv::{self, Activations};
use super::isa::Isa;
use super::pool::Pool;
use super::quantize::QuantizedRows;
use crate::kernels::{Kernels, KvShape, Place, Product, Queries, Rows};

/// Pieces a thread gets of a section, so that one that is held up leaves work to the others.
const PIECES_PER_THREAD: usize = 4;

thread_local! {
    static SCRATCH: RefCell<gemm::Scratch> = RefCell::default();
}

/// The fast kernels and their KV cache.
pub struct Fast {
    isa: Isa,
    cache: Cache,
    prepared: Vec<Prepared>,
    quantized: Vec<QuantizedRows>,
}

impl Fast {
    /// With an empty cache. The shape's pages hold [`Fast::PAGE_SIZE`] positions.
    ///
    /// # Panics
    /// If they do not.
    #[must_use]
    pub fn new(shape: KvShape, kv_type: KvType, isa: Isa) -> Fast {
        assert_eq!(shape.page_size, PAGE, "positions in a page");
        let isa = isa.or_best();
        Fast { isa, cache: Cache::new(shape, kv_type), prepared: Vec::new(), quantized: Vec::new() }
    }

    /// Positions in a page of the KV cache.
    pub const PAGE_SIZE: usize = PAGE;

    /// Brings the inputs into the forms that the products' kernels read: for each product the index of its prepared prompt
    /// rows, and for each input its quantised generated rows.
    fn prepare(&mut self, pool: &Pool, inputs: &[Rows<'_>], products: &[Product<'_>]) -> Vec<usize> {
        let mut made: Vec<(usize, Kernel)> = Vec::new();
        let mut which = Vec::with_capacity(products.len());
        for product in products {
            let kernel = Kernel::choose(self.isa, product.matrix.format);
            let key = (product.input, kernel);
            which.push(made.iter().position(|m| *m == key).unwrap_or_else(|| {
                made.push(key);
                made.len() - 1
            }));
        }
        for (i, &(input, kernel)) in made.iter().enumerate() {
            if self.prepared.len() <= i {
                self.prepared.push(Prepared::new(kernel));
            }
            let x = inputs[input];
            let prepared = &mut self.prepared[i];
            prepared.reset(kernel, x.n_prompt, x.n_cols);
            if x.n_prompt > 0 {
                let mut parts: Vec<_> = prepared.parts(32).collect();
                pool.chunks(&mut parts, 1, &|_, part| {
                    part[0].fill(|row| &x.data[row * x.n_cols..][..x.n_cols]);
                });
            }
        }
        self.quantized.resize_with(self.quantized.len().max(inputs.len()), QuantizedRows::new);
        for (i, (x, quantized)) in inputs.iter().zip(&mut self.quantized).enumerate() {
            let reads = |p: &Product<'_>| p.input == i && !gemv::wants_floats(p.matrix.format);
            if x.n_row() > x.n_prompt && products.iter().any(reads) {
                quantized.fill(self.isa, &x.data[x.n_prompt * x.n_cols..], x.n_cols);
            }
        }
        which
    }
}

/// One thread's piece of a product: some weight rows, for the prompt rows or for the generated ones.
enum Piece<'a> {
    Prompt { weights: gemm::Weights<'a>, x: &'a Prepared, out: Columns<'a> },
    Generated { weights: gemv::Weights<'a>, x: Activations<'a>, out: Columns<'a> },
}

/// Weight rows in a piece: a whole number of panels, or of the rows that share their activations.
fn piece_rows(n_rows: usize, unit: usize, n_thread: usize) -> usize {
    n_rows.div_ceil(n_thread * PIECES_PER_THREAD).next_multiple_of(unit)
}

impl Kernels for Fast {
    fn products(&mut self, pool: &Pool, inputs: &[Rows<'_>], products: &mut [Product<'_>]) {
        let which = self.prepare(pool, inputs, products);
        let mut pieces = Vec::new();
        for (product, which) in products.iter_mut().zip(which) {
            let (x, w) = (inputs[product.input], product.matrix);
            let (prompt, generated) = product.out.split_at_mut(x.n_prompt * w.n_rows);
            let piece = |first: usize, rows: usize| w.row_range(first..first + rows);
            if !prompt.is_empty() {
                let rows = piece_rows(w.n_rows, gemm::PANEL, pool.n_thread());
                for (i, out) in Columns::new(prompt, w.n_rows).split_cols(rows).enumerate() {
                    let bytes = piece(i * rows, out.n_cols());
                    let weights = gemm::Weights { format: w.format, bytes, n_cols: w.n_cols };
                    pieces.push(Piece::Prompt { weights, x: &self.prepared[which], out });
                }
            }
            if !generated.is_empty() {
                let floats: &[f32] = &x.data[x.n_prompt * x.n_cols..];
                let activations = match gemv::wants_floats(w.format) {
                    true => Activations::Float(floats),
                    false => Activations::Quantized(&self.quantized[product.input]),
                };
                let rows = piece_rows(w.n_rows, 16, pool.n_thread());
                for (i, out) in Columns::new(generated, w.n_rows).split_cols(rows).enumerate() {
                    let bytes = piece(i * rows, out.n_cols());
                    let weights = gemv::Weights { format: w.format, n_cols: w.n_cols, bytes };
                    pieces.push(Piece::Generated { weights, x: activations, out });
                }
            }
        }
        let isa = self.isa;
        pool.chunks(&mut pieces, 1, &|_, piece| match &mut piece[0] {
            Piece::Prompt { weights, x, out } => {
                SCRATCH.with_borrow_mut(|scratch| gemm::gemm(weights, x, out, scratch));
            }
            Piece::Generated { weights, x, out } => gemv::gemv(isa, *weights, *x, out),
        });
    }

    fn write_kv(&mut self, pool: &Pool, layer: usize, places: &[Place<'_>], kv: [&[f32]; 2]) {
        self.cache.write((self.isa, pool), layer, places, kv);
    }

    fn attend(&mut self, pool: &Pool, attention: &Attention, queries: &Queries<'_>, out: &mut [f32]) {
        attend::attend((self.isa, pool), &self.cache, attention, (queries, out));
    }

    fn activate(&self, pool: &Pool, activation: Activation, gate: &mut [f32], up: Option<&[f32]>) {
        activate(self.isa, pool, activation, (gate, up));
    }

    fn kv_bytes(&self) -> u64 {
        self.cache.n_bytes()
    }

    fn isa(&self) -> Isa {
        self.isa
    }

    fn name(&self) -> String {
        self.isa.to_string()
    }
}
