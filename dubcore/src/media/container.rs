//! What a container says about itself and symphonia does not pass on: whether the file is all there, which codec an MP4
//! track uses, and where in the MP4's time its sound begins.
//!
//! Only headers are read, a few dozen bytes each, so this costs a handful of seeks however long the file is.

use std::io::{self, Read, Seek, SeekFrom};

/// The containers that are told by their first bytes. The name of the file is never asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Container {
    Wav,
    Flac,
    Ogg,
    Mp4,
    Matroska,
    /// MP3 or ADTS frames, or an ID3 tag in front of anything.
    Frames,
}

/// Most boxes of one level that are looked at; real files have a few dozen (fragmented ones: thousands).
const MAX_BOXES: usize = 1 << 16;
/// Most edits of a track that are looked at.
const MAX_EDITS: u64 = 1 << 10;

/// Bytes a file is declared to have, and has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) declared: u64,
    pub(super) found: u64,
}

/// The container that the first bytes announce.
pub(super) fn sniff(head: &[u8]) -> Option<Container> {
    let at = |from: usize, magic: &[u8]| head.get(from..from + magic.len()) == Some(magic);
    match head {
        _ if at(0, b"RIFF") && at(8, b"WAVE") => Some(Container::Wav),
        _ if at(0, b"fLaC") => Some(Container::Flac),
        _ if at(0, b"OggS") => Some(Container::Ogg),
        _ if at(4, b"ftyp") => Some(Container::Mp4),
        _ if at(0, &EBML.to_be_bytes()) => Some(Container::Matroska),
        _ if at(0, b"ID3") => Some(Container::Frames),
        // The sync word of MPEG audio, eleven ones; the layer's bits, which tell ADTS and Layer III, are symphonia's to judge.
        [0xff, second, ..] if second & 0xe0 == 0xe0 => Some(Container::Frames),
        _ => None,
    }
}

/// A name for well-known media that this build does not read, for the message.
pub(super) fn foreign(head: &[u8]) -> Option<&'static str> {
    let at = |from: usize, magic: &[u8]| head.get(from..from + magic.len()) == Some(magic);
    match head {
        _ if at(0, b"RIFF") && at(8, b"AVI ") => Some("an AVI file"),
        _ if at(0, b"RF64") => Some("an RF64 (WAV beyond 4 GiB) file"),
        _ if at(0, b"FORM") => Some("an AIFF file"),
        _ if at(0, b"caff") => Some("a Core Audio file"),
        _ if at(0, &[0x30, 0x26, 0xb2, 0x75]) => Some("a Windows Media (ASF) file"),
        _ if at(0, b"FLV") => Some("a Flash video"),
        _ if at(0, &[0x47]) && at(188, &[0x47]) => Some("an MPEG transport stream"),
        _ if at(0, &[0, 0, 1, 0xba]) => Some("an MPEG program stream"),
        _ => None,
    }
}

/// Whether the file ends before the container says it does.
pub(super) fn cut(source: &mut (impl Read + Seek + ?Sized), container: Container, found: u64) -> io::Result<Option<Cut>> {
    let declared = match container {
        Container::Wav => wav_end(source, found)?,
        Container::Mp4 => mp4_end(source, found)?,
        Container::Matroska => matroska_end(source, found)?,
        // FLAC tells its length in samples, checked after decoding; frames and Ogg pages have no declared end.
        Container::Flac | Container::Ogg | Container::Frames => None,
    };
    Ok(declared.filter(|&end| end > found).map(|declared| Cut { declared, found }))
}

/// The end of the `data` chunk. Writers to a pipe, which cannot go back to fill it in, leave 0 or all ones: not declared.
fn wav_end(source: &mut (impl Read + Seek + ?Sized), found: u64) -> io::Result<Option<u64>> {
    let mut at = 12;
    for _ in 0..MAX_BOXES {
        let Some([a, b, c, d, size @ ..]) = bytes::<8>(source, at, found)? else { return Ok(None) };
        let size = u64::from(u32::from_le_bytes(size));
        if [a, b, c, d] == *b"data" {
            return Ok((size != 0 && size != u64::from(u32::MAX)).then_some(at + 8 + size));
        }
        at += 8 + size + size % 2;
    }
    Ok(None)
}

/// An MP4 box: its type and where its payload is.
struct Mp4Box {
    kind: [u8; 4],
    from: u64,
    to: u64,
}

