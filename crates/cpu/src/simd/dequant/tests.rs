//! Panels against `quant`, bit for bit, and nothing written outside them.

use super::*;
use crate::simd::gemm::sample::{Bits, isas, set_scales, weights};

const CANARY: usize = 64;

/// (row length, columns of the panel)
fn shapes(format: Format) -> Vec<(usize, Range<usize>)> {
    let n = format.block_len();
    let mut shapes = vec![(512, 0..512), (768, 256..512), (1280, 512..1280)];
    if n <= 32 {
        shapes.extend([(32, 0..32), (96, 0..96), (608, 512..608)]);
    }
    if n == 1 {
        shapes.extend([(1, 0..1), (7, 0..7), (47, 0..47), (48, 0..48), (529, 512..529)]);
    }
    shapes
}

#[test]
fn panels_hold_the_values_of_quant() {
    for format in Format::ALL {
        for (n_cols, cols) in shapes(format) {
            let n_rows = 37;
            let bytes = weights(format, n_rows, n_cols, &mut Bits(n_cols as u64));
            let mut values = vec![0.0; n_rows * n_cols];
            format.dequantize(&bytes, &mut values).unwrap();
            let value = |row: usize, col: usize| {
                if row < n_rows { values[row * n_cols + cols.start + col] } else { 0.0 }
            };
            let weights = Weights { format, bytes: &bytes, n_cols };
            for isa in isas() {
                check_f32(isa, &weights, &cols, value);
                #[cfg(target_arch = "x86_64")]
                if isa == Isa::Amx {
                    check_bf16(&weights, &cols, value);
                }
                #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
                if isa != Isa::Scalar && cols.len() <= gemm::CHUNK {
                    check_i16(isa, &weights, &cols, value);
                }
            }
        }
    }
}

