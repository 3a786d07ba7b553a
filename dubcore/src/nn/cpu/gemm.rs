//! The matrix product of rows by packed weights, and what is done to a result before it is stored.
//!
//! The product is made of tiles: some rows by a panel of outputs, whose sums stay in registers while the inputs go by. Of a
//! tile's `M` rows by two vectors, each input costs two loads of weights and `M` of one number for all lanes, for `2 M`
//! multiplications. Few rows have few sums, and an addition must wait for the one before: then several panels are done at
//! once. Either way each sum adds its inputs in their order, so a row's result does not depend on which rows are beside it.
//!
//! Rows go by in strips through a block of panels that the second-level cache holds.

use std::hint::black_box;

use super::arena::{Arena, Lent, cast, cast_mut};
use super::pack::{Format, LEAST, Packed};
use super::pages::LINE;
use super::simd::{Kernel, MATRIX_ROWS, MATRIX_WORDS, MAX_LANES, Matrix, Simd, halves, math, prefetch};
use super::tile::{Rows, Tile};
use crate::team::Team;

/// Functions that a product can apply to its results.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Act {
    #[default]
    None,
    Relu,
    /// The exact form with erf.
    Gelu,
    GeluTanh,
    Silu,
    Tanh,
    /// x, or x times the slope where it is negative.
    Leaky(f32),
}

/// What happens to a result.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct End {
    pub(crate) act: Act,
    /// Whether the result is added to what is there (a residual connection), not stored over it.
    pub(crate) add: bool,
}

impl End {
    /// Puts a result of `n` values where `to` points.
    ///
    /// # Safety
    /// `n` values are there, and no more than a vector has.
    #[inline(always)]
    pub(super) unsafe fn store<S: Simd>(self, s: S, v: S::F, to: *mut f32, n: usize) {
        let v = self.act.apply(s, v);
        // SAFETY: the caller's.
        unsafe {
            if n == S::LANES {
                s.store(to, if self.add { s.add(v, s.load(to)) } else { v });
            } else {
                s.store_part(to, if self.add { s.add(v, s.load_part(to, n, 0.0)) } else { v }, n);
            }
        }
    }
}

impl Act {
    #[inline(always)]
    pub(super) fn apply<S: Simd>(self, s: S, v: S::F) -> S::F {
        match self {
            Self::None => v,
            Self::Relu => s.max(s.splat(0.0), v),
            Self::Gelu => math::gelu(s, v),
            Self::GeluTanh => math::gelu_tanh(s, v),
            Self::Silu => math::silu(s, v),
            Self::Tanh => math::tanh(s, v),
            // For slopes up to 1 the larger of the two; the second passes NaN on.
            Self::Leaky(slope) => s.max(s.mul(v, s.splat(slope)), v),
        }
    }
}

/// Inputs as words, bytes as [`Simd::BYTE_WORDS`] has them. Row `r`'s words of tap `t` begin at `r * row + t * tap`.
#[derive(Clone, Copy)]
pub(super) struct Operand<'a> {
    pub(super) words: &'a [u32],
    pub(super) row: usize,
    pub(super) tap: usize,
    pub(super) rows: usize,
    /// By row, for int8: what 1 stands for, and what stands for zero.
    pub(super) scales: &'a [f32],
}

/// Of how many numbers a row's scale is.
const SCALE: usize = 2;

/// Rows in a format, ready to be multiplied.
pub(super) enum Prepared<'a> {
    /// As they are.
    Plain(Rows<'a>),
    Converted {
        words: Lent<'a, u32>,
        scales: Lent<'a, f32>,
        per_row: usize,
        rows: usize,
    },
}

/// Numbers to convert that are worth a thread.
const SHARE: usize = 16 << 10;