/// The box at `at`, if a header fits before `end`.
fn mp4_box(source: &mut (impl Read + Seek + ?Sized), at: u64, end: u64) -> io::Result<Option<Mp4Box>> {
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

/// The end of the last box that holds media.
fn mp4_end(source: &mut (impl Read + Seek + ?Sized), found: u64) -> io::Result<Option<u64>> {
    let mut at = 0;
    for _ in 0..MAX_BOXES {
        let Some(b) = mp4_box(source, at, found)? else { break };
        // Junk behind the last box is common and harmless; a box of a known kind that is cut is not.
        if b.to > found {
            return Ok([*b"mdat", *b"moov", *b"moof"].contains(&b.kind).then_some(b.to));
        }
        at = b.to;
    }
    Ok(None)
}

/// Whether no fragment claims more samples than the file has bytes. The decoder would count through four billion of them.
pub(super) fn mp4_runs_fit(source: &mut (impl Read + Seek + ?Sized), found: u64) -> io::Result<bool> {
    runs_fit(source, 0..found, found, 0)
}

fn runs_fit(source: &mut (impl Read + Seek + ?Sized), within: std::ops::Range<u64>, most: u64, depth: usize) -> io::Result<bool> {
    // A fragment holds tracks, and these hold runs: no box in a box in a box without end.
    const NESTING: [&[u8; 4]; 2] = [b"moof", b"traf"];
    let mut at = within.start;
    while let Some(b) = mp4_box(source, at, within.end)? {
        let end = b.to.min(within.end);
        let fits = match NESTING.get(depth) {
            Some(kind) => b.kind != **kind || runs_fit(source, b.from..end, most, depth + 1)?,
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

/// What an MP4 says about one of its sound tracks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mp4Track {
    pub(super) id: u32,
    /// The four characters of its codec.
    pub(super) codec: [u8; 4],
    /// Ticks per second of the track.
    pub(super) timescale: u32,
    /// Ticks per second of the movie, in which the edits' lengths are.
    pub(super) movie_timescale: u32,
    /// Time before its sound begins, in movie ticks.
    pub(super) empty: u64,
    /// The first tick of the track that is shown: what comes before is the codec's run-up.
    pub(super) start: u64,
    /// How long the track is shown, in movie ticks; 0 if not said, or if there are further edits.
    pub(super) length: u64,
    /// Whether the samples are listed in fragments, whose total is not known beforehand.
    pub(super) fragmented: bool,
}

/// The sound tracks of an MP4, in the file's order.
pub(super) fn mp4_tracks(source: &mut (impl Read + Seek + ?Sized), found: u64) -> io::Result<Vec<Mp4Track>> {
    let Some(moov) = child(source, 0, found, b"moov")? else { return Ok(Vec::new()) };
    let movie_timescale = match child(source, moov.from, moov.to, b"mvhd")? {
        Some(mvhd) => timescale(source, &mvhd)?,
        None => 0,
    };
    let fragmented = child(source, moov.from, moov.to, b"mvex")?.is_some();
    let mut tracks = Vec::new();
    let mut at = moov.from;
    for _ in 0..MAX_BOXES {
        let Some(b) = mp4_box(source, at, moov.to)?.filter(|b| b.to <= moov.to) else { break };
        if b.kind == *b"trak"
            && let Some(track) = sound_track(source, &b)?
        {
            tracks.push(Mp4Track { movie_timescale, fragmented, ..track });
        }
        at = b.to;
    }
    Ok(tracks)
}

fn sound_track(source: &mut (impl Read + Seek + ?Sized), trak: &Mp4Box) -> io::Result<Option<Mp4Track>> {
    let Some(mdia) = child(source, trak.from, trak.to, b"mdia")? else { return Ok(None) };
    let Some(hdlr) = child(source, mdia.from, mdia.to, b"hdlr")? else { return Ok(None) };
    if bytes::<4>(source, hdlr.from + 8, hdlr.to)? != Some(*b"soun") {
        return Ok(None);
    }
    let mut track = Mp4Track::default();
    if let Some(mdhd) = child(source, mdia.from, mdia.to, b"mdhd")? {
        track.timescale = timescale(source, &mdhd)?;
    }
    if let Some(tkhd) = child(source, trak.from, trak.to, b"tkhd")? {
        let long = bytes::<1>(source, tkhd.from, tkhd.to)? == Some([1]);
        let at = tkhd.from + if long { 20 } else { 12 };
        track.id = bytes::<4>(source, at, tkhd.to)?.map_or(0, u32::from_be_bytes);
    }
    if let Some(minf) = child(source, mdia.from, mdia.to, b"minf")?
        && let Some(stbl) = child(source, minf.from, minf.to, b"stbl")?
        && let Some(stsd) = child(source, stbl.from, stbl.to, b"stsd")?
    {
        track.codec = bytes::<4>(source, stsd.from + 12, stsd.to)?.unwrap_or_default();
    }
    if let Some(edts) = child(source, trak.from, trak.to, b"edts")?
        && let Some(elst) = child(source, edts.from, edts.to, b"elst")?
    {
        read_edits(source, &elst, &mut track)?;
    }
    Ok(Some(track))
}

/// Takes in the edit list: leading empty edits, then the first one that shows something.
fn read_edits(source: &mut (impl Read + Seek + ?Sized), elst: &Mp4Box, track: &mut Mp4Track) -> io::Result<()> {
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
                track.start = start;
                track.length = if i + 1 == u64::from(count) { length } else { 0 };
                break;
            }
            Err(_) => track.empty = track.empty.saturating_add(length),
        }
    }
    Ok(())
}