fn check_f32(isa: Isa, weights: &Weights<'_>, cols: &Range<usize>, value: impl Fn(usize, usize) -> f32) {
    let stride = cols.len() + PAD;
    let mut panel = vec![-1.5f32; 64 * stride + CANARY];
    panel_f32(isa, weights, cols.clone(), &mut panel[..64 * stride]);
    for (row, got) in panel.chunks(stride).enumerate() {
        for (col, got) in got.iter().enumerate() {
            let inside = row < 64 && col < cols.len();
            let want = if inside { value(row, col) } else { -1.5 };
            assert_eq!(
                got.to_bits(),
                want.to_bits(),
                "{} {isa} {cols:?} row {row} col {col}",
                weights.format
            );
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn check_bf16(weights: &Weights<'_>, cols: &Range<usize>, value: impl Fn(usize, usize) -> f32) {
    let steps = cols.len().div_ceil(32);
    let mut panel = vec![0xbeef; 64 * steps * 32 + CANARY];
    panel_bf16(weights, cols.clone(), &mut panel[..64 * steps * 32]);
    assert!(panel[64 * steps * 32..].iter().all(|&bits| bits == 0xbeef), "written past the panel");
    for row in 0..64 {
        for col in 0..steps * 32 {
            let want = if col < cols.len() { value(row, col) } else { 0.0 };
            let got = panel[((row / 32 * steps + col / 32) * 32 + row % 32) * 32 + col % 32];
            let want = half::bf16::from_f32(want).to_bits();
            assert_eq!(got, want, "{} {cols:?} row {row} col {col}", weights.format);
        }
    }
}

/// Each 128 columns of a row: the largest magnitude is 4095, and every integer is the nearest.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn check_i16(isa: Isa, weights: &Weights<'_>, cols: &Range<usize>, value: impl Fn(usize, usize) -> f32) {
    let (stride, n_spans) = (integer::panel_stride(cols.len()), cols.len().div_ceil(integer::SPAN));
    let mut panel = vec![-7i16; 64 * stride + CANARY];
    let mut scales = vec![-1.5f32; 64 * n_spans];
    panel_i16(isa, weights, cols.clone(), (&mut panel[..64 * stride], &mut scales));
    assert!(panel[64 * stride..].iter().all(|&q| q == -7), "written past the panel");
    #[cfg(target_arch = "aarch64")]
    for row in panel[..64 * stride].chunks_exact_mut(stride) {
        integer::joined(&mut row[..cols.len().next_multiple_of(integer::UNIT)]);
    }
    for row in 0..64 {
        let floats: Vec<f32> = (0..cols.len()).map(|col| value(row, col)).collect();
        let (mut want, mut want_scales) = (vec![0i16; stride], vec![0.0f32; n_spans]);
        integer::quantize_weights(isa, &floats, (&mut want, &mut want_scales));
        #[cfg(target_arch = "aarch64")]
        integer::joined(&mut want[..cols.len().next_multiple_of(integer::UNIT)]);
        assert!(
            panel[row * stride..][..cols.len()] == want[..cols.len()],
            "{} {isa} row {row}",
            weights.format
        );
        assert_eq!(scales[row * n_spans..][..n_spans], want_scales, "{} {isa} row {row}", weights.format);
        for span in 0..n_spans {
            let at = span * integer::SPAN..((span + 1) * integer::SPAN).min(cols.len());
            let largest = at.clone().map(|col| value(row, col).abs()).fold(0.0, f32::max);
            let scale = scales[row * n_spans + span];
            let is = || format!("{} {isa} {cols:?} row {row} span {span}", weights.format);
            assert_eq!(scale, largest / 4095.0, "{}", is());
            for col in at.clone() {
                let (got, want) = (f32::from(panel[row * stride + col]) * scale, value(row, col));
                assert!((got - want).abs() <= 0.501 * scale, "{} col {col}: {got} {want}", is());
            }
            let end = at.end.next_multiple_of(integer::UNIT);
            assert!(panel[row * stride..][at.end..end].iter().all(|&q| q == 0), "{}", is());
        }
    }
}

/// The nibbles of most blocks have both ends, and their scales are numbers. Here some have neither.
#[test]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn integers_of_any_nibbles_and_scales_are_those_of_the_floats() {
    let scales = [0.01, -0.02, 0.0, -0.0, 3e-7, 60_000.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    let masks = [(0xff, 0), (0x77, 0x11), (0xee, 0), (0xff, 0x11), (0, 0x88), (0, 0xff), (0, 0)];
    for format in [Format::Q4_0, Format::Q4_1, Format::Q4_K] {
        let n_cols = 512;
        let mut bits = Bits(7);
        let mut bytes = weights(format, 400, n_cols, &mut bits);
        for block in bytes.chunks_exact_mut(format.block_bytes()) {
            let (kept, set) = masks[bits.next() as usize % masks.len()];
            let quarter = block.len() - block.len().min(128) * 7 / 8;
            block[quarter..].iter_mut().for_each(|byte| *byte = *byte & kept | set);
            // One block in four has scales of its own: a span has several, and what is no number decides alone.
            if bits.next().is_multiple_of(4) {
                let mut any = || half::f16::from_f32(scales[bits.next() as usize % scales.len()]);
                set_scales(format, block, &mut any);
            }
        }
        let weights = Weights { format, bytes: &bytes, n_cols };
        let (stride, n_spans) = (integer::panel_stride(n_cols), n_cols / integer::SPAN);
        for isa in isas().into_iter().filter(|isa| *isa != Isa::Scalar) {
            let (mut panel, mut scales) = (vec![0i16; 416 * stride], vec![0.0f32; 416 * n_spans]);
            panel_i16(isa, &weights, 0..n_cols, (&mut panel, &mut scales));
            for (row, bytes) in bytes.chunks_exact(format.bytes_for(n_cols).unwrap()).enumerate() {
                let (mut floats, mut want) = (vec![0.0; n_cols], vec![0i16; stride]);
                let mut want_scales = vec![0.0f32; n_spans];
                format.dequantize(bytes, &mut floats).unwrap();
                integer::quantize_weights(isa, &floats, (&mut want, &mut want_scales));
                let found = &panel[row * stride..][..n_cols];
                assert!(*found == want[..n_cols], "{format} {isa} row {row}");
                let found = &scales[row * n_spans..][..n_spans];
                for (found, want) in found.iter().zip(&want_scales) {
                    let same = found.to_bits() == want.to_bits() || found.is_nan() && want.is_nan();
                    assert!(same, "{format} {isa} row {row}: {found} {want}");
                }
            }
        }
    }
}