impl<'a> Prepared<'a> {
    pub(super) fn new(w: &Packed, team: &Team, arena: &'a Arena, x: Rows<'a>) -> Self {
        if w.format == Format::F32 {
            return Self::Plain(x);
        }
        let int8 = w.format == Format::Int8;
        let (rows, per_row) = (x.len(), w.format.words(x.columns()) * if int8 { w.isa.byte_words() } else { 1 });
        let mut words = arena.lend(rows * per_row);
        let mut scales = arena.lend(if int8 { rows * SCALE } else { 0 });
        let (of_part, all) = ((SHARE / x.columns().max(1)).max(1), Tile::dense(&mut scales, SCALE).shared());
        team.each_rows(Tile::dense(cast_mut(&mut words), per_row), of_part, |i, mut words| {
            let x = x.slice(i * of_part, of_part);
            // SAFETY: each piece has rows of its own, and is made once.
            let mut scales = unsafe { all.piece(i * of_part, of_part, 0, SCALE) };
            let (words, scales) = (cast_mut(words.all()), scales.all());
            w.isa.run(Convert { x, act: Act::None, format: w.format, words, per_row, scales });
        });
        Self::Converted { words, scales, per_row, rows }
    }

    pub(super) fn operand(&self) -> Operand<'_> {
        match self {
            Self::Plain(x) => Operand { words: cast(x.values()), row: x.stride(), tap: 0, rows: x.len(), scales: &[] },
            Self::Converted { words, scales, per_row, rows } => Operand { words, row: *per_row, tap: 0, rows: *rows, scales },
        }
    }
}

/// Rows to words of a format. For f32 and bf16, `act` is applied before.
pub(super) struct Convert<'a> {
    pub(super) x: Rows<'a>,
    pub(super) act: Act,
    pub(super) format: Format,
    pub(super) words: &'a mut [u32],
    pub(super) per_row: usize,
    /// By row, for int8: as in an [`Operand`].
    pub(super) scales: &'a mut [f32],
}

impl Kernel for Convert<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (r, to) in self.words.chunks_exact_mut(self.per_row.max(1)).enumerate().take(self.x.len()) {
            let x = self.x.row(r);
            match self.format {
                Format::F32 => to_f32(s, x, self.act, cast_mut(to)),
                Format::Bf16 => to_bf16(s, x, self.act, cast_mut(to)),
                Format::Int8 => self.scales[SCALE * r..][..SCALE].copy_from_slice(&inputs(s, x, to)),
            }
        }
    }
}

#[inline(always)]
fn to_f32<S: Simd>(s: S, x: &[f32], act: Act, to: &mut [f32]) {
    assert!(to.len() >= x.len());
    for i in (0..x.len()).step_by(S::LANES) {
        let n = S::LANES.min(x.len() - i);
        // SAFETY: `i + n` is no more than either length.
        unsafe { s.store_part(to.as_mut_ptr().add(i), act.apply(s, s.load_part(x.as_ptr().add(i), n, 0.0)), n) };
    }
}

/// Rounds to bf16; what is left of `to` becomes zero.
#[inline(always)]
pub(super) fn to_bf16<S: Simd>(s: S, x: &[f32], act: Act, to: &mut [u16]) {
    assert!(to.len() >= x.len());
    let whole = x.len() / S::LANES * S::LANES;
    for i in (0..whole).step_by(S::LANES) {
        // SAFETY: `i + LANES` is no more than either length.
        unsafe { s.store_bf16(to.as_mut_ptr().add(i), act.apply(s, s.load(x.as_ptr().add(i)))) };
    }
    let mut last = [0; MAX_LANES];
    let rest = x.len() - whole;
    // SAFETY: `rest` floats are left, and `last` has room for a vector.
    unsafe { s.store_bf16(last.as_mut_ptr(), act.apply(s, s.load_part(x.as_ptr().add(whole), rest, 0.0))) };
    to[whole..x.len()].copy_from_slice(&last[..rest]);
    to[x.len()..].fill(0);
}

/// The least and the largest value, of which zero counts as one, and 0; NaN where a value is not finite.
#[inline(always)]
fn range<S: Simd>(s: S, x: &[f32]) -> (f32, f32, f32) {
    let zero = s.splat(0.0);
    let (mut low, mut high, mut finite) = (zero, zero, zero);
    for i in (0..x.len()).step_by(S::LANES) {
        // The rows behind it come from further than the first-level cache.
        prefetch(x.as_ptr().wrapping_add(i + 512));
        // SAFETY: so many are left.
        let v = unsafe { s.load_part(x.as_ptr().add(i), S::LANES.min(x.len() - i), 0.0) };
        (low, high) = (s.min(low, v), s.max(high, v));
        // A value less itself is NaN where it is not finite.
        finite = s.add(finite, s.sub(v, v));
    }
    (-s.largest(s.sub(zero, low)), s.largest(high), s.sum(finite))
}

