//! Which 16 values do the weights of a format in tables pick (TABLE16 in kernels/weights/format_table.cuh)?
//!
//! Eight times the integers that `quant` has, by the order of the codes in kernels/weights/repack_table.cuh.

use quant::Format;

const IQ1: [i8; 16] = [-7, -9, 1, -1, 9, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const IQ2: [i8; 16] = [8, 25, 43, 0, -8, -25, -43, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const IQ3_XXS: [i8; 16] = [8, 24, 40, 56, 72, 88, 104, 124, -8, -24, -40, -56, -72, -88, -104, -124];
const IQ3_S: [i8; 16] = [8, 24, 40, 56, 72, 88, 104, 120, -8, -24, -40, -56, -72, -88, -104, -120];
const TERNARY: [i8; 16] = [-8, 0, 8, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// The values; none where the format has a layout of its own.
pub(crate) fn of(format: Format) -> Option<[i8; 16]> {
    match format {
        Format::IQ1_S | Format::IQ1_M => Some(IQ1),
        Format::IQ2_XXS | Format::IQ2_XS | Format::IQ2_S => Some(IQ2),
        Format::IQ3_XXS => Some(IQ3_XXS),
        Format::IQ3_S => Some(IQ3_S),
        Format::TQ1_0 | Format::TQ2_0 => Some(TERNARY),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use quant::{BlockIq1M, BlockIq1S, BlockIq2S, BlockIq2Xs, BlockIq2Xxs, BlockIq3S, BlockIq3Xxs, Stepped};
    use quant::{BlockTq1_0, BlockTq2_0};

    use super::*;

    /// Blocks of many bytes have the table's values, and no others.
    fn check<B: Stepped<256>>() {
        let mut state = 1u64;
        let mut byte = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        let mut found = BTreeSet::new();
        for _ in 0..200 {
            let bytes: Vec<u8> = (0..size_of::<B>()).map(|_| byte()).collect();
            let mut integers = [0; 256];
            bytemuck::pod_read_unaligned::<B>(&bytes).integers(&mut integers);
            found.extend(integers.map(|integer| (f32::from(integer) * 8.0 * B::STEP) as i8));
        }
        let table = of(B::FORMAT).expect("a table");
        let is_ternary = table == TERNARY;
        let expected: BTreeSet<i8> = table.into_iter().filter(|&value| value != 0 || is_ternary).collect();
        assert_eq!(found, expected, "{}", B::FORMAT);
    }

    #[test]
    fn tables_hold_the_values_of_their_formats() {
        check::<BlockIq1S>();
        check::<BlockIq1M>();
        check::<BlockIq2Xxs>();
        check::<BlockIq2Xs>();
        check::<BlockIq2S>();
        check::<BlockIq3Xxs>();
        check::<BlockIq3S>();
        check::<BlockTq2_0>();
        // Its three digits alone, which bytes of an encoder have too.
        let mut integers = [0; 256];
        BlockTq1_0 { qs: [0; 48], qh: [0xff; 4], d: quant::Half::default() }.integers(&mut integers);
        assert!(integers.iter().all(|integer| TERNARY.contains(&(8 * integer))));
    }
}
