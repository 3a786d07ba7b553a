//! The boxes of MP4 that symphonia does not pass on: codec tags, edit lists, where fragments begin, iTunes' gapless note.

use std::io;

use super::container::{Bytes, MAX_BOXES, bytes, text};

/// Most edits of a track that are looked at.
const MAX_EDITS: u64 = 1 << 10;
/// Most tracks that are looked at.
const MAX_TRACKS: usize = 1 << 10;
/// Fragments among which each track's first one is looked for.
const FIRST_FRAGMENTS: usize = 1 << 10;

/// What an MP4 says about one of its tracks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mp4Track {
    pub(super) id: u32,
    /// The four characters of its codec.
    pub(super) codec: [u8; 4],
    /// ISO 639-2, unless undetermined.
    pub(super) language: Option<String>,
    /// Whether it is meant to be played without being asked for.
    pub(super) enabled: bool,
    /// Ticks per second of the track.
    pub(super) timescale: u32,
    /// Ticks per second of the movie, in which the edits' lengths are.
    pub(super) movie_timescale: u32,
    /// Time before its sound begins, in movie ticks.
    pub(super) empty: u64,
    /// The first tick of the track that is shown, where an edit says so: what comes before is the codec's run-up.
    pub(super) start: Option<u64>,
    /// How long the track is shown, in movie ticks; 0 if not said, or if there are further edits.
    pub(super) length: u64,
    /// Whether the samples are listed in fragments, whose total is not known beforehand.
    pub(super) fragmented: bool,
    /// The tick at which its first fragment begins.
    pub(super) base: Option<u64>,
    /// Nanoseconds that its first fragment is later than the earliest one of all tracks.
    pub(super) behind: u64,
    /// What iTunes wrote down about the whole file.
    pub(super) gapless: Option<Gapless>,
    sound: bool,
}

/// The codec's run-up and the length of what follows it, in frames; the rest is padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gapless {
    pub(super) delay: u64,
    pub(super) frames: u64,
}

/// A box: its type and where its payload is.
#[derive(Clone, Copy)]
struct Mp4Box {
    kind: [u8; 4],
    from: u64,
    to: u64,
}

/// The box at `at`, if a header fits before `end`.
fn box_at(source: &mut dyn Bytes, at: u64, end: u64) -> io::Result<Option<Mp4Box>> {
    let Some([s0, s1, s2, s3, kind @ ..]) = bytes::<8>(source, at, end)? else { return Ok(None) };
    let (header, size) = match u32::from_be_bytes([s0, s1, s2, s3]) {
        // To the end of the file.
        0 => (8, end - at),
        1 => match bytes::<8>(source, at + 8, end)? {
            Some(size) => (16, u64::from_be_bytes(size)),
            None => return Ok(None),
        },
        size => (8, u64::from(size)),
    };
    let to = at.checked_add(size).filter(|_| size >= header);
    Ok(to.map(|to| Mp4Box { kind, from: at + header, to }))
}

/// The boxes of `kind` between `at` and `end`, each handed to `see`, until that says to stop.
fn each(
    source: &mut dyn Bytes,
    mut at: u64,
    end: u64,
    kind: &[u8; 4],
    mut see: impl FnMut(&mut dyn Bytes, Mp4Box) -> io::Result<bool>,
) -> io::Result<()> {
    for _ in 0..MAX_BOXES {
        let Some(b) = box_at(source, at, end)?.filter(|b| b.to <= end) else { break };
        if b.kind == *kind && !see(source, b)? {
            break;
        }
        at = b.to;
    }
    Ok(())
}

/// The first box of `kind` between `at` and `end`.
fn child(source: &mut dyn Bytes, at: u64, end: u64, kind: &[u8; 4]) -> io::Result<Option<Mp4Box>> {
    let mut found = None;
    each(source, at, end, kind, |_, b| {
        found = Some(b);
        Ok(false)
    })?;
    Ok(found)
}

/// The box at the end of a path of kinds.
fn descend(source: &mut dyn Bytes, mut b: Mp4Box, path: &[&[u8; 4]]) -> io::Result<Option<Mp4Box>> {
    for kind in path {
        match child(source, b.from, b.to, kind)? {
            Some(inner) => b = inner,
            None => return Ok(None),
        }
    }
    Ok(Some(b))
}

/// Whether no fragment claims more samples than the file has bytes. The decoder would count through four billion of them.
pub(super) fn runs_fit(source: &mut dyn Bytes, found: u64) -> io::Result<bool> {
    runs_fit_in(source, 0..found, found, 0)
}

fn runs_fit_in(source: &mut dyn Bytes, within: std::ops::Range<u64>, most: u64, depth: usize) -> io::Result<bool> {
    // A fragment holds tracks, and these hold runs: no box in a box in a box without end.
    const NESTING: [&[u8; 4]; 2] = [b"moof", b"traf"];
    let mut at = within.start;
    while let Some(b) = box_at(source, at, within.end)? {
        let end = b.to.min(within.end);
        let fits = match NESTING.get(depth) {
            Some(kind) => b.kind != **kind || runs_fit_in(source, b.from..end, most, depth + 1)?,
            None if b.kind == *b"trun" => {
                bytes::<4>(source, b.from + 4, end)?.is_none_or(|count| u64::from(u32::from_be_bytes(count)) <= most)
            }
            None => true,
        };
        if !fits {
            return Ok(false);
        }
        at = b.to;
    }
    Ok(true)
}

