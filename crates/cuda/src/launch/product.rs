//! Which kernel of product.cuh computes a product, and how much shared memory it needs: pure functions of shapes.
//!
//! The choice never changes a bit of the result; see product.cuh.

use quant::Format;

use crate::kernels::Launch;
use crate::layout::{is_float, suffix, unit_bytes};

/// Warps of a block.
const WARPS: usize = 8;

/// A kernel for products.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variant {
    /// Of the kernel.
    pub(crate) name: String,
    /// Columns that a block computes.
    pub(crate) n_column: usize,
    /// Tiles that a block computes.
    pub(crate) n_tile: usize,
    /// Dynamic shared memory.
    pub(crate) shared_bytes: u32,
}

impl Variant {
    /// Over this grid.
    pub(crate) fn launch(self, [x, y]: [u32; 2]) -> Launch {
        Launch {
            name: self.name,
            grid: [x, y, 1],
            n_thread: 32 * WARPS as u32,
            shared_bytes: self.shared_bytes,
        }
    }
}

/// The kernel for `n_tile` tiles and `n_col` columns. `needs_groups`: the epilogue combines rows of four tiles.
pub(crate) fn variant(format: Format, n_tile: usize, n_col: usize, needs_groups: bool) -> Variant {
    let n = match n_col {
        0..=8 => 1,
        9..=32 => 4,
        _ => 8,
    };
    // Four tiles share the activations' traffic, if enough blocks are left for all processors.
    let m = match n {
        _ if needs_groups || n_tile >= 1024 => 4,
        1 => 1,
        _ => 2,
    };
    Variant {
        name: format!("product_{}_n{n}_m{m}", suffix(format)),
        n_column: 8 * n,
        n_tile: m,
        shared_bytes: shared_bytes(format, n, m) as u32,
    }
}

/// `shared_bytes` of product.cuh.
fn shared_bytes(format: Format, n: usize, m: usize) -> usize {
    let (unit, tail) = unit_bytes(format);
    let n_stage = match (is_float(format), n, m) {
        (true, _, _) => 0,
        (false, 1, 1) => 4,
        _ => 3,
    };
    let stage = m * (unit + tail) + 2 * n * (256 + 64);
    let n_reduced = 8 * if m == 1 { n } else { n.min(2) };
    (WARPS * n_stage * stage).max(WARPS * m * 16 * (n_reduced + 1) * 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variant_fits_a_hopper_multiprocessor() {
        for format in Format::ALL {
            for n_col in [1, 8, 32, 64] {
                for n_tile in [16, 4096] {
                    let variant = variant(format, n_tile, n_col, false);
                    assert!(variant.shared_bytes <= 227 << 10, "{variant:?}");
                }
            }
        }
    }
}
