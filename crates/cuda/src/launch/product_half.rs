//! Which kernel of product_half.cuh computes a product, as `product` says for the others.

use quant::Format;

use crate::launch::file::{End, File, Kernel};
use crate::launch::variant::{Parts, Variant, WARPS, Wanted, early_bytes, many_narrow_tiles};
use crate::memory::layout::{Layout, is_float, unit_bytes};
use crate::sizes::Columns;

/// Whether a format has these kernels: all but float32, of which float16 would lose too much.
pub(crate) fn has(format: Format) -> bool {
    format != Format::F32
}

/// The kernel for a product on a device with `wgmma`, and so with the shared memory of Hopper.
pub(crate) fn variant(format: Format, wanted: Wanted) -> Variant {
    let Wanted { n_tile, n_unit, n_matrix, n_col, needs_groups, n_sm, .. } = wanted;
    let kernel = Kernel::of(File::ProductHalf(Layout::of(format)));
    let narrow = |p: usize, m: usize| {
        let is_dense = (p, m) == (8, 1) && is_dense(&[format], &wanted);
        let narrow = Variant {
            kernel: match wanted.of_experts {
                true => kernel.with(End::Size("_x_m", m)),
                false => kernel.with(columns_end(p, is_dense)).with(End::Size("_m", m)),
            },
            n_column: p,
            n_tile: m,
            parts: Parts::One,
            n_thread: 32 * WARPS as u32,
            shared_bytes: shared_of_narrow(format, (p, m), n_unit, (wanted.of_experts, is_dense)) as u32,
        };
        narrow.spread(n_tile.div_ceil(m) * n_matrix * if p > 1 { n_col.div_ceil(p) } else { 1 }, &wanted)
    };
    // Of short rows some ranges are empty, which blocks that take one each do not make up for.
    let is_short = n_unit.div_ceil(4) < WARPS;
    let has_many = n_tile >= if is_short { 4 * n_sm } else { many_wide_tiles(n_sm) };
    let wide = |n: usize| {
        // Tiles of a block, of which a warp has one.
        let w = if is_wider(format, n, (n_tile, n_sm)) { 2 * WARPS } else { WARPS };
        let kernel = kernel.with(End::Size("_n", n));
        Variant {
            kernel: if w > WARPS { kernel.with(End::Word("_w")) } else { kernel },
            n_column: 8 * n,
            n_tile: w,
            parts: if has_many { Parts::One } else { parts(n, n_tile.div_ceil(WARPS), &wanted) },
            n_thread: wide_threads(n, w),
            shared_bytes: wide_bytes(format, n, w) as u32,
        }
    };
    // On mma.sync: of experts that several rows may have chosen, or of all columns.
    let any_columns = |n: usize| Variant {
        kernel: kernel.with(End::Size("_e", n)),
        n_column: 8 * n,
        n_tile: WARPS,
        parts: Parts::One,
        n_thread: 32 * (WARPS as u32 + 1),
        shared_bytes: ANY_COLUMNS_BYTES,
    };
    if wanted.of_experts {
        // Blocks of four tiles, or of two, where these are enough for all multiprocessors.
        let has_many = n_tile.div_ceil(4) * n_matrix >= n_sm * 3 / 2;
        let few = if n_tile.div_ceil(2) * n_matrix >= n_sm { 2 } else { 1 };
        // More columns at a time spare some experts' weights a second pass, and cost all of them more.
        let most_at_once = if format == Format::MXFP4 { 8 } else { 13 };
        return match n_col {
            0..=1 => narrow(1, if needs_groups || has_many { 4 } else { few }),
            _ if wanted.n_expected <= most_at_once => any_columns(1),
            _ => any_columns(2),
        };
    }
    // Of two tiles, if a gate's and what it opens for belong together.
    let m = if needs_groups { 2 } else { 1 };
    if let Some(p) = narrow_columns(&[format], m, &wanted) {
        return narrow(p, m);
    }
    match n_col {
        0..=1 if needs_groups => narrow(1, 2),
        0..=1 => narrow(1, if n_tile >= many_narrow_tiles(n_sm) { 4 } else { 1 }),
        2..=8 if is_short && n_tile >= 16 * n_sm => any_columns(1),
        2..=8 if wanted.at_once == Columns::Many && needs_groups => wide(1),
        2..=8 if needs_groups || has_many && is_float(format) => narrow(8, 2),
        2..=8 if has_many => wide(1),
        2..=8 => narrow(8, 1),
        9..=16 if is_short && n_tile >= 16 * n_sm => any_columns(2),
        33..=64 if is_short && has_many && n_tile < 8 * n_sm => any_columns(2),
        9..=16 => wide(2),
        17..=32 => wide(4),
        _ => wide(8),
    }
}