/// The end of the last box that holds media.
pub(super) fn end(source: &mut dyn Bytes, found: u64) -> io::Result<Option<u64>> {
    let mut at = 0;
    for _ in 0..MAX_BOXES {
        let Some(b) = box_at(source, at, found)? else { break };
        // Junk behind the last box is common and harmless; a box of a known kind that is cut is not.
        if b.to > found {
            return Ok([*b"mdat", *b"moov", *b"moof"].contains(&b.kind).then_some(b.to));
        }
        at = b.to;
    }
    Ok(None)
}

/// The sound tracks, in the file's order.
pub(super) fn tracks(source: &mut dyn Bytes, found: u64) -> io::Result<Vec<Mp4Track>> {
    let Some(moov) = child(source, 0, found, b"moov")? else { return Ok(Vec::new()) };
    let movie_timescale = match child(source, moov.from, moov.to, b"mvhd")? {
        Some(mvhd) => timescale(source, &mvhd)?,
        None => 0,
    };
    let fragmented = child(source, moov.from, moov.to, b"mvex")?.is_some();
    let gapless = itunes(source, &moov)?;
    let mut tracks = Vec::new();
    each(source, moov.from, moov.to, b"trak", |source, b| {
        let track = read_track(source, &b)?;
        tracks.extend(track.map(|track| Mp4Track { movie_timescale, fragmented, gapless, ..track }));
        Ok(tracks.len() < MAX_TRACKS)
    })?;
    if fragmented {
        read_bases(source, found, &mut tracks)?;
    }
    tracks.retain(|t| t.sound);
    Ok(tracks)
}

fn read_track(source: &mut dyn Bytes, trak: &Mp4Box) -> io::Result<Option<Mp4Track>> {
    let Some(mdia) = child(source, trak.from, trak.to, b"mdia")? else { return Ok(None) };
    let Some(hdlr) = child(source, mdia.from, mdia.to, b"hdlr")? else { return Ok(None) };
    let mut track = Mp4Track { sound: bytes::<4>(source, hdlr.from + 8, hdlr.to)? == Some(*b"soun"), ..Mp4Track::default() };
    if let Some(mdhd) = child(source, mdia.from, mdia.to, b"mdhd")? {
        track.timescale = timescale(source, &mdhd)?;
        track.language = language(source, &mdhd)?;
    }
    if let Some(tkhd) = child(source, trak.from, trak.to, b"tkhd")? {
        let Some([version, _, _, flags]) = bytes::<4>(source, tkhd.from, tkhd.to)? else { return Ok(None) };
        let at = tkhd.from + if version == 1 { 20 } else { 12 };
        track.id = bytes::<4>(source, at, tkhd.to)?.map_or(0, u32::from_be_bytes);
        track.enabled = flags & 1 == 1;
    }
    if let Some(stsd) = descend(source, mdia, &[b"minf", b"stbl", b"stsd"])? {
        track.codec = bytes::<4>(source, stsd.from + 12, stsd.to)?.unwrap_or_default();
    }
    if let Some(elst) = descend(source, *trak, &[b"edts", b"elst"])? {
        read_edits(source, &elst, &mut track)?;
    }
    Ok(Some(track))
}

/// Takes in the edit list: leading empty edits, then the first one that shows something.
fn read_edits(source: &mut dyn Bytes, elst: &Mp4Box, track: &mut Mp4Track) -> io::Result<()> {
    let Some([version, .., n0, n1, n2, n3]) = bytes::<8>(source, elst.from, elst.to)? else { return Ok(()) };
    let count = u32::from_be_bytes([n0, n1, n2, n3]);
    let size = if version == 1 { 20 } else { 12 };
    for i in 0..u64::from(count).min(MAX_EDITS) {
        let at = elst.from + 8 + i * size;
        let (length, start) = if version == 1 {
            let (Some(l), Some(s)) = (bytes::<8>(source, at, elst.to)?, bytes::<8>(source, at + 8, elst.to)?) else { break };
            (u64::from_be_bytes(l), i64::from_be_bytes(s))
        } else {
            let Some([l0, l1, l2, l3, s @ ..]) = bytes::<8>(source, at, elst.to)? else { break };
            (u64::from(u32::from_be_bytes([l0, l1, l2, l3])), i64::from(i32::from_be_bytes(s)))
        };
        match u64::try_from(start) {
            Ok(start) => {
                track.start = Some(start);
                track.length = if i + 1 == u64::from(count) { length } else { 0 };
                break;
            }
            Err(_) => track.empty = track.empty.saturating_add(length),
        }
    }
    Ok(())
}

