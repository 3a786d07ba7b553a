//! Views of matrices whose rows lie a stride apart: what goes into a kernel, and the part of its output that is its own.

use std::marker::PhantomData;

use crate::team::Team;

/// Rows to read. They may overlap: the windows of a convolution do.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    stride: usize,
}

impl<'a> Rows<'a> {
    /// `rows` of `columns` values, each `stride` behind the one before.
    pub(crate) fn new(values: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(rows == 0 || (rows - 1) * stride + columns <= values.len(), "{rows} rows do not lie in {}", values.len());
        Self { values, rows, columns, stride }
    }

    /// Rows that follow one another.
    pub(crate) fn dense(values: &'a [f32], columns: usize) -> Self {
        Self::new(values, values.len() / columns.max(1), columns, columns)
    }

    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// The values from the first row on.
    pub(super) fn values(&self) -> &'a [f32] {
        self.values
    }

    pub(super) fn row(&self, i: usize) -> &'a [f32] {
        debug_assert!(i < self.rows);
        &self.values[i * self.stride..][..self.columns]
    }

    /// `count` rows from `from` on, fewer at the end.
    pub(super) fn slice(&self, from: usize, count: usize) -> Self {
        let from = from.min(self.rows);
        let at = (from * self.stride).min(self.values.len());
        Self { values: &self.values[at..], rows: count.min(self.rows - from), ..*self }
    }
}

/// A part of a matrix that is one thread's to write: rows that do not overlap, and that nobody else has.
pub(crate) struct Tile<'a> {
    at: *mut f32,
    rows: usize,
    columns: usize,
    stride: usize,
    of: PhantomData<&'a mut [f32]>,
}

// SAFETY: it stands for a `&mut` of its elements, which may move to another thread.
unsafe impl Send for Tile<'_> {}

impl<'a> Tile<'a> {
    /// `rows` of `columns` values, each `stride` behind the one before.
    pub(crate) fn new(values: &'a mut [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(columns <= stride || rows <= 1, "rows of {columns} overlap at a stride of {stride}");
        assert!(rows == 0 || (rows - 1) * stride + columns <= values.len(), "{rows} rows do not lie in {}", values.len());
        Self { at: values.as_mut_ptr(), rows, columns, stride, of: PhantomData }
    }

    /// Rows that follow one another.
    pub(crate) fn dense(values: &'a mut [f32], columns: usize) -> Self {
        let rows = values.len() / columns.max(1);
        Self::new(values, rows, columns, columns)
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    pub(super) fn row(&mut self, i: usize) -> &mut [f32] {
        assert!(i < self.rows);
        // SAFETY: the row lies in what `self` stands for, and is borrowed from it.
        unsafe { std::slice::from_raw_parts_mut(self.at.add(i * self.stride), self.columns) }
    }

    /// All values, where rows follow one another.
    pub(crate) fn all(&mut self) -> &mut [f32] {
        assert!(self.stride == self.columns || self.rows <= 1);
        // SAFETY: rows without gaps lie in what `self` stands for, and are borrowed from it.
        unsafe { std::slice::from_raw_parts_mut(self.at, self.rows * self.columns) }
    }

    /// The same once more, while `self` is not used.
    pub(crate) fn again(&mut self) -> Tile<'_> {
        Tile { of: PhantomData, ..*self }
    }

    /// Where column `c` of row `r` is.
    pub(super) fn at(&mut self, r: usize, c: usize) -> *mut f32 {
        debug_assert!(r < self.rows && c < self.columns, "({r}, {c}) of ({}, {})", self.rows, self.columns);
        self.at.wrapping_add(r * self.stride + c)
    }

    /// To be cut into pieces by several threads.
    pub(super) fn shared(self) -> Shared<'a> {
        Shared(self)
    }
}

/// A [`Tile`] that is being cut into pieces.
pub(super) struct Shared<'a>(Tile<'a>);

// SAFETY: through a shared reference one only makes pieces, whose maker promises that they do not overlap.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    pub(super) fn rows(&self) -> usize {
        self.0.rows
    }

    pub(super) fn columns(&self) -> usize {
        self.0.columns
    }

    /// `rows` from `row` on by `columns` from `column` on, fewer at the ends.
    ///
    /// # Safety
    /// No two pieces that exist at once overlap.
    pub(super) unsafe fn piece(&self, row: usize, rows: usize, column: usize, columns: usize) -> Tile<'a> {
        let Tile { at, rows: all, columns: width, stride, of } = self.0;
        let (row, column) = (row.min(all), column.min(width));
        Tile {
            at: at.wrapping_add(row * stride + column),
            rows: rows.min(all - row),
            columns: columns.min(width - column),
            stride,
            of,
        }
    }
}

impl Team {
    /// Cuts `out` into pieces of `rows` rows, and calls `part` with each and its number.
    pub(in crate::nn) fn each_rows(&self, out: Tile<'_>, rows: usize, part: impl Fn(usize, Tile<'_>) + Sync) {
        let rows = rows.max(1);
        let all = out.shared();
        // SAFETY: a piece has rows of its own, and each is made once.
        self.each(all.rows().div_ceil(rows), |i| part(i, unsafe { all.piece(i * rows, rows, 0, usize::MAX) }));
    }

    /// Cuts `out` into pieces of `columns` columns, and calls `part` with each and its number.
    pub(super) fn each_columns(&self, out: Tile<'_>, columns: usize, part: impl Fn(usize, Tile<'_>) + Sync) {
        let columns = columns.max(1);
        let all = out.shared();
        // SAFETY: a piece has columns of its own, and each is made once.
        self.each(all.columns().div_ceil(columns), |i| part(i, unsafe { all.piece(0, usize::MAX, i * columns, columns) }));
    }

    /// As both: pieces of `rows` by `columns`, row by row.
    pub(super) fn each_piece(
        &self,
        out: Tile<'_>,
        (rows, columns): (usize, usize),
        part: impl Fn(usize, usize, Tile<'_>) + Sync,
    ) {
        let across = out.columns().div_ceil(columns.max(1)).max(1);
        let all = out.shared();
        let parts = all.rows().div_ceil(rows.max(1)) * across;
        self.each(parts, |i| {
            let (r, c) = (i / across, i % across);
            // SAFETY: a piece has rows and columns of its own, and each is made once.
            part(r, c, unsafe { all.piece(r * rows, rows, c * columns, columns) });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_matrix() {
        let team = Team::new(0);
        let (rows, columns, stride) = (7, 10, 13);
        let mut values = vec![0.0; rows * stride];
        let add = |mut piece: Tile<'_>| (0..piece.rows()).for_each(|r| piece.row(r).iter_mut().for_each(|v| *v += 1.0));
        team.each_rows(Tile::new(&mut values, rows, columns, stride), 3, |_, piece| add(piece));
        team.each_columns(Tile::new(&mut values, rows, columns, stride), 4, |_, piece| add(piece));
        team.each_piece(Tile::new(&mut values, rows, columns, stride), (2, 3), |_, _, piece| add(piece));
        for (i, v) in values.iter().enumerate() {
            assert_eq!(*v, if i % stride < columns { 3.0 } else { 0.0 }, "{i}");
        }
    }
}