/// How many of more than 8 columns product_half_narrow.cuh computes at a time, in blocks of `m` tiles; none where other kernels are faster, and of
/// fewer columns none unless that is wished. It unpacks the weights anew for each 8 or 16 columns, so that is for blocks of short rows, or for
/// blocks that all have room at once. What is faster was measured on an H200.
pub(crate) fn narrow_columns(formats: &[Format], m: usize, wanted: &Wanted) -> Option<usize> {
    let Wanted { n_tile, n_unit, n_col, n_sm, .. } = *wanted;
    if n_col <= 1 || wanted.of_experts {
        return None;
    }
    match wanted.at_once {
        Columns::Fastest if n_col > 8 => {}
        Columns::Eight | Columns::Dense => return Some(8),
        Columns::Sixteen => return Some(if n_col > 8 { 16 } else { 8 }),
        Columns::Fastest | Columns::Many => return None,
    }
    let n_quad = n_unit.div_ceil(4);
    let n_block = |p: usize| n_tile.div_ceil(m) * n_col.div_ceil(p);
    let at_once = |p: usize| {
        let bytes =
            formats.iter().map(|format| shared_of_narrow(*format, (p, m), n_unit, (false, false))).max();
        (MULTIPROCESSOR_BYTES / (bytes.unwrap_or(0) + BLOCK_BYTES)).min(NARROW_BLOCKS) * n_sm
    };
    match () {
        // Half a dozen quads are little to unpack anew.
        () if n_block(8) <= if n_quad <= 6 { at_once(8) } else { n_sm } => Some(8),
        () if m == 2 && n_quad <= 4 && n_block(8) <= 2 * at_once(8) => Some(8),
        () if n_quad <= 19 && n_block(16) <= at_once(16) => Some(16),
        () if m == 2 && n_quad <= 4 && n_block(16) <= 3 * at_once(16) => Some(16),
        () if n_quad <= 3 && n_block(16) <= 2 * at_once(16) => Some(16),
        () => None,
    }
}

/// Shared memory of a Hopper multiprocessor, what a block takes for itself, and how many blocks of product_half_narrow.cuh it has registers for.
const MULTIPROCESSOR_BYTES: usize = 228 << 10;
const BLOCK_BYTES: usize = 1 << 10;
const NARROW_BLOCKS: usize = 3;

/// Whether blocks of 16 tiles, one a multiprocessor, are faster than two of 8: of many columns, which they read half as often, where three
/// stages have room.
fn is_wider(format: Format, n: usize, (n_tile, n_sm): (usize, usize)) -> bool {
    // Weights of 16 bits are far more bytes than what they are multiplied with.
    if is_float(format) {
        return false;
    }
    let (unit, tail) = unit_bytes(format);
    let three_stages = 3 * (2 * WARPS * (4 * unit + tail) + 8 * n * 512);
    n == 8 && n_tile >= 2 * many_wide_tiles(n_sm) && three_stages <= WIDER_ROOM
}

