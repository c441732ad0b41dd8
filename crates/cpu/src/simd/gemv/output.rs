//! Where do the products go? A view of some columns of a row-major matrix, which threads can share by columns.
//!
//! Threads divide the rows of a weight matrix, that is the columns of the result, and each needs all rows of its columns:
//! slices cannot express that, so this view holds a pointer, and splitting it keeps the parts disjoint.

use std::marker::PhantomData;

/// Columns `[n_rows][n_cols]` of a row-major matrix of f32, exclusively borrowed.
#[derive(Debug)]
pub struct Columns<'a> {
    first: *mut f32,
    n_rows: usize,
    n_cols: usize,
    stride: usize,
    matrix: PhantomData<&'a mut [f32]>,
}

// SAFETY: a `Columns` is an exclusive borrow of its elements, as `&mut [f32]` is, and those may be sent to another thread.
unsafe impl Send for Columns<'_> {}

impl<'a> Columns<'a> {
    /// All columns of `matrix`, `[n_rows][len / n_rows]`.
    ///
    /// # Panics
    /// If `matrix` is not a whole number of rows.
    #[must_use]
    pub fn new(matrix: &'a mut [f32], n_rows: usize) -> Columns<'a> {
        assert!(
            n_rows > 0 && matrix.len().is_multiple_of(n_rows),
            "expected {n_rows} equal rows, found {} values",
            matrix.len()
        );
        let n_cols = matrix.len() / n_rows;
        Columns { first: matrix.as_mut_ptr(), n_rows, n_cols, stride: n_cols, matrix: PhantomData }
    }

    /// The columns before `col`, and the others.
    ///
    /// # Panics
    /// If there are fewer than `col` columns.
    #[must_use]
    pub fn split_at(self, col: usize) -> (Columns<'a>, Columns<'a>) {
        assert!(col <= self.n_cols, "expected a column up to {}, found {col}", self.n_cols);
        let right = Columns { first: self.first.wrapping_add(col), n_cols: self.n_cols - col, ..self };
        (Columns { n_cols: col, ..self }, right)
    }

    /// Rows of the view.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Columns of the view.
    #[must_use]
    pub fn n_cols(&self) -> usize {
        self.n_cols
    }

    /// Writes one element.
    ///
    /// # Panics
    /// If it is outside the view.
    #[inline]
    pub fn set(&mut self, row: usize, col: usize, value: f32) {
        assert!(row < self.n_rows && col < self.n_cols, "({row}, {col}) is outside the view");
        // SAFETY: row and column are inside the view, whose elements `new` took from one slice and no other view shares.
        unsafe { self.first.add(row * self.stride + col).write(value) }
    }
}