/// Finds where the first fragment of each track begins. A stream that was joined late begins at the hour it was joined, so
/// what counts is how much later than the others a track begins.
fn read_bases(source: &mut dyn Bytes, found: u64, tracks: &mut [Mp4Track]) -> io::Result<()> {
    let mut seen = 0;
    each(source, 0, found, b"moof", |source, moof| {
        each(source, moof.from, moof.to, b"traf", |source, traf| {
            let id = match child(source, traf.from, traf.to, b"tfhd")? {
                Some(tfhd) => bytes::<4>(source, tfhd.from + 4, tfhd.to)?.map(u32::from_be_bytes),
                None => None,
            };
            let track = tracks.iter_mut().find(|t| Some(t.id) == id && t.base.is_none());
            if let (Some(track), Some(tfdt)) = (track, child(source, traf.from, traf.to, b"tfdt")?) {
                let long = bytes::<1>(source, tfdt.from, tfdt.to)? == Some([1]);
                track.base = match long {
                    true => bytes::<8>(source, tfdt.from + 4, tfdt.to)?.map(u64::from_be_bytes),
                    false => bytes::<4>(source, tfdt.from + 4, tfdt.to)?.map(|b| u64::from(u32::from_be_bytes(b))),
                };
            }
            seen += 1;
            Ok(seen < FIRST_FRAGMENTS)
        })?;
        Ok(seen < FIRST_FRAGMENTS && tracks.iter().any(|t| t.base.is_none()))
    })?;
    let begins = |t: &Mp4Track| {
        let ticks = t.base?.saturating_sub(t.start.unwrap_or(0));
        u64::try_from(u128::from(ticks) * 1_000_000_000 / u128::from(t.timescale.max(1))).ok()
    };
    let first = tracks.iter().filter_map(begins).min().unwrap_or(0);
    for track in tracks {
        track.behind = begins(track).unwrap_or(first) - first;
    }
    Ok(())
}

/// iTunes' note on gapless playback: hexadecimal numbers in a free-form tag named `iTunSMPB`.
fn itunes(source: &mut dyn Bytes, moov: &Mp4Box) -> io::Result<Option<Gapless>> {
    let Some(meta) = descend(source, *moov, &[b"udta", b"meta"])? else { return Ok(None) };
    // Four bytes of version come first, except in QuickTime's own files, which have no such tag.
    let Some(ilst) = child(source, meta.from + 4, meta.to, b"ilst")? else { return Ok(None) };
    let mut gapless = None;
    each(source, ilst.from, ilst.to, b"----", |source, tag| {
        let Some(name) = child(source, tag.from, tag.to, b"name")? else { return Ok(true) };
        if text(source, name.from + 4, name.to, 64)?.as_deref() != Some("iTunSMPB") {
            return Ok(true);
        }
        if let Some(data) = child(source, tag.from, tag.to, b"data")? {
            gapless = text(source, data.from + 8, data.to, 512)?.as_deref().and_then(parse_itunes);
        }
        Ok(false)
    })?;
    Ok(gapless)
}

/// A reserved number, the run-up, the padding, and the frames between them.
fn parse_itunes(note: &str) -> Option<Gapless> {
    let mut numbers = note.split_ascii_whitespace().map(|n| u64::from_str_radix(n, 16).ok());
    let (_, delay, _, frames) = (numbers.next()??, numbers.next()??, numbers.next()??, numbers.next()??);
    // Nothing plausible is longer than a day or has a run-up of a second.
    (delay < 1 << 16 && frames > 0 && frames < 1 << 33).then_some(Gapless { delay, frames })
}

/// The timescale in an `mvhd` or `mdhd`, which begin alike.
fn timescale(source: &mut dyn Bytes, header: &Mp4Box) -> io::Result<u32> {
    let long = bytes::<1>(source, header.from, header.to)? == Some([1]);
    let at = header.from + if long { 20 } else { 12 };
    Ok(bytes::<4>(source, at, header.to)?.map_or(0, u32::from_be_bytes))
}

/// The language in an `mdhd`: three letters of five bits.
fn language(source: &mut dyn Bytes, mdhd: &Mp4Box) -> io::Result<Option<String>> {
    let long = bytes::<1>(source, mdhd.from, mdhd.to)? == Some([1]);
    let Some(packed) = bytes::<2>(source, mdhd.from + if long { 32 } else { 20 }, mdhd.to)? else { return Ok(None) };
    let packed = u16::from_be_bytes(packed);
    let letters = [10, 5, 0].map(|shift| (packed >> shift & 0x1f) as u8 + 0x60);
    // QuickTime has numbers there instead, which are no letters.
    let code = letters.iter().all(u8::is_ascii_lowercase).then(|| letters.map(char::from).iter().collect::<String>());
    Ok(code.filter(|code| code != "und"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gapless_note_is_read() {
        let note = " 00000000 00000840 000001C0 0000000000AC4400 00000000 00000000 00000000";
        assert_eq!(parse_itunes(note), Some(Gapless { delay: 2112, frames: 0x00AC_4400 }));
        for bad in ["", "0 840", "0 840 1C0 zz", "0 FFFFFFFF 0 1000", "0 840 1C0 0"] {
            assert_eq!(parse_itunes(bad), None, "{bad:?}");
        }
    }
}