/// Blocks that share the width, for so many groups of tiles and `8 n` columns at a time: eight or four.
///
/// Two blocks are on a multiprocessor, but a cluster stays within one of the device's groups of some 16 of these, so that clusters of eight leave
/// a few idle: 30 have room on an H200, and more would come a turn later. Where that is so, eight blocks that are no cluster are faster, if all
/// have room; else four, of twice the work each, where sums are more than a handful; else clusters of four. Of few columns what blocks hand each
/// other takes longer through memory.
fn parts(n: usize, n_group: usize, wanted: &Wanted) -> Parts {
    let n_group = n_group * wanted.n_col.div_ceil(8 * n);
    let has_room = |n: usize| n_group * n <= MOST_APART.min(2 * wanted.n_sm);
    match () {
        () if n_group * WARPS <= wanted.n_sm * 3 / 2 => Parts::Cluster(WARPS as u32),
        () if has_room(WARPS) => Parts::Apart(WARPS as u32),
        () if n == 8 && has_room(WARPS / 2) => Parts::Apart(WARPS as u32 / 2),
        () => Parts::Cluster(WARPS as u32 / 2),
    }
}

/// Blocks of a launch that hand each other sums, at most: two for each of a full Hopper GPU's multiprocessors.
pub(crate) const MOST_APART: usize = 264;

/// Bytes of these sums, for a step of up to so many columns: of each block [range][column][16 rows of 8 tiles], of one range; or, where eight
/// groups of columns are computed at once, of up to two.
pub(crate) fn handed_bytes(n_col: usize) -> usize {
    let columns = n_col.next_power_of_two().clamp(8, 64);
    MOST_APART * if columns == 64 { 2 } else { 1 } * columns * 16 * WARPS * 4
}

/// From how many tiles on blocks that take the whole width are enough: three quarters of the multiprocessors have one.
fn many_wide_tiles(n_sm: usize) -> usize {
    WARPS * n_sm * 3 / 4
}

/// Whether blocks of one tile and 8 columns, of matrices of these formats in one launch, have room for one quad of each warp in place of two: where
/// multiprocessors have more than one of them, and warps more than one quad. What is faster was measured on an H200, for weights of 4 to 8 bits.
pub(crate) fn is_dense(formats: &[Format], wanted: &Wanted) -> bool {
    let Wanted { n_tile, n_unit, n_col, n_sm, .. } = *wanted;
    match wanted.at_once {
        Columns::Dense => true,
        Columns::Eight => false,
        _ if formats.iter().copied().any(is_float) => false,
        _ => n_tile * n_col.div_ceil(8) > n_sm && n_unit.div_ceil(4) > WARPS,
    }
}

/// The part of a kernel's name that says how many columns it takes at once.
pub(crate) fn columns_end(p: usize, is_dense: bool) -> End {
    End::Size(if is_dense { "_d" } else { "_c" }, p)
}

/// Of product_half_narrow.cuh, of one tile.
pub(crate) fn narrow_bytes(format: Format, p: usize, n_unit: usize, is_dense: bool) -> usize {
    shared_of_narrow(format, (p, 1), n_unit, (false, is_dense))
}

fn shared_of_narrow(
    format: Format,
    (p, m): (usize, usize),
    n_unit: usize,
    (of_experts, is_dense): (bool, bool),
) -> usize {
    let (unit, tail) = unit_bytes(format);
    let quad = if is_float(format) { 2 } else { 4 };
    let n_stage = match (p, m) {
        _ if is_dense => 1,
        (1, 1) => 3,
        (1, 2) if of_experts => 3,
        (1, _) | (8, 1) => 2,
        _ => 1,
    };
    let most = WARPS * n_stage;
    let room = if m == 1 { n_unit.div_ceil(quad).min(most) } else { most };
    room * (quad * unit + tail + quad * 2 * p * 64) + WARPS * m * 16 * (p + 1) * 4 + early_bytes(format, p, m)
}

