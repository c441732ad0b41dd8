//! What do the formats have in common whose weights are small integers under a scale for each 16?
//!
//! The formats with grids, the ternary ones and NVFP4. One decoder serves them all, and executors can have one kernel for all
//! of them.

use bytemuck::Pod;

use crate::block::Block;
use crate::format::Format;
use crate::half::Half;

/// A block of `N` weights: `w[i] = scale(i / 16) * integer[i]`, exactly.
pub trait Scaled<const N: usize>: Pod {
    /// Its format.
    const FORMAT: Format;
    /// The largest magnitude of an integer. Kernels that want unsigned integers add it and take it off again: more would cost precision.
    const LARGEST: u8;

    /// The integers.
    fn integers(&self, out: &mut [i8; N]);

    /// The scale of a group of 16.
    ///
    /// # Panics
    /// If `group` is not below `N / 16`.
    fn scale(&self, group: usize) -> f32;
}

/// A block whose scales are multiples of one: `scale(g) = d * multiple(g) * STEP`.
pub trait Stepped<const N: usize>: Pod {
    /// Its format.
    const FORMAT: Format;
    /// See [`Scaled::LARGEST`].
    const LARGEST: u8;
    /// A power of two.
    const STEP: f32 = 1.0;

    /// The block's own scale.
    fn d(&self) -> Half;

    /// How many of it a group of 16 has: at most 31; 1 where the block has no other scales.
    ///
    /// # Panics
    /// If there are others and `group` is not below `N / 16`.
    #[inline(always)]
    fn multiple(&self, _group: usize) -> u8 {
        1
    }

    /// See [`Scaled::integers`].
    fn integers(&self, out: &mut [i8; N]);
}

impl<B: Stepped<N>, const N: usize> Scaled<N> for B {
    const FORMAT: Format = B::FORMAT;
    const LARGEST: u8 = B::LARGEST;

    #[inline(always)]
    fn integers(&self, out: &mut [i8; N]) {
        Stepped::integers(self, out);
    }

    #[inline(always)]
    fn scale(&self, group: usize) -> f32 {
        self.d().to_f32() * f32::from(self.multiple(group)) * B::STEP
    }
}

impl<B: Scaled<N>, const N: usize> Block<N> for B {
    const FORMAT: Format = B::FORMAT;

    #[inline]
    fn dequantize(&self, out: &mut [f32; N]) {
        let mut integers = [0; N];
        self.integers(&mut integers);
        let groups = out.as_chunks_mut::<16>().0.iter_mut().zip(integers.as_chunks::<16>().0);
        for (g, (out, integers)) in groups.enumerate() {
            let scale = self.scale(g);
            for (out, &integer) in out.iter_mut().zip(integers) {
                *out = scale * f32::from(integer);
            }
        }
    }
}
