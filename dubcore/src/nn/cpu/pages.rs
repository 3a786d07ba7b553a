//! Memory on large pages.
//!
//! A decoder's step reads all weights once, and the processor looks up where each page of memory is. With pages of 4 KiB that
//! takes a third of the step. Linux has pages of 2 MiB for memory that is aligned so, if it is asked before the memory is first
//! used (`madvise(2)`, `MADV_HUGEPAGE`). Elsewhere, and where it has none left, this is memory like any other.

use std::sync::{Arc, Weak};

use memmap2::{MmapMut, MmapOptions};

use crate::process::PerProcess;
use crate::sync::Mutex;

/// A large page.
pub(super) const PAGE: usize = 2 << 20;

/// What small pieces share: of a few large pages little is left over.
const SHARED: usize = 4 * PAGE;

/// Pieces begin at multiples of it.
const ALIGNED: usize = 64;

/// A piece of memory that is nobody else's, zeros at first.
pub(super) struct Pages {
    map: Arc<MmapMut>,
    at: usize,
    bytes: usize,
}

/// What pieces are cut from now, and how much of it is taken. Those that have a piece keep it.
#[derive(Default)]
struct Open {
    map: Weak<MmapMut>,
    taken: usize,
}

static OPEN: PerProcess<Mutex<Open>> = PerProcess::new();

impl Pages {
    /// A mapping of its own; `None` where the system has none left.
    pub(super) fn new(bytes: usize) -> Option<Self> {
        // What is not used of it takes no memory.
        let map = MmapOptions::new().len(bytes.checked_add(PAGE)?).map_anon().ok()?;
        let at = map.as_ptr().align_offset(PAGE);
        // A kernel that has no large pages says so, and gives small ones.
        #[cfg(target_os = "linux")]
        let _ = map.advise_range(memmap2::Advice::HugePage, at, bytes);
        Some(Self { map: Arc::new(map), at, bytes })
    }

    /// A part of a mapping, which is given back when all who have a part of it are gone: for what is smaller than a large page
    /// and comes and goes with its neighbours.
    pub(super) fn part(bytes: usize) -> Option<Self> {
        let mut open = OPEN.get_with(|_| Mutex::default()).lock();
        let taken = open.taken.next_multiple_of(ALIGNED);
        if let Some(map) = open.map.upgrade()
            && taken + bytes <= SHARED
        {
            open.taken = taken + bytes;
            let at = map.as_ptr().align_offset(PAGE) + taken;
            return Some(Self { map, at, bytes });
        }
        let fresh = Self::new(SHARED)?;
        *open = Open { map: Arc::downgrade(&fresh.map), taken: bytes };
        Some(Self { bytes, ..fresh })
    }

    /// `bytes` bytes from here are this piece's.
    pub(super) fn start(&self) -> *mut u8 {
        // SAFETY: the mapping has a large page more than was asked for, so `at` and the piece behind it lie in it.
        unsafe { self.map.as_ptr().add(self.at).cast_mut() }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fills a piece and looks at it.
    fn used(piece: &Pages, with: u8) -> bool {
        // SAFETY: a piece is nobody else's.
        let bytes = unsafe { std::slice::from_raw_parts_mut(piece.start(), piece.bytes()) };
        let zero = bytes.iter().all(|b| *b == 0);
        bytes.fill(with);
        zero
    }

    fn holds(piece: &Pages, value: u8) -> bool {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts(piece.start(), piece.bytes()) }.iter().all(|b| *b == value)
    }

    #[test]
    fn pieces_are_zeros_of_their_own_and_aligned() {
        let sizes = [PAGE + 1, 3 * PAGE];
        let own: Vec<Pages> = sizes.iter().map(|bytes| Pages::new(*bytes).unwrap()).collect();
        assert!(own.iter().all(|piece| piece.start().align_offset(PAGE) == 0 && used(piece, 1)));
        let parts: Vec<Pages> = (0..40).map(|i| Pages::part(100_001 * (i % 7 + 1)).unwrap()).collect();
        for (i, piece) in parts.iter().enumerate() {
            assert!(piece.start().align_offset(ALIGNED) == 0 && piece.bytes() == 100_001 * (i % 7 + 1) && used(piece, i as u8));
        }
        assert!(own.iter().all(|piece| holds(piece, 1)));
        assert!(parts.iter().enumerate().all(|(i, piece)| holds(piece, i as u8)));
    }

    #[test]
    fn what_cannot_be_had_is_not_there() {
        assert!(Pages::new(usize::MAX).is_none() && Pages::new(usize::MAX / 2).is_none());
    }
}
