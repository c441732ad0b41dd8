//! The 16-bit floats, and encoding.

use quant::{Bf16, Block, BlockNvfp4, BlockQ8_0, Half, Scaled, cast};

#[test]
fn all_halves_decode_exactly_and_encode_back() {
    for bits in 0..=u16::MAX {
        let half = Half(bits.to_le_bytes());
        let (found, expected) = (half.to_f32(), half::f16::from_bits(bits).to_f32());
        if expected.is_nan() {
            assert!(found.is_nan(), "{bits:#06x}");
        } else {
            assert_eq!(found.to_bits(), expected.to_bits(), "{bits:#06x}");
            assert_eq!(Half::from_f32(found), half);
            let bf16 = Bf16(bits.to_le_bytes());
            assert!(bf16.to_f32().is_nan() || Bf16::from_f32(bf16.to_f32()) == bf16, "{bits:#06x}");
        }
    }
}

#[test]
fn encoding_rounds_to_nearest_ties_to_even() {
    let half = |value| u16::from_le_bytes(Half::from_f32(value).0);
    assert_eq!(half(1.0 + 1.0 / 2048.0), 0x3c00);
    assert_eq!(half(1.0 + 3.0 / 2048.0), 0x3c02);
    assert_eq!(half(65520.0), 0x7c00);
    assert_eq!(Bf16::from_f32(1.0 + 1.0 / 256.0).0, [0x80, 0x3f]);
    assert_eq!(Bf16::from_f32(1.0 + 3.0 / 256.0).0, [0x82, 0x3f]);
}

#[test]
fn q8_0_is_within_half_a_step_and_keeps_zeros() {
    let weights: [f32; 32] = std::array::from_fn(|i| (i as f32 - 11.3) * 0.37);
    let largest = weights.iter().fold(0f32, |max, w| max.max(w.abs()));
    let mut decoded = [0.0; 32];
    BlockQ8_0::quantize(&weights).dequantize(&mut decoded);
    // Half a step of rounding, and 2^-11 for the scale's own rounding to 16 bits.
    let bound = largest / 127.0 / 2.0 + largest / 2048.0;
    for (decoded, weight) in decoded.iter().zip(&weights) {
        assert!((decoded - weight).abs() <= bound, "{weight} became {decoded}");
    }
    BlockQ8_0::quantize(&[0.0; 32]).dequantize(&mut decoded);
    assert_eq!(decoded, [0.0; 32]);
}

/// The largest magnitude in blocks of many bytes.
fn largest<B: Scaled<N>, const N: usize>() -> u8 {
    let mut state = 1u64;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let mut largest = 0;
    for _ in 0..100 {
        let bytes: Vec<u8> = (0..size_of::<B>()).map(|_| byte()).collect();
        let mut integers = [0; N];
        cast::<B, N>(&bytes).unwrap()[0].integers(&mut integers);
        largest = integers.iter().map(|integer| integer.unsigned_abs()).fold(largest, u8::max);
    }
    largest
}

#[test]
fn no_integer_is_larger_than_its_format_says() {
    macro_rules! check {
        ($($block:ident),*) => {$(
            assert_eq!(largest::<quant::$block, _>(), quant::$block::LARGEST, stringify!($block));
        )*};
    }
    check!(BlockIq1S, BlockIq1M, BlockIq2Xxs, BlockIq2Xs, BlockIq2S, BlockIq3Xxs, BlockIq3S);
    check!(BlockTq1_0, BlockTq2_0, BlockQ1_0, BlockQ2_0);
    assert_eq!(largest::<BlockNvfp4, _>(), BlockNvfp4::LARGEST);
}