/// Rounds inputs to 0..=255, from the least to the largest; what is left of `to` weighs nothing. Returns what 1 stands for, NaN
/// where a value is not finite, and what stands for zero.
#[inline(always)]
fn inputs<S: Simd>(s: S, x: &[f32], to: &mut [u32]) -> [f32; SCALE] {
    let (low, high, finite) = range(s, x);
    let scale = (high / 255.0 - low / 255.0).max(LEAST) + finite;
    let zero = (-low / scale).round_ties_even();
    // Halfwords grow from the front over the bytes, which are at the end, and have been read when they come there.
    let first = to.len() - to.len() / S::BYTE_WORDS;
    bytes(s, x, cast_mut(&mut to[first..]), (scale, zero), (0.0, 255.0));
    if S::BYTE_WORDS == 2 {
        for i in first..to.len() {
            let at = 2 * (i - first);
            [to[at], to[at + 1]] = halves(to[i]);
        }
    }
    [scale, zero]
}

/// Rounds weights to -127..=127; what is left of `to` becomes zero. Returns what 1 stands for: NaN where a value is not finite.
#[inline(always)]
pub(super) fn weights<S: Simd>(s: S, x: &[f32], to: &mut [u8]) -> f32 {
    const MIDDLE: u8 = 128;
    const HEAVIEST: f32 = 127.0;
    let (low, high, finite) = range(s, x);
    let scale = (high.max(-low) / HEAVIEST).max(LEAST) + finite;
    let middle = f32::from(MIDDLE);
    bytes(s, x, to, (scale, middle), (middle - HEAVIEST, middle + HEAVIEST));
    // To add 128 to a byte is its own reverse.
    to.iter_mut().for_each(|byte| *byte ^= MIDDLE);
    scale
}

/// Rounds `x / scale + zero`, bounded; what is left of `to` becomes `zero`.
#[inline(always)]
fn bytes<S: Simd>(s: S, x: &[f32], to: &mut [u8], (scale, zero): (f32, f32), (least, most): (f32, f32)) {
    assert!(to.len() >= x.len());
    let whole = x.len() / S::LANES * S::LANES;
    let (inverse, shift) = (s.splat(1.0 / scale), s.splat(zero));
    let rounded = |v: S::F| s.min(s.splat(most), s.max(s.splat(least), s.fma(v, inverse, shift)));
    for i in (0..whole).step_by(S::LANES) {
        // SAFETY: `i + LANES` is no more than either length.
        unsafe { s.store_byte(to.as_mut_ptr().add(i), rounded(s.load(x.as_ptr().add(i)))) };
    }
    let (mut last, rest) = ([0; MAX_LANES], x.len() - whole);
    // SAFETY: `rest` floats are left, and `last` has room for a vector.
    unsafe { s.store_byte(last.as_mut_ptr(), rounded(s.load_part(x.as_ptr().add(whole), rest, 0.0))) };
    to[whole..x.len()].copy_from_slice(&last[..rest]);
    to[x.len()..].fill(zero as u8);
}

/// `out` = `end(a w + bias)`, for the outputs from panel `panel` on, as many as `out` has columns.
pub(super) struct Product<'a> {
    pub(super) w: &'a Packed,
    pub(super) panel: usize,
    pub(super) a: Operand<'a>,
    pub(super) out: Tile<'a>,
    pub(super) end: End,
}

impl Kernel for Product<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { w, panel, a, ref out, .. } = self;
        let (rows, columns) = (out.rows(), out.columns());
        if rows == 0 || columns == 0 {
            return;
        }
        assert!(rows <= a.rows && panel * w.width() + columns <= w.shape.outputs && w.width() == 2 * S::LANES);
        match w.format {
            Format::F32 => self.strips::<S, F32>(s),
            Format::Bf16 => self.strips::<S, Bf16>(s),
            Format::Int8 => {
                assert!(rows * SCALE <= a.scales.len());
                self.strips::<S, Int8>(s);
            }
        }
    }
}

/// Bytes of weights that strips of rows go by at a time: a good part of a second-level cache.
const BLOCK: usize = 512 << 10;

/// The most sums of a tile.
pub(super) const SUMS: usize = MATRIX_ROWS * 2 * MAX_LANES;

