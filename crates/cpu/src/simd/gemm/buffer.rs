//! Where do panels and prepared activations live? Buffers that begin on a cache line, which tile and vector loads want.
//!
//! They grow and never shrink, so a step of a size that was seen before allocates nothing.

use std::slice;

/// 64 bytes on a cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// A kind of number for which every bit pattern is a value, and whose alignment divides a cache line.
///
/// # Safety
/// Implementors have no padding, no invalid bit patterns and an alignment of at most 64.
pub(super) unsafe trait Plain: Copy {}

// SAFETY: every bit pattern is an `f32`, of alignment 4.
unsafe impl Plain for f32 {}
// SAFETY: every bit pattern is a `u16`, of alignment 2.
unsafe impl Plain for u16 {}
// SAFETY: every bit pattern is an `i16`, of alignment 2.
unsafe impl Plain for i16 {}
// SAFETY: every bit pattern is a `u32`, of alignment 4.
unsafe impl Plain for u32 {}

/// Memory on a cache line, read as numbers of one kind at a time.
#[derive(Default)]
pub(super) struct Buffer {
    lines: Vec<Line>,
}

impl Buffer {
    /// Makes room for `n` numbers; what it held is not kept in any useful form.
    pub(super) fn reserve<T: Plain>(&mut self, n: usize) {
        let lines = (n * size_of::<T>()).div_ceil(64);
        if self.lines.len() < lines {
            self.lines = vec![Line([0; 64]); lines];
        }
    }

    /// The first `n` numbers; room for them must have been reserved.
    pub(super) fn get<T: Plain>(&self, n: usize) -> &[T] {
        assert!(n * size_of::<T>() <= self.lines.len() * 64, "the buffer is too small");
        // SAFETY: the memory is initialised and long enough (just checked), aligned to 64, and any bits are a `T`.
        unsafe { slice::from_raw_parts(self.lines.as_ptr().cast(), n) }
    }

    /// The first `n` numbers, to be written; room for them must have been reserved.
    pub(super) fn get_mut<T: Plain>(&mut self, n: usize) -> &mut [T] {
        assert!(n * size_of::<T>() <= self.lines.len() * 64, "the buffer is too small");
        // SAFETY: as in `get`, and `self` is borrowed mutably for as long as the slice lives.
        unsafe { slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), n) }
    }
}
