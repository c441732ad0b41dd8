//! Launches of rows.cu, whose arguments are in [`crate::args`].

use crate::launch::file::{File, Kernel};
use crate::launch::kernels::Launch;

const THREADS: u32 = 256;

fn of_rows(name: &'static str, n_row: usize) -> Launch {
    Launch::new(Kernel::named(File::Rows, name), [n_row as u32, 1], THREADS)
}

/// Norms of a prompt's rows.
pub(crate) fn norm(n_row: usize) -> Launch {
    of_rows("norm_rows", n_row)
}

/// Norms of generated rows; their sums are in another order than a prompt's.
pub(crate) fn norm_few(n_row: usize) -> Launch {
    Launch { n_thread: 1024, ..of_rows("norm_few", n_row) }
}

/// Norms of whole rows of queries, and of keys.
pub(crate) fn qk_norm(n_row: usize) -> Launch {
    Launch { grid: [n_row as u32, 2, 1], ..of_rows("qk_norm_rows", n_row) }
}

/// Queries, keys and values of `n_head` heads to where they belong.
pub(crate) fn place_heads(n_row: usize, n_head: usize) -> Launch {
    Launch { grid: [n_row as u32, n_head.div_ceil(8) as u32, 1], ..of_rows("place_heads", n_row) }
}

/// Terms that are added to rows.
pub(crate) fn add(n_row: usize) -> Launch {
    of_rows("add_rows", n_row)
}

/// Sums of what rows' experts left.
pub(crate) fn sum_parts(n_row: usize) -> Launch {
    of_rows("sum_parts", n_row)
}

/// `n` values times a factor.
pub(crate) fn scale(n: usize) -> Launch {
    of_rows("scale_all", n.div_ceil(1024).min(1 << 16))
}
