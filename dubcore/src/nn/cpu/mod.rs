//! Kernels for the processor: matrix products over packed weights, attention, convolutions, normalisation.
//!
//! `docs/kernels.md` explains how they work. Each is written once over vectors of an instruction set ([`simd`]); the set is
//! chosen once per process. What a result is depends on its row alone, not on the batch, padding or threads.

mod arena;
mod attention;
mod conv;
mod each;
mod gemm;
mod linear;
mod norm;
mod pack;
mod pages;
mod simd;
mod tile;

pub(crate) use arena::Arena;
pub(crate) use attention::{KvCache, Queries, Seen, UNSEEN};
pub(crate) use conv::{Conv, ConvToOne, ConvTranspose, by_tap};
pub(crate) use each::{gate, log10, lstm, put};
pub(crate) use gemm::{Act, End};
pub(crate) use norm::{LayerNorm, Peak, above, draw, peak, softmax_rows};
pub(crate) use pack::{Format, Packed, Shape};
pub(crate) use simd::Isa;
pub(crate) use tile::{Rows, Tile};

use crate::team::Team;

/// What a request computes with: threads and memory of its own.
pub(crate) struct Cpu {
    pub(crate) team: Team,
    pub(crate) arena: Arena,
}

impl Cpu {
    /// With at most `threads`, 0 for as many as the process may have.
    pub(crate) fn new(threads: usize) -> Self {
        Self { team: Team::new(threads), arena: Arena::default() }
    }

    /// The calling thread, with memory of its own.
    pub(crate) fn alone() -> Self {
        Self { team: Team::alone(), arena: Arena::default() }
    }
}
