//! Which kernel of product.cuh computes a product, and how much shared memory it needs: pure functions of shapes.
//!
//! The choice never changes a bit of the result; see product.cuh.

use quant::Format;

use crate::launch::file::{End, File, Kernel, PAIRS};
use crate::launch::product_half;
use crate::launch::prompt_gemm::Instruction;
use crate::launch::variant::{Arithmetic, Parts, Variant, WARPS, Wanted, early_bytes, many_narrow_tiles};
use crate::memory::layout::{Layout, is_float, unit_bytes};

impl Arithmetic {
    /// Of a matrix on a device with these instructions.
    pub(crate) fn of(format: Format, instruction: Instruction) -> Arithmetic {
        if instruction == Instruction::Wgmma && product_half::has(format) {
            Arithmetic::Halves
        } else if is_float(format) {
            Arithmetic::Floats
        } else {
            Arithmetic::Ints
        }
    }
}

/// The kernel for a product. Every format has one for every device of at least 99 KiB of shared memory a block (compute capability 8.6).
pub(crate) fn variant(format: Format, wanted: Wanted) -> Variant {
    let Wanted { arithmetic, n_tile, n_unit, n_matrix, needs_groups, max_shared_bytes, n_sm, .. } = wanted;
    let kernel = Kernel::of(File::Product(Layout::of(format)));
    if arithmetic == Arithmetic::Halves {
        return product_half::variant(format, wanted);
    }
    if arithmetic == Arithmetic::Floats {
        let (n, few) = match wanted.n_expected {
            0..=8 => (1, 1),
            9..=32 => (4, 2),
            _ => (8, 2),
        };
        // Four tiles share the activations' traffic, if enough blocks are left for all processors.
        let m = if needs_groups || n_tile >= many_tiles(n_sm) { 4 } else { few };
        return Variant {
            kernel: kernel.with(End::Size("_n", n)).with(End::Size("_m", m)),
            n_column: 8 * n,
            n_tile: m,
            parts: Parts::One,
            n_thread: THREADS,
            shared_bytes: float_bytes(n, m) as u32,
        };
    }
    // Enough tiles for blocks of several to leave no processor idle.
    let has_many = |many| needs_groups || n_tile * n_matrix >= many;
    let narrow = |p: usize, m: usize| Variant {
        kernel: kernel.with(End::Size("_c", p)).with(End::Size("_m", m)),
        n_column: p,
        n_tile: m,
        parts: Parts::One,
        n_thread: THREADS,
        shared_bytes: narrow_bytes(format, p, (m, n_unit)) as u32,
    };
    let wide = |n: usize| {
        let w = if has_many(many_tiles(n_sm)) { WARPS } else { 2 };
        Variant {
            kernel: kernel.with(End::Size("_n", n)).with(End::Size("_w", w)),
            n_column: 8 * n,
            n_tile: w,
            parts: Parts::One,
            n_thread: THREADS,
            shared_bytes: wide_bytes(format, n, w) as u32,
        }
    };
    let m = if has_many(many_narrow_tiles(n_sm)) { 4 } else { 1 };
    let n_col = wanted.n_expected;
    let best = match n_col {
        0..=1 => narrow(1, m),
        2..=4 => narrow(4, m),
        5..=8 => narrow(8, m),
        // Columns that nobody has cost as much as the others, and 16 at a time cost more a column.
        _ if n_col.div_ceil(16) * WIDE_16_TIME < n_col.div_ceil(32) * WIDE_32_TIME => wide(2),
        _ => wide(4),
    };
    // Where the best has no room: fewer columns at a time, then fewer buffers for more tiles.
    let columns = if n_col > 1 { 4 } else { 1 };
    let fits = |v: &Variant| v.shared_bytes <= max_shared_bytes;
    let chosen = [best, narrow(columns, m), narrow(columns, 4)].into_iter().find(fits);
    let chosen = chosen.unwrap_or_else(|| narrow(1, 4));
    if n_col > 8 {
        return chosen;
    }
    let n_block = n_tile.div_ceil(chosen.n_tile) * n_matrix;
    chosen.spread(n_block, &wanted)
}

/// The kernel for products with matrices of two formats at once, of so many tiles each, and its columns; none where two launches do it.
pub(crate) fn pair(formats: [Format; 2], wanted: Wanted) -> Option<Variant> {
    let Wanted { n_tile, n_unit, n_col, max_shared_bytes, n_sm, .. } = wanted;
    let is_half = wanted.arithmetic == Arithmetic::Halves;
    let layouts = formats.map(Layout::of);
    if !PAIRS.contains(&layouts) {
        return None;
    }
    let kernel =
        Kernel::of(if is_half { File::ProductHalfPair(layouts) } else { File::ProductPair(layouts) });
    let several = product_half::narrow_columns(&formats, 1, &wanted).filter(|_| is_half);
    let columns = match (n_col, several) {
        (0..=1, _) => 1,
        (2..=4, _) if !is_half => 4,
        (2..=8, _) => 8,
        (_, Some(columns)) => columns,
        _ if is_half => return product_half::wide_pair(kernel, formats, &wanted),
        _ => return None,
    };
    if n_tile >= many_narrow_tiles(n_sm) {
        return None;
    }
    let is_dense = is_half && columns == 8 && product_half::is_dense(&formats, &wanted);
    let bytes = formats.map(|format| match is_half {
        true => product_half::narrow_bytes(format, columns, n_unit, is_dense) as u32,
        false => narrow_bytes(format, columns, (1, n_unit)) as u32,
    });
    let variant = Variant {
        kernel: kernel.with(product_half::columns_end(columns, is_dense)),
        n_column: columns,
        n_tile: 1,
        parts: Parts::One,
        n_thread: THREADS,
        shared_bytes: bytes[0].max(bytes[1]),
    };
    (variant.shared_bytes <= max_shared_bytes)
        .then(|| variant.spread(n_tile * n_col.div_ceil(columns), &wanted))
}

