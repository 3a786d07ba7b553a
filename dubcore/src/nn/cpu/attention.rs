//! Attention over cached keys and values.
//!
//! Keys and values are packed like weights ([`super::pack`]): keys as outputs whose inputs are the head's channels, values as
//! outputs (the channels) whose inputs are the keys. So scores and the mix of values are products as in [`super::gemm`]. A
//! few rows of queries are done at a time, by head: their scores stay in the cache, and the matrix of all scores never exists.
//!
//! A cache has room for a number of keys from the start. The beams of a search share one: each step writes one key per beam,
//! side by side, and a table says whose key of each step a beam goes on from. When beams trade places only the table changes.

use super::Cpu;
use super::arena::{Arena, Buffer, Lent, cast, cast_mut};
use super::gemm::{Act, Bf16, Dot, F32, SUMS, Steps, ahead_of, tile, tile_of, to_bf16};
use super::norm::{exponentials, exponentials_bf16, largest};
use super::pack::{Fill, Format};
use super::simd::{Isa, Kernel, MATRIX_ROWS, MATRIX_WORDS, Matrix, Simd, bf16};
use super::tile::{Rows, Tile};

/// Keys and values of several sequences.
pub(crate) struct KvCache {
    isa: Isa,
    format: Format,
    heads: usize,
    /// Channels of a head.
    head: usize,
    /// Keys of a sequence, a whole number of panels.
    room: usize,
    /// By sequence and head: panels of keys, `[head, width]`.
    keys: Buffer,
    /// By sequence and head: panels of channels, `[room, width]`.
    values: Buffer,
    sequences: usize,
}

/// What the queries of some rows see.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seen<'a> {
    /// The first so many keys.
    First(usize),
    /// The last row so many keys, each row before one less.
    Causal(usize),
    /// Of each step's keys, one for each of `beams`, that of the beam in the row's own part of the table, `[rows, steps]`, up to
    /// the first [`UNSEEN`].
    Path { table: &'a [u8], beams: usize },
}

/// What a row does not see in its path.
pub(crate) const UNSEEN: u8 = u8::MAX;

/// Rows of queries that belong to one sequence of the cache.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queries<'a> {
    pub(crate) rows: usize,
    pub(crate) sequence: usize,
    pub(crate) seen: Seen<'a>,
}

impl KvCache {
    /// Room for `room` keys of each of `sequences`. Int8 is held as bf16.
    pub(crate) fn new(isa: Isa, format: Format, shape: (usize, usize, usize), room: usize) -> Self {
        let mut cache = Self::plan(isa, format, shape, room);
        let heads = cache.sequences * cache.heads;
        cache.keys = Buffer::new::<u32>(heads * cache.key_words());
        cache.values = Buffer::new::<u32>(heads * cache.value_words());
        cache
    }

    /// How many f32 would take the memory of such a cache.
    pub(crate) fn floats(isa: Isa, format: Format, shape: (usize, usize, usize), room: usize) -> usize {
        let cache = Self::plan(isa, format, shape, room);
        cache.sequences * cache.heads * (cache.key_words() + cache.value_words())
    }

    /// A cache without its memory.
    fn plan(isa: Isa, format: Format, (sequences, heads, head): (usize, usize, usize), room: usize) -> Self {
        let format = if format == Format::F32 { Format::F32 } else { Format::Bf16 };
        let room = room.next_multiple_of(2 * isa.lanes());
        Self { isa, format, heads, head, room, keys: Buffer::default(), values: Buffer::default(), sequences }
    }

    fn width(&self) -> usize {
        2 * self.isa.lanes()
    }

    /// Words of a head's keys.
    fn key_words(&self) -> usize {
        self.room * self.format.words(self.head)
    }

    /// Words of a head's values.
    fn value_words(&self) -> usize {
        self.head.next_multiple_of(self.width()) * self.format.words(self.room)
    }

    /// Keys that there is room for.
    pub(crate) fn room(&self) -> usize {
        self.room
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.keys.bytes() + self.values.bytes()
    }

    /// Writes key `at` of a sequence, and its value: rows of all heads' channels.
    pub(crate) fn write(&mut self, sequence: usize, at: usize, key: &[f32], value: &[f32]) {
        assert!(sequence < self.sequences && at < self.room && key.len() == self.heads * self.head && value.len() == key.len());
        let (key_words, value_words) = (self.key_words(), self.value_words());
        let place = Place { format: self.format, width: self.width(), head: self.head, room: self.room };
        let first = sequence * self.heads;
        let keys = self.keys.as_mut::<u32>()[first * key_words..].chunks_exact_mut(key_words);
        let values = self.values.as_mut::<u32>()[first * value_words..].chunks_exact_mut(value_words);
        for (((keys, values), key), value) in keys.zip(values).zip(key.chunks_exact(self.head)).zip(value.chunks_exact(self.head))
        {
            for (c, (k, v)) in key.iter().zip(value).enumerate() {
                place.put(keys, place.key(at, c), *k);
                place.put(values, place.value(at, c), *v);
            }
        }
    }