/// The kernel for products with matrices of two formats at once, for more columns than 8; none of rows so short, or matrices so large, that
/// other kernels are faster.
pub(crate) fn wide_pair(kernel: Kernel, formats: [Format; 2], wanted: &Wanted) -> Option<Variant> {
    let Wanted { n_tile, n_col, n_sm, .. } = *wanted;
    if n_col <= 8 || n_tile >= many_wide_tiles(n_sm) {
        return None;
    }
    let n = match n_col {
        ..=16 => 2,
        17..=32 => 4,
        _ => 8,
    };
    let bytes = formats.map(|format| wide_bytes(format, n, WARPS) as u32);
    Some(Variant {
        kernel: kernel.with(End::Size("_n", n)),
        n_column: 8 * n,
        n_tile: WARPS,
        parts: parts(n, n_tile.div_ceil(WARPS), wanted),
        n_thread: wide_threads(n, WARPS),
        shared_bytes: bytes[0].max(bytes[1]),
    })
}

/// `HalfWideStage::ROOM` of product_half_wide.cuh, for blocks of 8 and of 16 tiles.
const WIDE_ROOM: usize = 104 << 10;
const WIDER_ROOM: usize = 208 << 10;

/// `HalfWideStage::THREADS` of product_half_wide.cuh: one warp copies, or a group of four, which lends its registers.
fn wide_threads(n: usize, w: usize) -> u32 {
    32 * (w as u32 + if n >= 4 { 4 } else { 1 })
}

/// `HalfWideStage` of product_half_wide.cuh.
fn wide_bytes(format: Format, n: usize, w: usize) -> usize {
    let is_small = w == WARPS;
    let room = if is_small { WIDE_ROOM } else { WIDER_ROOM };
    let (unit, tail) = unit_bytes(format);
    let stage = |n_unit: usize| w * (n_unit * unit + tail) + n_unit * 2 * n * 512;
    let n_unit = match () {
        () if is_float(format) => 1,
        () if 2 * stage(4) <= room => 4,
        () => 2,
    };
    let bytes = stage(n_unit);
    let n_stage = (room / bytes).min(8);
    // Of a cluster's block, two ranges' and what it finishes.
    let sums = w * 16 * if is_small { 2 * 8 * n + 2 * n + 1 } else { 8 * n + 1 } * 4;
    (n_stage * bytes).max(sums) + 8 * n * 4 + 16 * n_stage
}

