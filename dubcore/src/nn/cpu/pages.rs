//! Memory on large pages.
//!
//! A decoder's step reads all weights once, and the processor looks up where each page of memory is: many times with pages of
//! 4 KiB. Linux has pages of 2 MiB for memory that is aligned so, if it is asked before the memory is first used (`madvise(2)`,
//! `MADV_HUGEPAGE`). Elsewhere, and where it has none left, this is memory like any other.

use std::sync::{Arc, Weak};

use memmap2::{MmapOptions, MmapRaw};

use crate::process::PerProcess;
use crate::sync::Mutex;

/// A large page.
pub(super) const PAGE: usize = 2 << 20;

/// Lines that small pieces share: of a few large pages little is left over.
const SHARED: usize = 4 * PAGE / LINE;

/// A cache line, the unit of memory here.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [u32; 16]);

pub(super) const LINE: usize = size_of::<Line>();

/// A piece of memory that is nobody else's, zeros at first.
pub(super) struct Pages {
    /// Raw, so that no reference is ever to all of it: parts are others' to write.
    map: Arc<MmapRaw>,
    /// Where in the mapping its first line is.
    at: usize,
    lines: usize,
}

/// What pieces are cut from now, and how many lines of it are taken. Those that have a piece keep it.
#[derive(Default)]
struct Open {
    map: Weak<MmapRaw>,
    taken: usize,
}

static OPEN: PerProcess<Mutex<Open>> = PerProcess::new();

impl Pages {
    /// A mapping of its own; `None` where the system has none left.
    pub(super) fn new(lines: usize) -> Option<Self> {
        let bytes = lines.checked_mul(LINE)?;
        // What is not used of it takes no memory.
        let map = MmapRaw::from(MmapOptions::new().len(bytes.checked_add(PAGE)?).map_anon().ok()?);
        let at = map.as_ptr().align_offset(PAGE);
        // A kernel that has no large pages says so, and gives small ones.
        #[cfg(target_os = "linux")]
        let _ = map.advise_range(memmap2::Advice::HugePage, at, bytes);
        Some(Self { map: Arc::new(map), at, lines })
    }

    /// A part of a mapping, which is given back when all who have a part of it are gone: for what is smaller than a large page
    /// and comes and goes with its neighbours.
    pub(super) fn part(lines: usize) -> Option<Self> {
        let mut open = OPEN.get_with(|_| Mutex::default()).lock();
        if let Some(map) = open.map.upgrade()
            && open.taken + lines <= SHARED
        {
            let at = map.as_ptr().align_offset(PAGE) + open.taken * LINE;
            open.taken += lines;
            return Some(Self { map, at, lines });
        }
        let fresh = Self::new(SHARED)?;
        *open = Open { map: Arc::downgrade(&fresh.map), taken: lines };
        Some(Self { lines, ..fresh })
    }

    fn start(&self) -> *mut Line {
        // SAFETY: the mapping has a large page more than was asked for, so `at` and the piece behind it lie in it.
        unsafe { self.map.as_mut_ptr().add(self.at).cast() }
    }

    pub(super) fn as_slice(&self) -> &[Line] {
        // SAFETY: the piece is its owner's alone, of zeros or of what was put there, and aligned.
        unsafe { std::slice::from_raw_parts(self.start(), self.lines) }
    }

    pub(super) fn as_mut(&mut self) -> &mut [Line] {
        // SAFETY: as in `as_slice`, and it is borrowed mutably; no reference covers what is beside it.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.lines) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fills a piece; whether it was zeros.
    fn used(piece: &mut Pages, with: u32) -> bool {
        let zero = holds(piece, 0);
        piece.as_mut().fill(Line([with; 16]));
        zero
    }

    fn holds(piece: &Pages, value: u32) -> bool {
        piece.as_slice().iter().all(|line| line.0 == [value; 16])
    }

    #[test]
    fn pieces_are_zeros_of_their_own_and_aligned() {
        let sizes = [PAGE / LINE + 1, 3 * PAGE / LINE];
        let mut own = sizes.map(|lines| Pages::new(lines).unwrap());
        assert!(own.iter_mut().all(|piece| piece.start().cast::<u8>().align_offset(PAGE) == 0 && used(piece, u32::MAX)));
        let size = |i: usize| 1563 * (i % 7 + 1);
        let mut parts: Vec<Pages> = (0..40).map(|i| Pages::part(size(i)).unwrap()).collect();
        for (i, piece) in parts.iter_mut().enumerate() {
            assert!(piece.start().is_aligned() && piece.as_slice().len() == size(i) && used(piece, i as u32));
        }
        assert!(own.iter().all(|piece| holds(piece, u32::MAX)));
        assert!(parts.iter().enumerate().all(|(i, piece)| holds(piece, i as u32)));
    }

    #[test]
    fn what_cannot_be_had_is_not_there() {
        assert!([usize::MAX, usize::MAX / LINE, usize::MAX / LINE / 2].into_iter().all(|lines| Pages::new(lines).is_none()));
    }
}