    /// Writes the first keys and values of a sequence, as many as there are rows.
    pub(crate) fn fill(&mut self, cpu: &Cpu, sequence: usize, keys: Rows<'_>, values: Rows<'_>) {
        let channels = self.heads * self.head;
        assert!(sequence < self.sequences && keys.len() <= self.room && keys.columns() == channels);
        assert_eq!((keys.len(), channels), (values.len(), values.columns()));
        let (key_words, value_words) = (self.key_words(), self.value_words());
        let (isa, format, arena) = (self.isa, self.format, &cpu.arena);
        let (first, heads, head, width) = (sequence * self.heads, self.heads, self.head, self.width());
        let to = &mut self.keys.as_mut::<f32>()[first * key_words..][..heads * key_words];
        let per_row = format.words(head);
        cpu.team.each_rows(Tile::dense(to, key_words), 1, |h, mut to| {
            let (keys, mut words) = (of_head(&keys, h, head), arena.lend::<u32>(width * per_row));
            let to: &mut [u32] = cast_mut(to.row(0));
            for (p, to) in to.chunks_exact_mut(per_row * width).enumerate().take(keys.len().div_ceil(width)) {
                let from = keys.slice(p * width, width);
                isa.run(Fill { format, taps: 1, from, words: &mut words, to, scales: &mut [], totals: &mut [] });
            }
        });
        let to = &mut self.values.as_mut::<f32>()[first * value_words..][..heads * value_words];
        let of_panel = format.words(self.room) * width;
        cpu.team.each_rows(Tile::dense(to, value_words), 1, |h, mut to| {
            let (values, mut words) = (of_head(&values, h, head), arena.lend::<u32>(2 * per_row));
            isa.run(FillValues { format, values, words: &mut words, to: cast_mut(to.row(0)), of_panel });
        });
    }

    /// Copies the first `keys` keys and values of each sequence into another cache, each to its place there.
    pub(crate) fn copy(&self, keys: usize, to: &mut Self, place: impl Fn(usize) -> usize) {
        assert_eq!((self.format, self.heads, self.head, self.sequences), (to.format, to.heads, to.head, to.sequences));
        assert!(keys <= self.room && (0..keys).all(|t| place(t) < to.room));
        let place_in = |c: &Self| Place { format: c.format, width: c.width(), head: c.head, room: c.room };
        let (here, there) = (place_in(self), place_in(to));
        let sizes = (self.key_words(), to.key_words(), self.value_words(), to.value_words());
        let from = (self.keys.as_slice::<u32>(), self.values.as_slice::<u32>());
        for h in 0..self.sequences * self.heads {
            for c in 0..self.head {
                for t in 0..keys {
                    let key = here.get(&from.0[h * sizes.0..], here.key(t, c));
                    there.put(&mut to.keys.as_mut()[h * sizes.1..], there.key(place(t), c), key);
                    let value = here.get(&from.1[h * sizes.2..], here.value(t, c));
                    there.put(&mut to.values.as_mut()[h * sizes.3..], there.value(place(t), c), value);
                }
            }
        }
    }