impl Product<'_> {
    #[inline(always)]
    fn strips<S: Simd, D: Dot>(mut self, s: S) {
        let (width, rows) = (2 * S::LANES, self.out.rows());
        let panels = self.out.columns().div_ceil(width);
        let words = self.w.words() * D::words::<S>();
        assert!((rows - 1) * self.a.row + (self.w.shape.taps - 1) * self.a.tap + words <= self.a.words.len());
        if S::MATRIX && !D::WORDS_ARE_FLOATS && self.w.words().is_multiple_of(MATRIX_WORDS) {
            return self.matrix::<S, D>(s, panels);
        }
        let (w, a) = (self.w, self.a);
        let of_panel = w.panel_words();
        // Few rows are done by four panels at a time.
        let block = (BLOCK / (4 * of_panel).max(1)).max(if rows < S::ROWS { 4 } else { 1 });
        let mut sums = [0.0; SUMS];
        for from in (0..panels).step_by(block) {
            let to = (from + block).min(panels);
            let mut row = 0;
            while row < rows {
                // Of as many sums, those that are less high and wider take fewer loads. But where weights come from memory, each
                // should meet as many rows as can be.
                let (m, most) = match tile_of::<S, D>(rows - row) {
                    (12, 1) if to - from > 1 && row > 0 => (6, 2),
                    size => size,
                };
                let (ahead, taps) = (ahead_of(row == 0, m), w.shape.taps);
                let steps = Steps { row: a.row, tap: a.tap, taps, words: w.words(), panel: of_panel, ahead };
                let mut panel = from;
                while panel < to {
                    let p = if panel + most <= to { most } else { 1 };
                    let at = (self.panel + panel) * of_panel;
                    debug_assert!(at + p * of_panel <= w.panels().len());
                    debug_assert!((row + m - 1) * a.row + (w.shape.taps - 1) * a.tap + words <= a.words.len());
                    debug_assert!(m * p * width <= SUMS);
                    self.ask((row, m), (panel * width, p * width));
                    // SAFETY: as asserted here and in `run`.
                    unsafe {
                        let (a, b) = (a.words.as_ptr().add(row * a.row), w.panels().as_ptr().add(at));
                        tile::<S, D>(s, (m, p), a, b, steps, sums.as_mut_ptr(), p * width);
                    }
                    self.finish::<S, D>(s, (row, m), (panel, p), &sums);
                    panel += p;
                }
                row += m;
            }
        }
    }

    /// Asks for what the results of a tile will be added to, which is there when its sums are.
    #[inline(always)]
    fn ask(&mut self, (row, rows): (usize, usize), (column, columns): (usize, usize)) {
        if self.end.add {
            for r in row..row + rows {
                for c in (column..(column + columns).min(self.out.columns())).step_by(LINE / size_of::<f32>()) {
                    prefetch(self.out.at(r, c));
                }
            }
        }
    }

    /// The strips of a matrix unit, which does more rows at a time. All rows are its work, however few, as its sums add in an
    /// order of their own.
    #[inline(always)]
    fn matrix<S: Simd, D: Dot>(&mut self, s: S, panels: usize) {
        let (w, a, rows, width) = (self.w, self.a, self.out.rows(), 2 * S::LANES);
        let of_panel = w.panel_words();
        let block = (BLOCK / (4 * of_panel).max(1)).max(4);
        let (mut sums, mut ready) = ([0.0; SUMS], 0);
        for from in (0..panels).step_by(block) {
            for row in (0..rows).step_by(MATRIX_ROWS) {
                let count = MATRIX_ROWS.min(rows - row);
                if ready != count {
                    // SAFETY: there is such a unit, and its end comes below.
                    unsafe { s.matrix_begin(count) };
                    ready = count;
                }
                for panel in from..(from + block).min(panels) {
                    let at = (self.panel + panel) * of_panel;
                    debug_assert!(at + of_panel <= w.panels().len());
                    debug_assert!((row + count - 1) * a.row + (w.shape.taps - 1) * a.tap + w.words() <= a.words.len());
                    // SAFETY: as asserted here, in `strips` and in `run`; `SUMS` is what the unit makes at most.
                    unsafe {
                        let (from, b) = (a.words.as_ptr().add(row * a.row), w.panels().as_ptr().add(at));
                        let (int8, taps, words) = (D::INT8, w.shape.taps, w.words());
                        let m = Matrix { int8, rows: count, a: from, row: a.row, tap: a.tap, taps, words, b };
                        s.matrix_sum(m, sums.as_mut_ptr(), width);
                    }
                    self.finish::<S, D>(s, (row, count), (panel, 1), &sums);
                }
            }
        }
        // SAFETY: begun above: there are rows and panels.
        unsafe { s.matrix_end() };
    }

    /// Stores the sums `[count, panels * width]` of rows from `row` and panels from `panel` on.
    #[inline(always)]
    fn finish<S: Simd, D: Dot>(
        &mut self,
        s: S,
        (row, count): (usize, usize),
        (panel, panels): (usize, usize),
        sums: &[f32; SUMS],
    ) {
        let (w, a, width) = (self.w, self.a, 2 * S::LANES);
        let column = panel * width;
        let columns = (panels * width).min(self.out.columns() - column);
        let from = self.panel * width + column;
        debug_assert!(count * panels * width <= SUMS);
        let end = self.end;
        for c in (0..columns).step_by(S::LANES) {
            let lanes = S::LANES.min(columns - c);
            let (mut total, mut scale) = (s.splat(0.0), s.splat(1.0));
            // SAFETY: per-output values are padded to whole panels.
            let bias = unsafe {
                if D::INT8 {
                    (total, scale) = (s.load(w.total().as_ptr().add(from + c)), s.load(w.scale().as_ptr().add(from + c)));
                }
                s.load(w.bias().as_ptr().add(from + c))
            };
            for r in 0..count {
                let to = self.out.at(row + r, column + c);
                // SAFETY: the sums of `count` rows are there, and of the output `lanes` values are left.
                unsafe {
                    let v = s.load(sums.as_ptr().add(r * panels * width + c));
                    let v = if D::INT8 {
                        let (one, zero) = (a.scales[SCALE * (row + r)], a.scales[SCALE * (row + r) + 1]);
                        // Each input is too large by what stands for zero.
                        s.mul(s.mul(s.fma(s.splat(-zero), total, s.whole(s.words(v))), scale), s.splat(one))
                    } else {
                        v
                    };
                    end.store(s, s.add(v, bias), to, lanes);
                }
            }
        }
    }
}

