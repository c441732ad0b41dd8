//! Where do products go? Threads divide the rows of a weight matrix, that is the columns of the result: each holds [`Columns`],
//! some columns of every row.
//!
//! Views come from one mutable slice and are only ever split, so two views never share an element, and the borrow lasts
//! as long as any of them. Shapes: `n_rows` x `n_cols`, the rows `stride` numbers apart.

use std::marker::PhantomData;

/// Columns of a row-major `f32` matrix: every row's, none of them shared with another view.
///
/// Invariant: for every `row < n_rows` and `col < n_cols`, `first.add(row * stride + col)` is a valid number that no
/// other reference or view reaches while `'a` lasts.
pub struct Columns<'a> {
    first: *mut f32,
    n_rows: usize,
    n_cols: usize,
    stride: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: a view is an exclusive borrow of its elements, and `f32` may be written from any thread.
unsafe impl Send for Columns<'_> {}

impl<'a> Columns<'a> {
    /// All of a matrix whose rows of `n_cols` numbers follow one another.
    ///
    /// # Panics
    /// If `matrix` is not a whole number of rows.
    #[must_use]
    pub fn new(matrix: &'a mut [f32], n_cols: usize) -> Columns<'a> {
        assert!(n_cols > 0 && matrix.len().is_multiple_of(n_cols), "the matrix is a whole number of rows");
        Columns {
            first: matrix.as_mut_ptr(),
            n_rows: matrix.len() / n_cols,
            n_cols,
            stride: n_cols,
            borrow: PhantomData,
        }
    }

    /// The columns before `col`, and the others.
    ///
    /// # Panics
    /// If there are fewer than `col` columns.
    #[must_use]
    pub fn split_at(self, col: usize) -> (Columns<'a>, Columns<'a>) {
        assert!(col <= self.n_cols, "the split lies within the columns");
        let Columns { first, n_rows, n_cols, stride, borrow } = self;
        // A view without elements keeps the first pointer: one past the last column may lie outside the matrix.
        let second = if n_rows > 0 && col < n_cols {
            // SAFETY: `col < n_cols` and there is a row, so this is an element of the matrix.
            unsafe { first.add(col) }
        } else {
            first
        };
        let left = Columns { first, n_rows, n_cols: col, stride, borrow };
        let right = Columns { first: second, n_rows, n_cols: n_cols - col, stride, borrow };
        (left, right)
    }

    /// The columns as views of `width` each, the last one perhaps narrower.
    pub fn split_cols(self, width: usize) -> impl Iterator<Item = Columns<'a>> + Send {
        assert!(width > 0, "a view has columns");
        let mut rest = Some(self);
        std::iter::from_fn(move || {
            let view = rest.take()?;
            if view.n_cols == 0 {
                return None;
            }
            let at = width.min(view.n_cols);
            let (left, right) = view.split_at(at);
            rest = Some(right);
            Some(left)
        })
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

    /// Where an element is, to be prefetched: it may be outside the view.
    pub(super) fn address(&self, row: usize, col: usize) -> *const f32 {
        self.first.wrapping_add(row * self.stride + col)
    }

    /// Numbers from a row to the next.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// Columns `cols` of row `row`.
    ///
    /// # Panics
    /// If the view has no such elements.
    pub fn row(&mut self, row: usize, cols: std::ops::Range<usize>) -> &mut [f32] {
        assert!(
            row < self.n_rows && cols.start <= cols.end && cols.end <= self.n_cols,
            "elements of the view"
        );
        // SAFETY: the invariant of the type, for the elements just checked; `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(row * self.stride + cols.start), cols.len()) }
    }

    /// Writes one element.
    ///
    /// # Panics
    /// If it is outside the view.
    #[inline]
    pub fn set(&mut self, row: usize, col: usize, value: f32) {
        assert!(row < self.n_rows && col < self.n_cols, "({row}, {col}) is outside the view");
        // SAFETY: the invariant of the type, for the element just checked; `self` is borrowed mutably.
        unsafe { self.first.add(row * self.stride + col).write(value) }
    }

    /// Writes a column's elements of `N` rows from `first` on.
    ///
    /// # Panics
    /// If one is outside the view.
    #[inline]
    pub fn set_rows<const N: usize>(&mut self, first: usize, col: usize, values: [f32; N]) {
        assert!(
            first + N <= self.n_rows && col < self.n_cols,
            "({first} and {N} more, {col}) are outside the view"
        );
        for (row, value) in values.into_iter().enumerate() {
            // SAFETY: the invariant of the type, for the elements just checked; `self` is borrowed mutably.
            unsafe { self.first.add((first + row) * self.stride + col).write(value) }
        }
    }
}
