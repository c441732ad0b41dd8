//! What the stages ask of a set of kernels: products with weights, the KV cache and attention, and the activation.
//!
//! Two sets exist: [`crate::exact`], which is the specification, and [`crate::simd`], which is fast. Both keep the promise that a
//! row's result depends on that row alone: prompt rows and generated rows may be computed by different arithmetic, but neither
//! depends on how many rows there are.

use device::batch::PageId;
use model::Matrix;
use model::architecture::{Activation, Attention};

use crate::simd::pool::Pool;

/// Rows of activations: those of prompts first, then the generated ones.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// `[n_row, n_cols]`.
    pub data: &'a [f32],
    /// Values in a row.
    pub n_cols: usize,
    /// How many of the rows, from the first, belong to prompts.
    pub n_prompt: usize,
}

impl Rows<'_> {
    /// How many rows.
    #[must_use]
    pub fn n_row(&self) -> usize {
        self.data.len() / self.n_cols
    }
}

/// One product to compute: `out[r] = W x[r]` for every row of an input.
pub struct Product<'a> {
    /// Index of the input rows.
    pub input: usize,
    /// `[n_out, n_in]`.
    pub matrix: &'a Matrix,
    /// `[n_row, n_out]`.
    pub out: &'a mut [f32],
}

/// A row's place: its position in its sequence, and the sequence's pages.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// From 0.
    pub position: usize,
    /// In order.
    pub pages: &'a [PageId],
}

/// What attention reads besides the cache.
pub struct Queries<'a> {
    /// `[n_row, n_head * head_dim]`, RoPE applied.
    pub q: Rows<'a>,
    /// `[n_row]`.
    pub places: &'a [Place<'a>],
    /// Which of the cache's layers holds the keys and values.
    pub cache: usize,
    /// How many of the latest positions a row sees; `None` for all.
    pub window: Option<usize>,
    /// `[n_head]`, where the model has them.
    pub sinks: Option<&'a [f32]>,
}

/// The sizes of the KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvShape {
    /// Layers that have attention.
    pub n_layer: usize,
    /// Pages in each layer.
    pub n_page: usize,
    /// Positions in a page.
    pub page_size: usize,
    /// Key and value heads.
    pub n_kv_head: usize,
    /// Values in a head.
    pub head_dim: usize,
}

impl KvShape {
    /// Values of the keys, and as many of the values. A head's rows of a page are consecutive:
    /// `[n_layer, n_page, n_kv_head, page_size, head_dim]`.
    #[must_use]
    pub fn len(&self) -> usize {
        self.n_layer * self.n_page * self.n_kv_head * self.page_size * self.head_dim
    }

    /// Whether the cache holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the rows of a head in a page begin: `[page_size, head_dim]`.
    #[must_use]
    pub fn page_at(&self, layer: usize, page: PageId, head: usize) -> usize {
        ((layer * self.n_page + page as usize) * self.n_kv_head + head) * self.page_size * self.head_dim
    }

    /// Where the row of a head at a position begins: `[head_dim]`.
    #[must_use]
    pub fn row_at(&self, layer: usize, place: Place<'_>, head: usize) -> usize {
        let page = place.pages[place.position / self.page_size];
        self.page_at(layer, page, head) + place.position % self.page_size * self.head_dim
    }
}

/// A set of kernels, with the KV cache in its own format.
pub trait Kernels: Send {
    /// All products, together, so that those that do not depend on each other share one parallel section.
    fn products(&mut self, pool: &Pool, inputs: &[Rows<'_>], products: &mut [Product<'_>]);

    /// Writes keys and values `[n_row, n_kv_head * head_dim]` to one of the cache's layers.
    fn write_kv(&mut self, pool: &Pool, layer: usize, places: &[Place<'_>], kv: [&[f32]; 2]);

    /// Attention over the cache, which holds every position up to each row's own: `out` is `[n_row, n_head * head_dim]`.
    fn attend(&mut self, pool: &Pool, attention: &Attention, queries: &Queries<'_>, out: &mut [f32]);

    /// `gate = act(gate, up)`, value by value; the plain kind has no `up`.
    fn activate(&self, pool: &Pool, activation: Activation, gate: &mut [f32], up: Option<&[f32]>);

    /// Bytes of the KV cache.
    fn kv_bytes(&self) -> u64;

    /// The instruction set, for people.
    fn name(&self) -> String;
}
