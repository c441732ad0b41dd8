//! Launches of unpack.cu, whose arguments are in [`crate::args`].

use quant::Format;

use crate::launch::file::{End, File, Kernel};
use crate::launch::kernels::Launch;
use crate::memory::layout::Layout;

/// On an H200, four units a warp are a tenth faster than two for 256 tiles, and 4 % slower for 720.
const MANY_TILES: usize = 512;

/// So many tiles of so many units, of each of so many matrices, as float16.
pub(crate) fn unpack(format: Format, [n_tile, n_unit, n_matrix]: [usize; 3]) -> Launch {
    let kernel = Kernel::of(File::Unpack).with(End::Layout(Layout::of(format)));
    // Four warps a block, of four units each; of many tiles two are faster.
    let per_block = if n_tile * n_matrix < MANY_TILES { 16 } else { 8 };
    let grid = [n_tile, n_unit.div_ceil(per_block), n_matrix].map(|n| n as u32);
    Launch { grid, ..Launch::new(kernel, [1, 1], 128) }
}

/// Rows of a table of embeddings, each by `n_block` blocks.
pub(crate) fn embed(format: Format, [n_row, n_block]: [usize; 2]) -> Launch {
    let kernel = Kernel::named(File::Unpack, "embed").with(End::Layout(Layout::of(format)));
    Launch::new(kernel, [n_row as u32, n_block as u32], 256)
}