/// `HalfExpertStage` of product_half_expert.cuh: what a block of three a multiprocessor may have.
const ANY_COLUMNS_BYTES: u32 = 74 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::variant::Arithmetic;

    const WANTED: Wanted = Wanted {
        arithmetic: Arithmetic::Halves,
        n_tile: 256,
        n_unit: 64,
        n_matrix: 1,
        of_experts: false,
        n_col: 1,
        n_expected: 1,
        at_once: Columns::Fastest,
        needs_groups: false,
        max_shared_bytes: 227 << 10,
        n_sm: 132,
    };

    #[test]
    fn kernels_follow_columns_and_tiles() {
        let name = |n_tile, n_col| {
            let variant = variant(Format::Q4_K, Wanted { n_tile, n_unit: 224, n_col, ..WANTED });
            format!("{} {:?}", variant.kernel, variant.parts)
        };
        assert_eq!(name(256, 1), "product_half_q4_k_c1_m1 One");
        assert_eq!(name(1792, 1), "product_half_q4_k_c1_m4 One");
        let gated = Wanted { n_tile: 1792, needs_groups: true, ..WANTED };
        assert_eq!(variant(Format::Q4_K, gated).kernel.to_string(), "product_half_q4_k_c1_m2");
        assert_eq!(name(256, 5), "product_half_q4_k_d8_m1 One");
        assert_eq!(name(132, 5), "product_half_q4_k_c8_m1 One");
        assert_eq!(name(1792, 8), "product_half_q4_k_n1 One");
        assert_eq!(name(64, 40), "product_half_q4_k_n8 Cluster(8)");
        assert_eq!(
            [16, 40, 128].map(|n_col| name(256, n_col)),
            [
                "product_half_q4_k_n2 Apart(8)",
                "product_half_q4_k_n8 Apart(8)",
                "product_half_q4_k_n8 Apart(4)"
            ]
        );
        assert_eq!(
            [16, 40, 128].map(|n_col| name(384, n_col)),
            [
                "product_half_q4_k_n2 Cluster(4)",
                "product_half_q4_k_n8 Apart(4)",
                "product_half_q4_k_n8 Cluster(4)"
            ]
        );
        assert_eq!(name(1024, 128), "product_half_q4_k_n8 One");
        assert_eq!(
            [32, 128].map(|n_col| name(1792, n_col)),
            ["product_half_q4_k_n4 One", "product_half_q4_k_n8_w One"]
        );
    }

    #[test]
    fn few_tiles_take_eight_or_sixteen_columns_at_a_time() {
        let name = |format, wanted: Wanted| variant(format, wanted).kernel.to_string();
        // Attention's output of SmolLM2-135M, Qwen2.5-0.5B and Llama-3-8B.
        for (format, n_tile, n_unit, expected) in [
            (Format::Q4_1, 36, 9, ["c8_m1", "c8_m1", "c8_m1", "c16_m1"]),
            (Format::Q5_0, 56, 14, ["c8_m1", "c8_m1", "c16_m1", "n8"]),
            (Format::Q4_K, 256, 64, ["d8_m1", "c16_m1", "n8", "n8"]),
        ] {
            for (n_col, end) in [8, 16, 64, 128].into_iter().zip(expected) {
                let name = name(format, Wanted { n_tile, n_unit, n_col, ..WANTED });
                assert!(name.ends_with(end), "{n_tile} x {n_unit}, {n_col}: {name}");
            }
        }
        // Their gates.
        for (format, n_tile, n_unit, expected) in [
            (Format::Q4_1, 192, 9, ["c8_m2", "c8_m2", "c8_m2", "c16_m2"]),
            (Format::Q5_0, 608, 14, ["c8_m2", "c8_m2", "e2", "n8"]),
            (Format::Q4_K, 1792, 64, ["c8_m2", "n2", "n8_w", "n8_w"]),
        ] {
            for (n_col, end) in [8, 16, 64, 128].into_iter().zip(expected) {
                let name = name(format, Wanted { n_tile, n_unit, n_col, needs_groups: true, ..WANTED });
                assert!(name.ends_with(end), "{n_tile} x {n_unit}, {n_col}: {name}");
            }
        }
        // All of them in any shape, where that is wished.
        let wish = |at_once, n_col| name(Format::Q6_K, Wanted { n_tile: 4096, n_col, at_once, ..WANTED });
        assert_eq!([5, 50].map(|n_col| wish(Columns::Eight, n_col)), ["product_half_q6_k_c8_m1"; 2]);
        assert_eq!(wish(Columns::Sixteen, 50), "product_half_q6_k_c16_m1");
        assert_eq!(wish(Columns::Many, 50), "product_half_q6_k_n8");
    }

    #[test]
    fn blocks_that_wait_for_each_other_and_their_sums_have_room() {
        for format in [Format::Q4_K, Format::Q8_0, Format::BF16] {
            for (n_tile, n_col, n_sm) in (1..600)
                .flat_map(|i| {
                    [2, 16, 17, 33, 64, 65, 128, 250].map(|n_col| [(i, n_col, 114), (i, n_col, 132)])
                })
                .flatten()
            {
                let variant = variant(format, Wanted { n_tile, n_unit: 224, n_col, n_sm, ..WANTED });
                let Parts::Apart(n) = variant.parts else { continue };
                let n_group = n_tile.div_ceil(variant.n_tile) * n_col.div_ceil(variant.n_column);
                assert!(
                    n_group * n as usize <= 2 * n_sm && matches!(n, 4 | 8),
                    "{n_tile}, {n_col}: {variant:?}"
                );
                // Sums of eight ranges of each group.
                let bytes = n_group * WARPS * variant.n_column * variant.n_tile * 16 * 4;
                assert!(
                    bytes <= handed_bytes(n_col),
                    "{n_tile}, {n_col}: {bytes} bytes of {}",
                    handed_bytes(n_col)
                );
            }
        }
    }

    #[test]
    fn weights_of_16_bits_take_blocks_of_eight_tiles() {
        for (n_tile, n_col, expected) in [
            (128, 1, "product_half_bf16_c1_m1 One"),
            (8016, 1, "product_half_bf16_c1_m4 One"),
            (8016, 8, "product_half_bf16_c8_m2 One"),
            (128, 8, "product_half_bf16_c8_m1 One"),
            (128, 64, "product_half_bf16_n8 Cluster(8)"),
            (8016, 64, "product_half_bf16_n8 One"),
        ] {
            let variant = variant(Format::BF16, Wanted { n_tile, n_unit: 32, n_col, ..WANTED });
            assert_eq!(format!("{} {:?}", variant.kernel, variant.parts), expected);
        }
    }

    #[test]
    fn short_rows_are_not_divided_among_blocks() {
        let name = |n_tile, n_col| {
            let variant = variant(Format::Q8_0, Wanted { n_tile, n_unit: 14, n_col, ..WANTED });
            format!("{} {:?}", variant.kernel, variant.parts)
        };
        assert_eq!(name(140, 128), "product_half_q8_0_n8 Apart(4)");
        assert_eq!(name(608, 16), "product_half_q8_0_n2 One");
        assert_eq!(name(608, 64), "product_half_q8_0_e2 One");
        assert_eq!(
            [8, 16].map(|n_col| name(9496, n_col)),
            ["product_half_q8_0_e1 One", "product_half_q8_0_e2 One"]
        );
    }

    #[test]
    fn kernels_of_experts_follow_their_rows() {
        let name = |needs_groups, n_col: usize| {
            let (n_tile, n_matrix, n_expected) = (180, (4 * n_col).min(32), n_col / 4);
            let wanted = Wanted {
                n_tile,
                n_unit: 45,
                n_matrix,
                of_experts: true,
                n_col,
                n_expected,
                needs_groups,
                ..WANTED
            };
            variant(Format::MXFP4, wanted).kernel.to_string()
        };
        assert_eq!(name(true, 1), "product_half_mxfp4_x_m4");
        assert_eq!(name(false, 1), "product_half_mxfp4_x_m2");
        let several = [2, 32, 64, 128].map(|n_col| name(true, n_col));
        assert_eq!(several, ["e1", "e1", "e2", "e2"].map(|e| format!("product_half_mxfp4_{e}")));
    }

    #[test]
    fn every_kernel_fits_and_groups_stay_together() {
        for format in Format::ALL.into_iter().filter(|format| has(*format)) {
            for n_col in [1, 2, 8, 9, 32, 64, 128] {
                for (n_tile, n_unit, needs_groups, n_matrix) in [
                    (16, 4, true, 1),
                    (256, 224, false, 1),
                    (8016, 64, false, 1),
                    (360, 45, true, 32),
                    (180, 45, false, 32),
                ] {
                    let of_experts = n_matrix > 1;
                    let sizes = Wanted { n_tile, n_unit, n_col, n_expected: n_col, ..WANTED };
                    let wanted = Wanted { needs_groups, n_matrix, of_experts, ..sizes };
                    let variant = variant(format, wanted);
                    assert!(variant.shared_bytes <= wanted.max_shared_bytes, "{wanted:?}: {variant:?}");
                    // Of one column, or of 8 or 16 at a time, two tiles of a group are a block.
                    let of_group = if !of_experts && variant.n_tile == 2 { 2 } else { 4 };
                    assert!(
                        !needs_groups || variant.n_tile.is_multiple_of(of_group),
                        "{wanted:?}: {variant:?}"
                    );
                    // Two blocks on a multiprocessor of 228 KiB, a KiB of each its own.
                    assert!(variant.n_tile != WARPS || variant.shared_bytes <= 113 << 10, "{variant:?}");
                    // A kernel of one column does not count groups of columns.
                    assert!(n_col == 1 || variant.n_column > 1 || of_experts, "{wanted:?}: {variant:?}");
                }
            }
        }
    }
}
