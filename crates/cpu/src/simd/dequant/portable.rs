//! Rows of the plain formats in portable Rust.

use half::{bf16, f16};
use quant::Format;

pub(super) fn dequantize(format: Format, bytes: &[u8], out: &mut [f32]) {
    let h = |b: &[u8], i: usize| f16::from_le_bytes([b[i], b[i + 1]]).to_f32();
    let blocks = bytes.chunks_exact(format.block_bytes()).zip(out.chunks_exact_mut(format.block_len()));
    for (b, out) in blocks {
        match format {
            Format::F32 => out[0] = f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
            Format::F16 => out[0] = h(b, 0),
            Format::BF16 => out[0] = bf16::from_le_bytes([b[0], b[1]]).to_f32(),
            Format::Q8_0 => (0..32).for_each(|i| out[i] = f32::from(b[2 + i] as i8) * h(b, 0)),
            Format::Q4_1 => (0..32).for_each(|i| {
                out[i] = f32::from(b[4 + i % 16] >> (i / 16 * 4) & 15) * h(b, 0) + h(b, 2);
            }),
            _ => panic!("{format} in portable code"),
        }
    }
}
