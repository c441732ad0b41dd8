//! What do all block formats have in common?
//!
//! A block is plain bytes of alignment 1 that decode to `N` weights. [`cast`] views a tensor's bytes as blocks without a
//! copy; [`Format::dequantize`] decodes a tensor or any whole number of its blocks. Sizes: [`Format::block_len`] weights in
//! [`Format::block_bytes`] bytes, which every format's file asserts of its struct when compiled.

use bytemuck::Pod;
use thiserror::Error;

use crate::format::Format;

/// A block of `N` weights.
pub trait Block<const N: usize>: Pod {
    /// Its format; `FORMAT.block_len()` is `N`.
    const FORMAT: Format;

    /// Decodes it. This defines the format: executors are checked against it, and it equals ggml's reference bit by bit.
    ///
    /// Scale times group scale times integer never has more than 24 significant bits, so every product is exact in single
    /// precision; only adding the minimum rounds. A fused multiply-add therefore gives the same bits.
    fn dequantize(&self, out: &mut [f32; N]);
}

/// Bytes and weights that do not belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum QuantError {
    /// The bytes are not a whole number of blocks.
    #[error("{format}: expected a multiple of {block_bytes} bytes, found {found}")]
    Bytes {
        /// Of the bytes.
        format: Format,
        /// Bytes of one block.
        block_bytes: usize,
        /// Bytes given.
        found: usize,
    },
    /// There is room for more or fewer weights than the bytes hold.
    #[error("{format}: expected room for {expected} values, found {found}")]
    Values {
        /// Of the bytes.
        format: Format,
        /// Weights in the bytes.
        expected: usize,
        /// Room given.
        found: usize,
    },
}

/// Views bytes as blocks.
///
/// # Errors
/// [`QuantError::Bytes`] if they are not a whole number of blocks.
#[inline]
pub fn cast<B: Block<N>, const N: usize>(bytes: &[u8]) -> Result<&[B], QuantError> {
    bytemuck::try_cast_slice(bytes).map_err(|_| QuantError::Bytes {
        format: B::FORMAT,
        block_bytes: size_of::<B>(),
        found: bytes.len(),
    })
}

/// Decodes whole blocks into exactly as many weights as they hold.
///
/// # Errors
/// [`QuantError`] if the lengths do not belong together; `out` is then unchanged.
#[inline(always)]
pub fn dequantize<B: Block<N>, const N: usize>(bytes: &[u8], out: &mut [f32]) -> Result<(), QuantError> {
    let blocks: &[B] = cast(bytes)?;
    let found = out.len();
    // A slice has at most `isize::MAX` bytes and no block has more than 32 weights a byte, but that product may overflow.
    let expected = blocks.len().saturating_mul(N);
    if found != expected {
        return Err(QuantError::Values { format: B::FORMAT, expected, found });
    }
    for (block, out) in blocks.iter().zip(out.as_chunks_mut::<N>().0) {
        block.dequantize(out);
    }
    Ok(())
}

/// Fails to compile if a block struct has another size or alignment than its format says.
macro_rules! assert_layout {
    ($block:ty, $n:literal) => {
        const _: () = {
            assert!(size_of::<$block>() == <$block as Block<$n>>::FORMAT.block_bytes());
            assert!(align_of::<$block>() == 1);
            assert!($n == <$block as Block<$n>>::FORMAT.block_len());
        };
    };
}

pub(crate) use assert_layout;