/// The timescale in an `mvhd` or `mdhd`, which begin alike.
fn timescale(source: &mut (impl Read + Seek + ?Sized), header: &Mp4Box) -> io::Result<u32> {
    let long = bytes::<1>(source, header.from, header.to)? == Some([1]);
    let at = header.from + if long { 20 } else { 12 };
    Ok(bytes::<4>(source, at, header.to)?.map_or(0, u32::from_be_bytes))
}

/// The first box of `kind` between `at` and `end`.
fn child(source: &mut (impl Read + Seek + ?Sized), mut at: u64, end: u64, kind: &[u8; 4]) -> io::Result<Option<Mp4Box>> {
    for _ in 0..MAX_BOXES {
        let Some(b) = mp4_box(source, at, end)? else { break };
        if b.to > end {
            break;
        }
        if b.kind == *kind {
            return Ok(Some(b));
        }
        at = b.to;
    }
    Ok(None)
}

const EBML: u32 = 0x1a45_dfa3;
const SEGMENT: u32 = 0x1853_8067;

/// The end of the segment; a live recording leaves its size unknown.
fn matroska_end(source: &mut (impl Read + Seek + ?Sized), found: u64) -> io::Result<Option<u64>> {
    let Some(mut at) = element_end(source, 4, found)? else { return Ok(None) };
    // Padding may stand between the header and the segment.
    for _ in 0..16 {
        let Some(id) = bytes::<4>(source, at, found)? else { return Ok(None) };
        if u32::from_be_bytes(id) == SEGMENT {
            return element_end(source, at + 4, found);
        }
        let [0xec, ..] = id else { return Ok(None) };
        match element_end(source, at + 1, found)? {
            Some(end) => at = end,
            None => return Ok(None),
        }
    }
    Ok(None)
}

/// Where the EBML element ends whose size field is at `at`. All ones mean that it is not known.
fn element_end(source: &mut (impl Read + Seek + ?Sized), at: u64, found: u64) -> io::Result<Option<u64>> {
    let Some([first]) = bytes::<1>(source, at, found)? else { return Ok(None) };
    let len = u64::from(first.leading_zeros()) + 1;
    if len > 8 {
        return Ok(None);
    }
    let mut value = u64::from(first) & ((1 << (8 - len)) - 1);
    for i in 1..len {
        let Some([next]) = bytes::<1>(source, at + i, found)? else { return Ok(None) };
        value = value << 8 | u64::from(next);
    }
    let unknown = value == (1 << (7 * len)) - 1;
    Ok((!unknown).then(|| (at + len).checked_add(value)).flatten())
}

/// `N` bytes at `at`, or `None` where they do not fit before `end`.
fn bytes<const N: usize>(source: &mut (impl Read + Seek + ?Sized), at: u64, end: u64) -> io::Result<Option<[u8; N]>> {
    if at.checked_add(N as u64).is_none_or(|to| to > end) {
        return Ok(None);
    }
    source.seek(SeekFrom::Start(at))?;
    let mut out = [0; N];
    match source.read_exact(&mut out) {
        Ok(()) => Ok(Some(out)),
        // The file shrank since its length was asked.
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(e),
    }
}
