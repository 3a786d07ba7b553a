//! Memory of kernels: aligned to cache lines, and lent again and again within a request.

use std::ops::{Deref, DerefMut};

use super::pages::{LINE, Line, PAGE, Pages};
use crate::sync::Mutex;

// SAFETY: any bits are a value, and its size is its own.
unsafe impl Plain for Line {}

/// Numbers, of which any bits are one.
///
/// # Safety
/// Any bits are a value, and a [`Line`] is a whole number of them.
pub(in crate::nn) unsafe trait Plain: Copy + Send + Sync {}

// SAFETY: any bits are a value of these, whose sizes divide 64.
unsafe impl Plain for f32 {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for u16 {}
// SAFETY: as above.
unsafe impl Plain for u8 {}

/// The same memory as values of another kind, as many as fit whole. `U` is no more strictly aligned than `T`.
pub(super) fn cast<T: Plain, U: Plain>(values: &[T]) -> &[U] {
    const { assert!(align_of::<U>() <= align_of::<T>()) }
    // SAFETY: any bits are a `U`, the alignment suffices, and the length is rounded down.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values) / size_of::<U>()) }
}

/// As [`cast`].
pub(super) fn cast_mut<T: Plain, U: Plain>(values: &mut [T]) -> &mut [U] {
    const { assert!(align_of::<U>() <= align_of::<T>()) }
    // SAFETY: as in `cast`; any bits are a `T` too, and the borrow is passed on.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values) / size_of::<U>()) }
}

/// Zeros at first, aligned to a cache line. What is large is on large pages.
pub(super) struct Buffer(Place);

enum Place {
    Heap(Vec<Line>),
    Pages(Pages),
}

/// Lasting memory of fewer bytes is on the heap.
const SMALL: usize = 16 << 10;

impl Buffer {
    /// For `len` values of `T`.
    pub(super) fn new<T: Plain>(len: usize) -> Self {
        Self::of_lines(lines::<T>(len))
    }

    /// The same for what a model keeps: its small pieces are on large pages together.
    pub(super) fn lasting<T: Plain>(len: usize) -> Self {
        let lines = lines::<T>(len);
        let shared = if (SMALL..PAGE).contains(&(lines * LINE)) { Pages::part(lines) } else { None };
        shared.map_or_else(|| Self::of_lines(lines), |pages| Self(Place::Pages(pages)))
    }

    fn of_lines(lines: usize) -> Self {
        let pages = if lines * LINE >= PAGE { Pages::new(lines) } else { None };
        Self(pages.map_or_else(|| Place::Heap(vec![Line([0; 16]); lines]), Place::Pages))
    }

    fn lines(&self) -> &[Line] {
        match &self.0 {
            Place::Heap(lines) => lines,
            Place::Pages(piece) => piece.as_slice(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(self.lines())
    }

    /// All of it, which may be some values more than were asked for.
    pub(super) fn as_slice<T: Plain>(&self) -> &[T] {
        cast(self.lines())
    }

    pub(super) fn as_mut<T: Plain>(&mut self) -> &mut [T] {
        cast_mut(match &mut self.0 {
            Place::Heap(lines) => lines,
            Place::Pages(piece) => piece.as_mut(),
        })
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self(Place::Heap(Vec::new()))
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        let mut copy = Self::of_lines(self.lines().len());
        copy.as_mut::<u32>().copy_from_slice(self.as_slice());
        copy
    }
}

fn lines<T>(len: usize) -> usize {
    (len * size_of::<T>()).div_ceil(LINE)
}

/// Scratch memory of one request. What is lent comes back when it is dropped, and is lent again: in the steady state nothing
/// is allocated. Any thread may borrow.
#[derive(Default)]
pub(crate) struct Arena(Mutex<Vec<Buffer>>);

impl Arena {
    /// `len` values that are what somebody left there.
    pub(in crate::nn) fn lend<T: Plain>(&self, len: usize) -> Lent<'_, T> {
        let want = lines::<T>(len);
        let mut free = self.0.lock();
        // The smallest that fits, else the largest, which grows: so each size is allocated once.
        let size = |i: &usize| free[*i].lines().len();
        let fits = (0..free.len()).filter(|i| size(i) >= want).min_by_key(size);
        let pick = fits.or_else(|| (0..free.len()).max_by_key(size));
        let mut buffer = pick.map(|i| free.swap_remove(i)).unwrap_or_default();
        drop(free);
        if buffer.lines().len() < want {
            // Not resized: what is in it need not be copied.
            buffer = Buffer::of_lines(want);
        }
        Lent { arena: self, buffer, len, of: std::marker::PhantomData }
    }

    /// Bytes that it holds and nobody has.
    pub(crate) fn bytes(&self) -> usize {
        self.0.lock().iter().map(Buffer::bytes).sum()
    }
}

/// Memory of an [`Arena`].
pub(in crate::nn) struct Lent<'a, T> {
    arena: &'a Arena,
    buffer: Buffer,
    len: usize,
    of: std::marker::PhantomData<T>,
}

impl<T: Plain> Deref for Lent<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.buffer.as_slice()[..self.len]
    }
}

impl<T: Plain> DerefMut for Lent<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.buffer.as_mut()[..self.len]
    }
}

impl<T> Drop for Lent<'_, T> {
    fn drop(&mut self) {
        self.arena.0.lock().push(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_back_is_lent_again() {
        let arena = Arena::default();
        let at = |len| {
            let mut a = arena.lend::<f32>(len);
            a.fill(1.0);
            assert_eq!((a.len(), a.as_ptr() as usize % 64), (len, 0));
            a.as_ptr() as usize
        };
        let first = at(100);
        assert_eq!(at(100), first);
        assert_eq!(at(3), first);
        {
            let (a, b) = (arena.lend::<u8>(400), arena.lend::<u16>(1));
            assert_eq!(a.as_ptr() as usize, first);
            assert_ne!(b.as_ptr() as usize, first);
        }
        assert_eq!(arena.bytes(), 448 + 64);
        at(1000);
        assert_eq!(arena.bytes(), 4032 + 64, "the larger one grew");
        assert!(arena.lend::<f32>(0).is_empty());
    }
}
