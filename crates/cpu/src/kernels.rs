//! What the stages ask of a set of kernels: products with weights, the KV cache and attention, and the activation.
//!
//! Two sets exist: [`crate::exact`], which is the specification, and [`crate::simd`], which is fast. Both keep the promise that a
//! row's result depends on that row alone: prompt rows and generated rows may be computed by different arithmetic, but neither
//! depends on how many rows there are.

use device::KvPages;
use device::batch::{PageId, WindowPages};
use model::Matrix;
use model::architecture::{Activation, Attention, Heads};

use crate::simd::isa::Isa;
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

impl<'a> Rows<'a> {
    /// One of them.
    #[must_use]
    pub fn row(&self, index: usize) -> &'a [f32] {
        &self.data[index * self.n_cols..][..self.n_cols]
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
    /// Of the layers with a window, where these have pages of their own.
    pub window: &'a WindowPages,
}

/// What attention reads besides the cache.
pub struct Queries<'a> {
    /// `[n_row, n_head * head_dim]`, RoPE applied.
    pub q: Rows<'a>,
    /// `[n_row]`.
    pub places: &'a [Place<'a>],
    /// Which of the cache's layers holds the keys and values.
    pub cache: usize,
    /// The layer's heads and window.
    pub heads: Heads,
    /// `[n_head]`, where the model has them.
    pub sinks: Option<&'a [f32]>,
}

/// The sizes of the KV cache. A head's rows of a page are consecutive: a layer is `[n_page, n_kv_head, page_size, head_dim]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvShape {
    /// Positions in a page.
    pub page_size: usize,
    /// The layers that keep keys and values.
    pub layers: Vec<KvLayer>,
    /// Whether any of them keeps values; else the keys are the values too.
    pub has_values: bool,
}

/// A layer of the KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvLayer {
    /// Values of the layers before it.
    pub start: usize,
    /// Its pages.
    pub n_page: usize,
    /// Whether they are those of windows.
    pub is_window: bool,
    /// Key and value heads.
    pub n_kv_head: usize,
    /// Values in a head.
    pub head_dim: usize,
}

impl KvShape {
    /// Pages for layers with these heads; sizes saturate.
    #[must_use]
    pub fn new(pages: &KvPages, heads: impl Iterator<Item = Heads>) -> KvShape {
        let mut shape = KvShape { page_size: pages.page_size, layers: Vec::new(), has_values: false };
        for heads in heads {
            let Heads { n_kv_head, head_dim, window, .. } = heads;
            let own = pages.window.filter(|_| window.is_some());
            let (n_page, is_window) = (own.map_or(pages.n_page, |own| own.n_page), own.is_some());
            shape.layers.push(KvLayer { start: shape.len(), n_page, is_window, n_kv_head, head_dim });
            shape.has_values |= heads.has_values();
        }
        shape
    }

    /// Values of the keys, and as many of the values; saturating.
    #[must_use]
    pub fn len(&self) -> usize {
        self.layers.last().map_or(0, |last| {
            let sizes = [last.n_page, self.page_size, last.n_kv_head, last.head_dim];
            sizes.iter().fold(1, |product: usize, &n| product.saturating_mul(n)).saturating_add(last.start)
        })
    }

    /// Values of the keys and of the values; saturating.
    #[must_use]
    pub fn n_kept(&self) -> u64 {
        (self.len() as u64).saturating_mul(1 + u64::from(self.has_values))
    }

    /// Values of each plane: of the keys, and of the values where there are any.
    #[must_use]
    pub fn planes(&self) -> [usize; 2] {
        [self.len(), if self.has_values { self.len() } else { 0 }]
    }

    /// Whether the cache holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the rows of a head in a page begin: `[page_size, head_dim]`.
    #[must_use]
    pub fn page_at(&self, layer: usize, page: PageId, head: usize) -> usize {
        let KvLayer { start, n_kv_head, head_dim, .. } = self.layers[layer];
        start + (page as usize * n_kv_head + head) * self.page_size * head_dim
    }

    /// The page with this number among a sequence's.
    #[must_use]
    pub fn page_of(&self, layer: usize, place: Place<'_>, number: usize) -> PageId {
        if self.layers[layer].is_window { place.window.page(number) } else { place.pages[number] }
    }

    /// Where the row of a head at a position begins: `[head_dim]`.
    #[must_use]
    pub fn row_at(&self, layer: usize, place: Place<'_>, head: usize) -> usize {
        let page = self.page_of(layer, place, place.position / self.page_size);
        self.page_at(layer, page, head) + place.position % self.page_size * self.layers[layer].head_dim
    }
}

/// A set of kernels, with the KV cache in its own format.
pub trait Kernels: Send {
    /// All products, together, so that those that do not depend on each other share one parallel section.
    fn products(&mut self, pool: &Pool, inputs: &[Rows<'_>], products: &mut [Product<'_>]);

    /// Writes keys and values `[n_row, n_kv_head * head_dim]` to one of the cache's layers. Values go nowhere where the shape has none.
    fn write_kv(&mut self, pool: &Pool, layer: usize, places: &[Place<'_>], kv: [&[f32]; 2]);

    /// Attention over the cache, which holds every position up to each row's own: `out` is `[n_row, n_head * head_dim]`.
    fn attend(&mut self, pool: &Pool, attention: &Attention, queries: &Queries<'_>, out: &mut [f32]);

    /// `gate = act(gate, up)`, value by value; the plain kind has no `up`.
    fn activate(&self, pool: &Pool, activation: Activation, gate: &mut [f32], up: Option<&[f32]>);

    /// Bytes of the KV cache.
    fn kv_bytes(&self) -> u64;

    /// The instruction set of what all kernels have in common.
    fn isa(&self) -> Isa;

    /// The instruction set, for people.
    fn name(&self) -> String;
}
