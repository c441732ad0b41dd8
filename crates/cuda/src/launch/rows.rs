//! Launches of rows.cu and rows_prompt.cu, whose arguments are in [`crate::args`].

use crate::args::{NormArgs, PlaceArgs, Values};
use crate::driver::DevicePtr;
use crate::launch::file::{End, File, Kernel};
use crate::launch::kernels::Launch;

const THREADS: u32 = 256;

fn of_rows(name: &'static str, n_row: usize) -> Launch {
    Launch::new(Kernel::named(File::Rows, name), [n_row as u32, 1], THREADS)
}

fn is_some(at: DevicePtr) -> bool {
    at != DevicePtr(0)
}

/// Norms of a prompt's rows.
pub(crate) fn norm(n_row: usize, args: &NormArgs) -> Launch {
    debug_assert!([args.x, args.weight, args.bias, args.out].iter().all(|at| at.0.is_multiple_of(16)));
    // Four values a load, and up to 8 loads a thread; what a norm of a prompt does follows from the model.
    let does_more = is_some(args.parts) || args.act.is_wanted() || !is_some(args.out);
    let kernel = Kernel::named(File::RowsPrompt, "norm_prompt");
    let kernel = match args.n_embd {
        n if does_more || n % 4 != 0 => return of_rows("norm_rows", n_row),
        0..=4096 => kernel.with(End::Size("_", 4)),
        4097..=8192 => kernel.with(End::Size("_", 8)),
        _ => return of_rows("norm_rows", n_row),
    };
    Launch::new(kernel, [n_row as u32, 1], THREADS)
}

/// Norms of generated rows; their sums are in another order than a prompt's.
pub(crate) fn norm_few(n_row: usize) -> Launch {
    Launch { n_thread: 1024, ..of_rows("norm_few", n_row) }
}

/// What experts left of generated rows, added; the norm after it is left to the products. A warp takes 32 values.
pub(crate) fn add_parts(n_row: usize, args: &NormArgs) -> Launch {
    const WARPS: usize = 4;
    debug_assert!(args.n_embd % 32 == 0 && is_some(args.weight) && is_some(args.squares));
    let blocks = (args.n_embd as usize / 32).div_ceil(WARPS);
    Launch {
        grid: [n_row as u32, blocks as u32, 1],
        n_thread: 32 * WARPS as u32,
        ..of_rows("add_parts", n_row)
    }
}

/// Norms of whole rows of queries, and of keys.
pub(crate) fn qk_norm(n_row: usize) -> Launch {
    Launch { grid: [n_row as u32, 2, 1], ..of_rows("qk_norm_rows", n_row) }
}

/// Queries, keys and values of `n_head` heads to where they belong.
pub(crate) fn place_heads(n_row: usize, n_head: usize) -> Launch {
    Launch { grid: [n_row as u32, n_head.div_ceil(8) as u32, 1], ..of_rows("place_heads", n_row) }
}

/// Likewise of a prompt, whose rows are many.
pub(crate) fn place_prompt(args: &PlaceArgs) -> Launch {
    let n_thread = args.n_row as usize * ((args.n_q + 2 * args.n_kv) / 8) as usize;
    let kernel = Kernel::named(File::RowsPrompt, "place_prompt");
    Launch::new(kernel, [n_thread.div_ceil(THREADS as usize) as u32, 1], THREADS)
}

/// Whether that kernel does what is to be done: it follows from the model, its cache and its context.
pub(crate) fn can_place_prompt(args: &PlaceArgs) -> bool {
    let in_eighths = args.head_dim % 8 == 0 && args.half_rot % 4 == 0 && args.turns.0.is_multiple_of(16);
    let is_plain = is_some(args.q) && args.q_terms == 1 && !is_some(args.fresh);
    let lanes = args.head_dim / 8;
    let takes_norms = args.is_normed == 0 || (lanes <= 32 && lanes & (lanes - 1) == 0);
    in_eighths && is_plain && takes_norms && args.values != Values::OfKeys as i32
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
