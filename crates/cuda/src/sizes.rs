//! How many of everything? The sizes that memory, launches and buffers follow from, and their bounds.

use device::KvPages;
use model::KvType;

/// The most sequences an executor can have at once.
pub const MAX_SLOTS: usize = 256;

/// The most guessed tokens of a step.
pub(crate) const MAX_GUESSES: usize = 16;

/// Rows of a step where nobody says otherwise.
pub(crate) const DEFAULT_ROWS: usize = 2048;

/// Rows of a step where memory is no matter: a step unpacks all weights, whatever its rows.
pub(crate) const MANY_ROWS: usize = 4096;

/// Kernels count with 32 bits: a size from here on is refused, and counts as this much, so that buffers' sizes do not overflow.
pub(crate) const ABSURD: usize = 1 << 31;

/// Where a prompt's weights are unpacked to float16. The bits are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unpacking {
    /// Where an estimate says that it takes less time.
    #[default]
    Fastest,
    /// Always in memory, as with other GPUs than Hopper.
    Memory,
    /// On Hopper always in registers, where there are kernels for it, in tiles of so many rows of weights (64, 128 or 192; of experts always
    /// 192): for tests of these kernels.
    Registers(usize),
}

/// The blocks in which Hopper attends to a prompt. The bits are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attending {
    /// Narrow ones, if all of them run at once.
    #[default]
    Fastest,
    /// Blocks of one warpgroup always (`_few_` in the kernels' names): for tests.
    Narrow,
    /// Blocks of two or three warpgroups always: for tests.
    Wide,
}

/// How many columns of generated rows a product on Hopper computes at once, of matrices that are not experts'. The bits are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Columns {
    /// As many as are fastest.
    #[default]
    Fastest,
    /// Always 8, and of more the next 8 in other blocks (`_c8_` in the kernels' names): for tests.
    Eight,
    /// Likewise, with as many blocks on a multiprocessor as there can be (`_d8_`).
    Dense,
    /// Likewise 16, where there are more than 8.
    Sixteen,
    /// Never 16, and 8 only where there are no more and no gate: for tests.
    Many,
}

/// Those of an executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) n_ctx: usize,
    pub(crate) n_slot: usize,
    /// Columns of the decode products: a token of each slot and all guesses, rounded up to a bucket.
    pub(crate) n_col: usize,
    /// Guesses of a step.
    pub(crate) n_guess: usize,
    pub(crate) n_row: usize,
    /// Of the KV cache.
    pub(crate) pages: KvPages,
    pub(crate) n_snapshot: usize,
    pub(crate) kv_type: KvType,
    /// Float16 terms of a prompt's activations, at most.
    pub(crate) n_term: usize,
    pub(crate) unpacking: Unpacking,
    pub(crate) attending: Attending,
    pub(crate) columns: Columns,
}