    /// `out` from queries `q`, both `[rows, heads * head]`, which come in the order of `queries`, and have been scaled by one
    /// over the root of a head's channels (best by their projection's weights).
    pub(crate) fn attend(&self, cpu: &Cpu, q: Rows<'_>, queries: &[Queries<'_>], out: Tile<'_>) {
        let rows: usize = queries.iter().map(|q| q.rows).sum();
        assert_eq!((rows, self.heads * self.head), (q.len(), q.columns()));
        assert_eq!((rows, q.columns()), (out.rows(), out.columns()));
        assert!(queries.iter().all(|q| q.sequence < self.sequences && q.seen.keys(q.rows) <= self.room));
        let arena = &cpu.arena;
        let one = |queries: &Queries<'_>, q: Rows<'_>, first: usize, h: usize, out: Tile<'_>, scratch: &mut Scratch<'_>| {
            self.isa.run(Attend { cache: self, scratch, queries, first, head: h, q, out });
        };
        if queries.iter().all(|q| q.rows <= BLOCK) {
            // A decoder's step: a head of all sequences at a time.
            cpu.team.each_columns(out, self.head, |h, out| {
                let (out, mut scratch) = (out.shared(), Scratch::new(arena, self, queries));
                let mut first = 0;
                for queries in queries {
                    // SAFETY: each piece has rows of its own.
                    let out = unsafe { out.piece(first, queries.rows, 0, usize::MAX) };
                    one(queries, q.slice(first, queries.rows), 0, h, out, &mut scratch);
                    first += queries.rows;
                }
            });
            return;
        }
        let (out, mut first) = (out.shared(), 0);
        for queries in queries {
            let q = q.slice(first, queries.rows);
            // SAFETY: as above.
            let out = unsafe { out.piece(first, queries.rows, 0, usize::MAX) };
            cpu.team.each_piece(out, (BLOCK, self.head), |b, h, out| {
                let mut scratch = Scratch::new(arena, self, std::slice::from_ref(queries));
                one(queries, q.slice(b * BLOCK, BLOCK), b * BLOCK, h, out, &mut scratch);
            });
            first += queries.rows;
        }
    }
}

/// The channels of head `h`, of `head` each.
fn of_head<'a>(x: &Rows<'a>, h: usize, head: usize) -> Rows<'a> {
    let from = (h * head).min(x.values().len());
    Rows::new(&x.values()[from..], x.len(), head, x.stride())
}

/// Fills a head's panels of channels.
struct FillValues<'a> {
    format: Format,
    values: Rows<'a>,
    /// Room for two of those as words.
    words: &'a mut [u32],
    to: &'a mut [u32],
    of_panel: usize,
}

impl Kernel for FillValues<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (width, head) = (2 * S::LANES, self.values.columns());
        let (first, second) = self.words.split_at_mut(self.words.len() / 2);
        let (first, second): (&mut [u16], &mut [u16]) = (cast_mut(first), cast_mut(second));
        // A value is a row of each panel, or half the words of one.
        for t in (0..self.values.len()).step_by(self.format.per_word()) {
            let at = t / self.format.per_word() * width;
            if self.format != Format::F32 {
                to_bf16(s, self.values.row(t), Act::None, first);
                match t + 1 < self.values.len() {
                    true => to_bf16(s, self.values.row(t + 1), Act::None, second),
                    false => second.fill(0),
                }
            }
            for (panel, from) in self.to.chunks_exact_mut(self.of_panel).zip((0..head).step_by(width)) {
                let to = panel[at..][..width].iter_mut();
                if self.format == Format::F32 {
                    to.zip(&self.values.row(t)[from..]).for_each(|(to, v)| *to = v.to_bits());
                } else {
                    let both = first[from..head].iter().zip(&second[from..head]);
                    to.zip(both).for_each(|(to, (a, b))| *to = u32::from(*a) | u32::from(*b) << 16);
                }
            }
        }
    }
}

/// Rows of queries that one thread does at a time.
const BLOCK: usize = 96;

impl Seen<'_> {
    /// All keys that the last of `rows` may see.
    fn keys(&self, rows: usize) -> usize {
        match self {
            Self::First(n) | Self::Causal(n) => *n,
            Self::Path { beams, .. } => self.steps(rows) * beams,
        }
    }

    /// The length of each path of `rows`.
    fn steps(&self, rows: usize) -> usize {
        if let Self::Path { table, .. } = self { table.len() / rows.max(1) } else { 0 }
    }
}

/// Where numbers are in a head's part of the cache, counted in numbers.
#[derive(Clone, Copy)]
struct Place {
    format: Format,
    width: usize,
    head: usize,
    room: usize,
}

impl Place {
    /// Channel `c` of key `t`.
    fn key(self, t: usize, c: usize) -> usize {
        self.at(t, c, self.head)
    }

    /// Channel `c` of the value of key `t`.
    fn value(self, t: usize, c: usize) -> usize {
        self.at(c, t, self.room)
    }

    /// The weight of input `i`, of `inputs`, for output `o`.
    fn at(self, o: usize, i: usize, inputs: usize) -> usize {
        let per = self.format.per_word();
        let panel = o / self.width * self.format.words(inputs) * self.width;
        (panel + i / per * self.width + o % self.width) * per + i % per
    }

    fn get(self, words: &[u32], at: usize) -> f32 {
        match self.format {
            Format::F32 => f32::from_bits(words[at]),
            _ => f32::from_bits(u32::from(cast::<u32, u16>(words)[at ^ usize::from(cfg!(target_endian = "big"))]) << 16),
        }
    }