/// How inputs and a vector of words of weights add to a sum.
pub(super) trait Dot {
    const INT8: bool = false;
    const WORDS_ARE_FLOATS: bool = false;
    type Sum<S: Simd>: Copy;

    /// Words of inputs that meet a word of weights.
    #[inline(always)]
    fn words<S: Simd>() -> usize {
        1
    }

    fn zero<S: Simd>(s: S) -> Self::Sum<S>;

    /// # Safety
    /// So many words can be read at `a`.
    unsafe fn add<S: Simd>(s: S, sum: Self::Sum<S>, a: *const u32, b: S::I) -> Self::Sum<S>;

    /// Its bits, as floats.
    fn bits<S: Simd>(s: S, sum: Self::Sum<S>) -> S::F;
}

pub(super) struct F32;
pub(super) struct Bf16;
pub(super) struct Int8;

impl Dot for F32 {
    const WORDS_ARE_FLOATS: bool = true;
    type Sum<S: Simd> = S::F;

    #[inline(always)]
    fn zero<S: Simd>(s: S) -> S::F {
        s.splat(0.0)
    }

    #[inline(always)]
    unsafe fn add<S: Simd>(s: S, sum: S::F, a: *const u32, b: S::I) -> S::F {
        // SAFETY: the caller's promise.
        s.fma(s.splat(f32::from_bits(unsafe { *a })), s.floats(b), sum)
    }

    #[inline(always)]
    fn bits<S: Simd>(_: S, sum: S::F) -> S::F {
        sum
    }
}

impl Dot for Bf16 {
    type Sum<S: Simd> = S::F;

    #[inline(always)]
    fn zero<S: Simd>(s: S) -> S::F {
        s.splat(0.0)
    }

    #[inline(always)]
    unsafe fn add<S: Simd>(s: S, sum: S::F, a: *const u32, b: S::I) -> S::F {
        // SAFETY: the caller's promise.
        s.dot_bf16(sum, s.splat_word(unsafe { *a }), b)
    }

