//! The product with AMX: 32 weight rows x 32 activation rows in four accumulator tiles.
//!
//! TDPBF16PS (Intel SDM volume 2) adds to a 16 x 16 tile of `f32` the product of 16 rows of 32 bfloat16 and 16 pairs of
//! rows of 16: here 16 weight rows and 16 activation rows, 32 columns at a time, in order. A sum that is put away at the
//! end of a chunk and taken up at the next is the same `f32`, so chunks do not show in the bits.
//! Layouts as in [`super::Scratch`] and [`super::prepared`].

use super::layout::store_block;
use super::{Columns, Job};
use crate::simd::amx::Tiles;
use std::arch::asm;

/// Bytes of a tile.
const TILE: usize = 1024;

/// Sums of 32 weight rows and two blocks: [blocks][32][16].
#[repr(C, align(64))]
struct Done([f32; 1024]);

/// Adds the product of `panel` and the job's row blocks to `sums` [blocks][group][16]; after the last chunk, writes them to
/// `out` instead, while they are in the first cache.
pub(super) fn multiply(job: &Job<'_>, panel: &[u16], sums: &mut [f32], out: &mut Columns<'_>) {
    let steps = job.cols.len().div_ceil(32);
    let block_steps = job.x.n_cols().div_ceil(32);
    assert!(job.group.is_multiple_of(32) && panel.len() == job.group * steps * 32);
    assert!(job.cols.start.is_multiple_of(32) && job.cols.end <= job.x.n_cols() && steps > 0);
    assert_eq!(sums.len(), job.blocks.len() * job.group * 16);
    let x = &job.x.words()[job.blocks.start * block_steps * 256..job.blocks.end * block_steps * 256];
    let x = x[job.cols.start / 32 * 256..].as_ptr().cast::<u8>();
    let sums = sums.as_mut_ptr().cast::<u8>();
    let panel = panel.as_ptr().cast::<u8>();
    let n_blocks = job.blocks.len();
    let mut done = Done([0.0; 1024]);

    // SAFETY: the AMX kernel exists only where `amx::available`; kernels do not nest.
    let tiles = unsafe { Tiles::configure() };
    for block in (0..n_blocks).step_by(2) {
        for row in (0..job.group).step_by(32) {
            let from = sums.wrapping_add((block * job.group + row) * 64);
            let (to, to_stride) = match job.done {
                Some(_) => (done.0.as_mut_ptr().cast::<u8>(), 2 * TILE),
                None => (from, job.group * 64),
            };
            let strip = Strip {
                weights: panel.wrapping_add(row * steps * 64),
                x: x.wrapping_add(block * block_steps * TILE),
                x_stride: block_steps * TILE,
                from,
                from_stride: job.group * 64,
                to,
                to_stride,
                steps,
                first: job.first,
            };
            // SAFETY: the shapes checked above: `row + 32 <= group` weight rows of `steps` tiles, the blocks below
            // `n_blocks`, and their sums, or `done`, which holds those of two blocks. The tiles are configured.
            unsafe {
                if block + 1 < n_blocks {
                    multiply_two_blocks(&strip);
                } else {
                    multiply_one_block(&strip);
                }
            }
            if let Some(cols) = &job.done {
                let cols = cols.start + row..(cols.start + row + 32).min(cols.end);
                for (done, block) in done.0.chunks_exact(512).zip(block..n_blocks) {
                    store_block(done, (job.blocks.start + block) * 16, cols.clone(), out);
                }
            }
        }
    }
    drop(tiles);
}

/// 32 weight rows and one or two blocks of 16 activation rows; strides in bytes, between blocks.
struct Strip {
    /// [steps][2 tiles]
    weights: *const u8,
    /// [blocks][steps] tiles
    x: *const u8,
    x_stride: usize,
    /// The sums so far: [blocks][2 tiles]
    from: *const u8,
    from_stride: usize,
    /// Where the sums go.
    to: *mut u8,
    to_stride: usize,
    steps: usize,
    first: bool,
}

/// # Safety
/// The tiles are configured and the pointers reach two blocks.
unsafe fn multiply_two_blocks(s: &Strip) {
    // SAFETY: the caller vouches for the memory; the tile registers are used by no compiled code.
    unsafe {
        asm!(
            "test {first}, {first}",
            "jz 2f",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "jmp 3f",
            "2:",
            "tileloadd tmm0, [{from0} + {line}]",
            "tileloadd tmm1, [{from1} + {line}]",
            "tileloadd tmm2, [{from0} + {line} + 1024]",
            "tileloadd tmm3, [{from1} + {line} + 1024]",
            "3:",
            "tileloadd tmm6, [{x0} + {line}]",
            "tileloadd tmm4, [{w} + {line}]",
            "tileloadd tmm7, [{x1} + {line}]",
            "tileloadd tmm5, [{w} + {line} + 1024]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {w}, 2048",
            "add {x0}, 1024",
            "add {x1}, 1024",
            "dec {steps}",
            "jnz 3b",
            "tilestored [{to0} + {line}], tmm0",
            "tilestored [{to1} + {line}], tmm1",
            "tilestored [{to0} + {line} + 1024], tmm2",
            "tilestored [{to1} + {line} + 1024], tmm3",
            first = in(reg) u64::from(s.first),
            w = inout(reg) s.weights => _,
            x0 = inout(reg) s.x => _,
            x1 = inout(reg) s.x.add(s.x_stride) => _,
            from0 = in(reg) s.from,
            from1 = in(reg) s.from.add(s.from_stride),
            to0 = in(reg) s.to,
            to1 = in(reg) s.to.add(s.to_stride),
            line = in(reg) 64usize,
            steps = inout(reg) s.steps => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack)
        );
    }
}

/// # Safety
/// The tiles are configured and the pointers reach one block.
unsafe fn multiply_one_block(s: &Strip) {
    // SAFETY: the caller vouches for the memory; the tile registers are used by no compiled code.
    unsafe {
        asm!(
            "test {first}, {first}",
            "jz 2f",
            "tilezero tmm0",
            "tilezero tmm2",
            "jmp 3f",
            "2:",
            "tileloadd tmm0, [{from} + {line}]",
            "tileloadd tmm2, [{from} + {line} + 1024]",
            "3:",
            "tileloadd tmm6, [{x} + {line}]",
            "tileloadd tmm4, [{w} + {line}]",
            "tileloadd tmm5, [{w} + {line} + 1024]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "add {w}, 2048",
            "add {x}, 1024",
            "dec {steps}",
            "jnz 3b",
            "tilestored [{to} + {line}], tmm0",
            "tilestored [{to} + {line} + 1024], tmm2",
            first = in(reg) u64::from(s.first),
            w = inout(reg) s.weights => _,
            x = inout(reg) s.x => _,
            from = in(reg) s.from,
            to = in(reg) s.to,
            line = in(reg) 64usize,
            steps = inout(reg) s.steps => _,
            out("tmm0") _, out("tmm2") _, out("tmm4") _, out("tmm5") _, out("tmm6") _,
            options(nostack)
        );
    }
}