    #[inline(always)]
    fn put(self, words: &mut [u32], at: usize, v: f32) {
        match self.format {
            Format::F32 => words[at] = v.to_bits(),
            // Halves of a word in memory order: the lower one first.
            _ => cast_mut::<u32, u16>(words)[at ^ usize::from(cfg!(target_endian = "big"))] = bf16(v),
        }
    }
}

/// Memory for the rows of any of some queries that are done at a time.
struct Scratch<'a> {
    scores: Lent<'a, f32>,
    /// Queries as words, where they are not floats.
    words: Lent<'a, u32>,
    /// Scores of a path alone.
    path: Lent<'a, f32>,
}

impl<'a> Scratch<'a> {
    fn new(arena: &'a Arena, cache: &KvCache, queries: &[Queries<'_>]) -> Self {
        let most = |of: fn(&Queries<'_>) -> usize| queries.iter().map(of).max().unwrap_or(0);
        let rows = most(|q| q.rows).min(MATRIX_ROWS);
        let words = if cache.format == Format::F32 { 0 } else { rows * cache.format.words(cache.head) };
        Self {
            scores: arena.lend(rows * most(|q| q.seen.keys(q.rows)).next_multiple_of(cache.width())),
            words: arena.lend(words),
            path: arena.lend(most(|q| q.seen.steps(q.rows))),
        }
    }
}

/// Some rows of queries of one sequence and head.
struct Attend<'a, 'b> {
    cache: &'a KvCache,
    scratch: &'a mut Scratch<'b>,
    queries: &'a Queries<'a>,
    /// The number of its first row among `queries`.
    first: usize,
    head: usize,
    /// Rows of all heads.
    q: Rows<'a>,
    /// This head's columns.
    out: Tile<'a>,
}

impl Kernel for Attend<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.cache.format {
            Format::F32 => self.blocks::<S, F32>(s),
            _ => self.blocks::<S, Bf16>(s),
        }
    }
}

impl Attend<'_, '_> {
    #[inline(always)]
    fn blocks<S: Simd, D: Dot>(mut self, s: S) {
        let rows = self.out.rows();
        let mut row = 0;
        if S::MATRIX && !D::WORDS_ARE_FLOATS && self.cache.format.words(self.cache.head).is_multiple_of(MATRIX_WORDS) {
            while row < rows {
                row += self.block::<S, D>(s, row, MATRIX_ROWS.min(rows - row), 0);
            }
            return;
        }
        while row < rows {
            let (m, panels) = tile_of::<S, D>(rows - row);
            row += self.block::<S, D>(s, row, m, panels);
        }
    }