    #[inline(always)]
    fn bits<S: Simd>(_: S, sum: S::F) -> S::F {
        sum
    }
}

impl Dot for Int8 {
    const INT8: bool = true;
    type Sum<S: Simd> = S::I;

    #[inline(always)]
    fn words<S: Simd>() -> usize {
        S::BYTE_WORDS
    }

    #[inline(always)]
    fn zero<S: Simd>(s: S) -> S::I {
        s.splat_word(0)
    }

    #[inline(always)]
    unsafe fn add<S: Simd>(s: S, sum: S::I, a: *const u32, b: S::I) -> S::I {
        // SAFETY: the caller's promise.
        unsafe { s.dot_i8(sum, a, b) }
    }

    #[inline(always)]
    fn bits<S: Simd>(s: S, sum: S::I) -> S::F {
        s.floats(sum)
    }
}

/// Distances in words.
#[derive(Clone, Copy)]
pub(super) struct Steps {
    /// From a row of inputs to the next, and from a tap's inputs to the next's.
    pub(super) row: usize,
    pub(super) tap: usize,
    pub(super) taps: usize,
    /// Words of a tap's weights.
    pub(super) words: usize,
    /// From a panel of weights to the next.
    pub(super) panel: usize,
    /// To the weights that are asked for before it is their turn, or 0 for none.
    pub(super) ahead: usize,
}

/// How far ahead a strip of `rows` asks for its weights, in words. The first one brings them into the cache for those behind it,
/// and has the time to ask for much. One or two rows pass as fast as memory can give: they only ask for what the processor does
/// not by itself, which looks ahead within a page of 4 KiB.
#[inline(always)]
pub(super) fn ahead_of(first: bool, rows: usize) -> usize {
    match (first, rows) {
        (false, _) => 0,
        (true, ..=2) => 512,
        (true, _) => 8192,
    }
}

/// How many rows, of so many that are left, make a tile, and by how many panels.
#[inline(always)]
pub(super) fn tile_of<S: Simd, D: Dot>(left: usize) -> (usize, usize) {
    match left {
        12.. if S::ROWS >= 12 => (12, 1),
        8.. if S::ROWS >= 8 => (8, 1),
        // What is made of two bf16 before they are multiplied takes registers: where these are few, six rows' sums leave none.
        6.. if S::ROWS >= 8 || (S::ROWS >= 6 && (D::WORDS_ARE_FLOATS || D::INT8)) => (6, 1),
        4.. if S::ROWS >= 12 => (4, 2),
        4.. if S::ROWS >= 4 => (4, 1),
        2.. if S::ROWS >= 12 => (2, 4),
        2.. => (2, 2),
        _ => (1, 4),
    }
}

/// The sums of a tile of one of the sizes that [`tile_of`] gives, of six rows by two panels, or of one panel only, row by row, `to_row` apart.
///
/// # Safety
/// As for [`sum`].
#[inline(always)]
pub(super) unsafe fn tile<S: Simd, D: Dot>(
    s: S,
    size: (usize, usize),
    a: *const u32,
    b: *const u32,
    steps: Steps,
    to: *mut f32,
    to_row: usize,
) {
    // SAFETY: the caller's promise. Sizes that this instruction set does not have are not compiled for it.
    unsafe {
        match size {
            (12, _) if S::ROWS >= 12 => sum::<S, D, 12, 1>(s, a, b, steps, to, to_row),
            (8, _) if S::ROWS >= 8 => sum::<S, D, 8, 1>(s, a, b, steps, to, to_row),
            (6, 2) if S::ROWS >= 12 => sum::<S, D, 6, 2>(s, a, b, steps, to, to_row),
            (6, _) if S::ROWS >= 6 => sum::<S, D, 6, 1>(s, a, b, steps, to, to_row),
            (4, 2) if S::ROWS >= 12 => sum::<S, D, 4, 2>(s, a, b, steps, to, to_row),
            (4, _) if S::ROWS >= 4 => sum::<S, D, 4, 1>(s, a, b, steps, to, to_row),
            (2, 4) if S::ROWS >= 12 => sum::<S, D, 2, 4>(s, a, b, steps, to, to_row),
            (2, 2) => sum::<S, D, 2, 2>(s, a, b, steps, to, to_row),
            (2, _) => sum::<S, D, 2, 1>(s, a, b, steps, to, to_row),
            (1, 4) => sum::<S, D, 1, 4>(s, a, b, steps, to, to_row),
            _ => {
                debug_assert_eq!(size, (1, 1));
                sum::<S, D, 1, 1>(s, a, b, steps, to, to_row);
            }
        }
    }
}

