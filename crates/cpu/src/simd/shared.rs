//! A matrix that several threads write at once, each its own parts.

use std::marker::PhantomData;
use std::ops::Range;

/// Rows of float32 borrowed for writing by all threads of a section.
pub struct SharedRows<'a> {
    base: *mut f32,
    len: usize,
    n_cols: usize,
    _borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: parts are handed out only by the unsafe `part`, whose callers see to it that no two overlap.
unsafe impl Sync for SharedRows<'_> {}
// SAFETY: as above; f32 has no tie to a thread.
unsafe impl Send for SharedRows<'_> {}

impl<'a> SharedRows<'a> {
    /// `data` is `[n_row, n_cols]`.
    #[must_use]
    pub fn new(data: &'a mut [f32], n_cols: usize) -> SharedRows<'a> {
        SharedRows { base: data.as_mut_ptr(), len: data.len(), n_cols, _borrow: PhantomData }
    }

    /// Some columns of a row.
    ///
    /// # Safety
    /// While the part is alive no other part overlaps it.
    ///
    /// # Panics
    /// If the part is not within the matrix.
    #[must_use]
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn part(&self, row: usize, columns: Range<usize>) -> &mut [f32] {
        assert!(columns.start <= columns.end && columns.end <= self.n_cols);
        let start = row * self.n_cols + columns.start;
        assert!(start + columns.len() <= self.len);
        // SAFETY: within the borrowed slice by the assertions above; not aliased by this function's own contract.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(start), columns.len()) }
    }
}
