//! Q6_K: 256 weights in 210 bytes, 6 bits each, in 16 groups of 16 with a scale of 8 bits.
//!
//! `w[i] = (d * scales[i / 16]) * (q[i] - 32)`. Each half of 128 weights has 64 bytes of `ql` (low nibbles: its weights 0 to 63,
//! high nibbles: 64 to 127) and 32 bytes of `qh` (byte `l`: the upper two bits of its weights `l`, `l + 32`, `l + 64` and
//! `l + 96`, low bits first). Source: ggml.

use bytemuck::{Pod, Zeroable};

use crate::block::{Block, assert_layout};
use crate::format::Format;
use crate::half::Half;

/// 256 weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ6K {
    /// The low four bits, two weights a byte.
    pub ql: [u8; 128],
    /// The upper two bits, four weights a byte.
    pub qh: [u8; 64],
    /// By group.
    pub scales: [i8; 16],
    /// Multiplies the scales.
    pub d: Half,
}

assert_layout!(BlockQ6K, 256);

impl Block<256> for BlockQ6K {
    const FORMAT: Format = Format::Q6_K;

    #[inline]
    fn dequantize(&self, out: &mut [f32; 256]) {
        let d = self.d.to_f32();
        let (ql, _) = self.ql.as_chunks::<32>();
        let (qh, _) = self.qh.as_chunks::<32>();
        for (j, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (half, quarter) = (j / 4, j % 4);
            let ql = &ql[2 * half + quarter % 2];
            let (low_shift, high_shift) = (4 * (quarter / 2), 2 * quarter);
            for (k, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                let dl = d * f32::from(self.scales[2 * j + k]);
                let of_group = 16 * k..16 * k + 16;
                for ((out, &low), &high) in out.iter_mut().zip(&ql[of_group.clone()]).zip(&qh[half][of_group])
                {
                    let q = low >> low_shift & 15 | (high >> high_shift & 3) << 4;
                    *out = dl * (f32::from(q) - 32.0);
                }
            }
        }
    }
}