/// Threads of a block.
const THREADS: u32 = 32 * WARPS as u32;

/// Time that a product takes for 16 and for 32 columns at once, in arbitrary units; measured on an H200.
const WIDE_16_TIME: usize = 38;
const WIDE_32_TIME: usize = 68;

/// From how many tiles on a block computes several: all multiprocessors then have a block of eight.
fn many_tiles(n_sm: usize) -> usize {
    WARPS * n_sm
}

/// `float_bytes` of product_float.cuh.
fn float_bytes(n: usize, m: usize) -> usize {
    let n_reduced = 8 * if m == 1 { n } else { n.min(2) };
    WARPS * m * 16 * (n_reduced + 1) * 4 + 8 * n * 4 * if m == 1 { 33 } else { 1 }
}

/// Of product_narrow.cuh.
fn narrow_bytes(format: Format, p: usize, (m, n_unit): (usize, usize)) -> usize {
    let (unit, tail) = unit_bytes(format);
    let n_stage = if m == 1 { n_unit.div_ceil(4).div_ceil(WARPS).min(3) } else { 2 };
    WARPS * (n_stage * (4 * unit + tail + 8 * p * (32 + 8)) + m * 16 * (p + 1) * 4)
        + early_bytes(format, p, m)
}

/// `wide_bytes` of product_wide.cuh.
fn wide_bytes(format: Format, n: usize, w: usize) -> usize {
    let (unit, tail) = unit_bytes(format);
    let stages = WARPS / w * 3 * (w * (2 * unit + tail) + 4 * 8 * n * (32 + 8));
    let sums = |parts: usize| parts * w * 16 * (8 * n + 1) * 4;
    let scales = 8 * n * 4;
    scales + if w == WARPS { stages + sums(1) } else { stages.saturating_sub(sums(4)) + sums(8) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::variant::HOPPER_SHARED_BYTES;
    use crate::memory::layout;
    use crate::sizes::Columns;

    const WANTED: Wanted = Wanted {
        arithmetic: Arithmetic::Ints,
        n_tile: 256,
        n_unit: 64,
        n_matrix: 1,
        of_experts: false,
        n_col: 1,
        n_expected: 1,
        at_once: Columns::Fastest,
        needs_groups: false,
        max_shared_bytes: HOPPER_SHARED_BYTES,
        n_sm: 132,
    };

    #[test]
    fn only_float32_keeps_float32_activations_on_hopper() {
        let of = |instruction| {
            [Format::F32, Format::F16, Format::BF16, Format::Q4_K]
                .map(|format| Arithmetic::of(format, instruction))
        };
        let [floats, halves, ints] = [Arithmetic::Floats, Arithmetic::Halves, Arithmetic::Ints];
        assert_eq!(of(Instruction::Wgmma), [floats, halves, halves, halves]);
        assert_eq!(of(Instruction::Mma), [floats, floats, floats, ints]);
        assert_eq!([Format::F32, Format::BF16, Format::Q8_0].map(layout::prompt_terms), [2, 1, 1]);
    }

    #[test]
    fn columns_are_taken_as_they_come() {
        let columns = |n_expected| variant(Format::Q4_K, Wanted { n_expected, ..WANTED }).n_column;
        let counts = [1, 8, 16, 24, 32, 40, 48, 56, 64, 72, 128];
        assert_eq!(counts.map(columns), [1, 8, 16, 32, 32, 16, 16, 32, 32, 16, 32]);
    }

    #[test]
    fn blocks_fill_the_device_whatever_its_size() {
        let tiles = |n_tile, n_sm| variant(Format::Q4_K, Wanted { n_tile, n_sm, ..WANTED }).n_tile;
        assert_eq!([tiles(396, 132), tiles(397, 132)], [1, 4]);
        assert_eq!([tiles(324, 108), tiles(325, 108)], [1, 4]);
        let shared = |n_sm| variant(Format::Q4_K, Wanted { n_sm, ..WANTED }).shared_bytes;
        // 256 blocks: two on each of 132 multiprocessors, but three on some of 114.
        assert!(shared(132) >= 77 << 10 && shared(114) < 77 << 10);
    }

    #[test]
    fn every_product_has_a_kernel_that_fits() {
        // Compute capability 8.6, 8.9 and 12.0; 8.0; 9.0.
        for max_shared_bytes in [99 << 10, 163 << 10, 227 << 10] {
            for format in Format::ALL {
                for n_col in [1, 2, 4, 8, 16, 32, 64, 256] {
                    for (n_tile, n_unit, n_matrix, needs_groups) in
                        [(16, 64, 1, false), (16, 4, 1, true), (180, 45, 32, false), (4096, 64, 1, false)]
                    {
                        let of_experts = n_matrix > 1;
                        let sizes = Wanted { n_tile, n_unit, n_col, n_expected: n_col, ..WANTED };
                        let shape = Wanted { n_matrix, of_experts, ..sizes };
                        let arithmetic = Arithmetic::of(format, Instruction::Mma);
                        let wanted = Wanted { arithmetic, needs_groups, max_shared_bytes, ..shape };
                        let variant = variant(format, wanted);
                        assert!(variant.shared_bytes <= max_shared_bytes, "{wanted:?}: {variant:?}");
                        assert!(!needs_groups || variant.n_tile.is_multiple_of(4), "{wanted:?}: {variant:?}");
                    }
                }
            }
        }
    }
}
