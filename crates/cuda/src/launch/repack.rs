//! Launches of repack.cu, whose arguments are in [`crate::args`].

use quant::Format;

use crate::launch::file::{End, File, Kernel};
use crate::launch::kernels::Launch;
use crate::memory::layout::TILE;

/// So many rows of so many units, as a file has them in this format.
pub(crate) fn launch(format: Format, [n_row, n_unit]: [usize; 2]) -> Launch {
    let kernel = Kernel::of(File::Repack).with(End::Format(format));
    Launch::new(kernel, [n_row.div_ceil(TILE) as u32, n_unit.div_ceil(4) as u32], 128)
}
