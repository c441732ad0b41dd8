//! Launches of unpack.cu, whose arguments are in [`crate::args`].

use quant::Format;

use crate::launch::file::{End, File, Kernel};
use crate::launch::kernels::Launch;
use crate::memory::layout::Layout;

/// So many tiles of so many units, of each of so many matrices, as float16.
pub(crate) fn unpack(format: Format, [n_tile, n_unit, n_matrix]: [usize; 3]) -> Launch {
    let kernel = Kernel::of(File::Unpack).with(End::Layout(Layout::of(format)));
    // Four warps a block, of four units each where that leaves enough blocks.
    let per_block = if n_tile * n_matrix < 512 { 16 } else { 8 };
    let grid = [n_tile, n_unit.div_ceil(per_block), n_matrix].map(|n| n as u32);
    Launch { grid, ..Launch::new(kernel, [1, 1], 128) }
}

/// Rows of a table of embeddings, each by `n_block` blocks.
pub(crate) fn embed(format: Format, [n_row, n_block]: [usize; 2]) -> Launch {
    let kernel = Kernel::named(File::Unpack, "embed").with(End::Layout(Layout::of(format)));
    Launch::new(kernel, [n_row as u32, n_block as u32], 256)
}