    /// `m` rows, whose scores are made of `most` panels of keys at a time, or, if that is 0, by a matrix unit. Returns `m`.
    #[inline(always)]
    fn block<S: Simd, D: Dot>(&mut self, s: S, row: usize, m: usize, most: usize) -> usize {
        let unit = S::MATRIX && most == 0;
        let (cache, width) = (self.cache, 2 * S::LANES);
        let number = self.first + row;
        let keys = match self.queries.seen {
            // The last of these rows sees the most.
            Seen::Causal(n) => (n + number + m).saturating_sub(self.queries.rows),
            seen => seen.keys(self.queries.rows),
        };
        // A whole number of panels, each of which is multiplied, and then of words.
        let stride = keys.next_multiple_of(width);
        let of_query = cache.format.words(cache.head);
        let Scratch { scores, words: rounded, path } = &mut *self.scratch;
        let scores = &mut scores[..m * stride];
        let q = self.q.slice(row, m);
        let channels = |r: usize| &q.row(r)[self.head * cache.head..][..cache.head];
        let (query, query_row): (&[u32], usize) = if D::WORDS_ARE_FLOATS {
            (&cast(q.values())[self.head * cache.head..], q.stride())
        } else {
            let rounded = &mut rounded[..m * of_query];
            for (r, to) in rounded.chunks_exact_mut(of_query).enumerate() {
                to_bf16(s, channels(r), Act::None, cast_mut(to));
            }
            (rounded, of_query)
        };
        debug_assert!((m - 1) * query_row + of_query <= query.len());
        let at = self.queries.sequence * cache.heads + self.head;
        let packed = &cache.keys.as_slice::<u32>()[at * cache.key_words()..][..cache.key_words()];
        let ahead = ahead_of(row == 0, m);
        let steps = Steps { row: query_row, tap: 0, taps: 1, words: of_query, panel: of_query * width, ahead };
        let (mut panel, panels) = (0, stride / width);
        let matrix = |steps: Steps, a: *const u32, b: *const u32| {
            let Steps { row, tap, taps, words, .. } = steps;
            Matrix { int8: false, rows: m, a, row, tap, taps, words, b }
        };
        if unit {
            // SAFETY: there is such a unit, and its end comes below.
            unsafe { s.matrix_begin(m) };
        }
        debug_assert!(panels * steps.panel <= packed.len());
        while panel < panels {
            let (b, to) = (packed[panel * steps.panel..].as_ptr(), scores[panel * width..].as_mut_ptr());
            // SAFETY: `panels` panels lie in the keys, and their scores in `scores`, `m` rows of `stride`.
            unsafe {
                if unit {
                    s.matrix_sum(matrix(steps, query.as_ptr(), b), to, stride);
                    panel += 1;
                } else {
                    let p = if panel + most <= panels { most } else { 1 };
                    tile::<S, D>(s, (m, p), query.as_ptr(), b, steps, to, stride);
                    panel += p;
                }
            }
        }
        let mut shares = [0.0; MATRIX_ROWS];
        for (r, (scores, share)) in scores.chunks_exact_mut(stride.max(1)).zip(&mut shares).enumerate() {
            *share = weigh::<S, D>(s, (self.queries, number + r), keys, scores, path);
        }
        let packed = &cache.values.as_slice::<u32>()[at * cache.value_words()..][..cache.value_words()];
        let panel = cache.format.words(cache.room) * width;
        // A matrix unit takes whole tiles; the weights behind the last key are zero.
        let words = cache.format.words(if unit { stride } else { keys });
        let steps = Steps { row: stride, tap: 0, taps: 1, words, panel, ahead };
        debug_assert!(steps.words * width <= panel);
        let weights: &[u32] = cast(scores);
        let mut mixed = [0.0; SUMS];
        for (p, packed) in packed.chunks_exact(panel).enumerate() {
            // SAFETY: a panel has two vectors of channels for each of its words, and `mixed` room for `m` rows of them.
            unsafe {
                if unit {
                    s.matrix_sum(matrix(steps, weights.as_ptr(), packed.as_ptr()), mixed.as_mut_ptr(), width);
                } else {
                    tile::<S, D>(s, (m, 1), weights.as_ptr(), packed.as_ptr(), steps, mixed.as_mut_ptr(), width);
                }
            }
            for r in 0..m {
                let out = &mut self.out.row(row + r)[p * width..];
                out.iter_mut().zip(&mixed[r * width..][..width]).for_each(|(out, mixed)| *out = mixed * shares[r]);
            }
        }
        if unit {
            // SAFETY: begun above.
            unsafe { s.matrix_end() };
        }
        m
    }
}

/// Scores to weights, as words: exponentials for the keys that row `number` of the queries sees, zero for the others. Returns
/// by what the sum of all is 1. `own` has room for a path.
#[inline(always)]
fn weigh<S: Simd, D: Dot>(
    s: S,
    (queries, number): (&Queries<'_>, usize),
    keys: usize,
    scores: &mut [f32],
    own: &mut [f32],
) -> f32 {
    let sees = match queries.seen {
        Seen::First(n) => n,
        Seen::Causal(n) => (n + number + 1).saturating_sub(queries.rows),
        Seen::Path { table, beams } => {
            let steps = queries.seen.steps(queries.rows);
            let path = table[number * steps..][..steps].split(|beam| *beam == UNSEEN).next().unwrap_or_default();
            let own = &mut own[..path.len()];
            for (t, (own, beam)) in own.iter_mut().zip(path).enumerate() {
                *own = scores[t * beams + usize::from(*beam)];
            }
            let max = largest(s, own);
            let sum = exponentials(s, own, max);
            scores.fill(0.0);
            for (t, (own, beam)) in own.iter().zip(path).enumerate() {
                let at = t * beams + usize::from(*beam);
                if D::WORDS_ARE_FLOATS {
                    scores[at] = *own;
                } else {
                    // Halves of a word in memory order.
                    cast_mut::<f32, u16>(scores)[at] = bf16(*own);
                }
            }
            return share(sum);
        }
    };
    debug_assert!(sees <= keys);
    let max = largest(s, &scores[..sees]);
    if !D::WORDS_ARE_FLOATS {
        return share(exponentials_bf16(s, scores, sees, max));
    }
    let sum = exponentials(s, &mut scores[..sees], max);
    scores[sees..].fill(0.0);
    share(sum)
}

/// By what a sum becomes 1, and that of nothing 0.
fn share(sum: f32) -> f32 {
    if sum == 0.0 { 0.0 } else { 1.0 / sum }
}

#[cfg(test)]
mod tests;