/// The most rows of a tile.
const MAX_ROWS: usize = 12;

/// Rows that share a pointer.
const THREE: usize = 3;

/// Inputs of a round of the innermost loop.
const UNROLLED: usize = 4;

/// The sums of `M` rows at `a` by `P` panels at `b`, row by row, `to_row` apart.
///
/// # Safety
/// All that `steps` leads to from `a` and from `b` can be read, and `M` rows of `P` panels' width can be written at `to`.
#[inline(always)]
unsafe fn sum<S: Simd, D: Dot, const M: usize, const P: usize>(
    s: S,
    a: *const u32,
    b: *const u32,
    steps: Steps,
    to: *mut f32,
    to_row: usize,
) {
    let width = 2 * S::LANES;
    let mut acc = [[[D::zero(s); 2]; P]; M];
    let mut b = b;
    for tap in 0..steps.taps {
        // A pointer for three rows, which are then it plus once and twice the distance: what an address can say. The compiler
        // is not told that they belong together, or it would make one for each row, and run out of registers.
        let mut rows: Threes = [a; MAX_ROWS / THREE];
        for (i, three) in rows.iter_mut().enumerate().take(M.div_ceil(THREE)) {
            // SAFETY: the caller's promise, here and in the loops.
            *three = black_box(unsafe { a.add(tap * steps.tap + i * THREE * steps.row) });
        }
        let mut left = steps.words;
        while left >= UNROLLED {
            if steps.ahead > 0 {
                for p in 0..P {
                    for at in (0..UNROLLED * width).step_by(LINE / size_of::<u32>()) {
                        prefetch(b.wrapping_add(p * steps.panel + steps.ahead + at));
                    }
                }
            }
            for i in 0..UNROLLED {
                // SAFETY: as above.
                unsafe { step::<S, D, M, P>(s, &rows, b, steps, i, &mut acc) };
            }
            // They may end behind what can be read.
            rows = rows.map(|three| three.wrapping_add(UNROLLED * D::words::<S>()));
            b = b.wrapping_add(UNROLLED * width);
            left -= UNROLLED;
        }
        for i in 0..left {
            // SAFETY: as above.
            unsafe { step::<S, D, M, P>(s, &rows, b, steps, i, &mut acc) };
        }
        b = b.wrapping_add(left * width);
    }
    for (r, acc) in acc.iter().enumerate() {
        for (p, acc) in acc.iter().enumerate() {
            for (h, acc) in acc.iter().enumerate() {
                // SAFETY: as above.
                unsafe { s.store(to.add(r * to_row + p * width + h * S::LANES), D::bits(s, *acc)) };
            }
        }
    }
}

/// Where the rows of a tile are, by threes.
type Threes = [*const u32; MAX_ROWS / THREE];

/// Adds input `i` of each of the rows times its weights.
///
/// # Safety
/// As for [`sum`].
#[inline(always)]
unsafe fn step<S: Simd, D: Dot, const M: usize, const P: usize>(
    s: S,
    rows: &Threes,
    b: *const u32,
    steps: Steps,
    i: usize,
    acc: &mut [[[D::Sum<S>; 2]; P]; M],
) {
    let mut weights = [[s.splat_word(0); 2]; P];
    for (p, pair) in weights.iter_mut().enumerate() {
        for (h, half) in pair.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *half = unsafe { s.load_words(b.add(p * steps.panel + (2 * i + h) * S::LANES)) };
        }
    }
    for (r, acc) in acc.iter_mut().enumerate() {
        // SAFETY: as above.
        unsafe {
            let x = rows[r / THREE].add(r % THREE * steps.row + i * D::words::<S>());
            for (acc, weights) in acc.iter_mut().zip(&weights) {
                acc[0] = D::add(s, acc[0], x, weights[0]);
                acc[1] = D::add(s, acc[1], x, weights[1]);
            }
        }
    }
}
