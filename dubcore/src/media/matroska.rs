//! The elements of Matroska and WebM that symphonia does not pass on: the codec's run-up to the nanosecond, the padding
//! behind the last block, and tracks of codecs it does not know.

use std::collections::{HashMap, VecDeque};
use std::io::{self, SeekFrom};

use super::container::{Bytes, MAX_BOXES, bytes, text};

pub(super) const EBML: u32 = 0x1a45_dfa3;
const SEGMENT: u32 = 0x1853_8067;
const VOID: u32 = 0xec;
const TRACKS: u32 = 0x1654_ae6b;
const TRACK_ENTRY: u32 = 0xae;
const TRACK_NUMBER: u32 = 0xd7;
const TRACK_TYPE: u32 = 0x83;
const CODEC_ID: u32 = 0x86;
const CODEC_DELAY: u32 = 0x56aa;
const LANGUAGE: u32 = 0x22_b59c;
const LANGUAGE_BCP47: u32 = 0x22_b59d;
const FLAG_DEFAULT: u32 = 0x88;
const CLUSTER: u32 = 0x1f43_b675;
const BLOCK_GROUP: u32 = 0xa0;
const BLOCK: u32 = 0xa1;
const SIMPLE_BLOCK: u32 = 0xa3;
const DISCARD_PADDING: u32 = 0x75a2;

/// Most tracks that are looked at.
const MAX_TRACKS: usize = 1 << 10;
/// How many clusters at the end are searched for a track's last block: the sound may end before the picture does.
const LAST_CLUSTERS: usize = 16;

/// What a Matroska file says about one of its sound tracks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct MkvTrack {
    pub(super) number: u32,
    pub(super) codec: String,
    pub(super) language: Option<String>,
    /// Whether it is marked as the one to play.
    pub(super) default: bool,
    /// The codec's run-up, in nanoseconds.
    pub(super) delay: u64,
    /// Padding behind the last block, in nanoseconds.
    pub(super) padding: u64,
}

/// An element: its identifier and where its payload is.
#[derive(Clone, Copy)]
struct Element {
    id: u32,
    from: u64,
    /// `None` where the size is not known, as in a live recording.
    to: Option<u64>,
}

/// The element at `at`, if its header fits before `end`.
fn element_at(source: &mut dyn Bytes, at: u64, end: u64) -> io::Result<Option<Element>> {
    // Identifier and size have at most 4 and 8 bytes.
    let room = end.saturating_sub(at).min(12) as usize;
    let mut head = [0; 12];
    source.seek(SeekFrom::Start(at))?;
    match source.read_exact(&mut head[..room]) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(e) => return Err(e),
    }
    let head = &head[..room];
    let Some((id, id_len)) = vint(head, true).filter(|&(_, len)| len <= 4) else { return Ok(None) };
    let Some((size, size_len)) = vint(&head[id_len..], false) else { return Ok(None) };
    let from = at + (id_len + size_len) as u64;
    let unknown = size == (1 << (7 * size_len)) - 1;
    match from.checked_add(size) {
        _ if unknown => Ok(Some(Element { id: id as u32, from, to: None })),
        Some(to) => Ok(Some(Element { id: id as u32, from, to: Some(to) })),
        None => Ok(None),
    }
}

/// A number whose first byte tells its length by leading zeros, and that length. The marker is part of an identifier.
fn vint(data: &[u8], keep_marker: bool) -> Option<(u64, usize)> {
    let first = *data.first()?;
    let len = first.leading_zeros() as usize + 1;
    let bytes = data.get(..len).filter(|_| len <= 8)?;
    let head = if keep_marker { u64::from(first) } else { u64::from(first) & ((1 << (8 - len)) - 1) };
    Some((bytes[1..].iter().fold(head, |value, &b| value << 8 | u64::from(b)), len))
}

/// The elements between `at` and `end`, each handed to `see`. Ends at one of unknown size.
fn each(
    source: &mut dyn Bytes,
    mut at: u64,
    end: u64,
    mut see: impl FnMut(&mut dyn Bytes, u32, u64, u64) -> io::Result<()>,
) -> io::Result<()> {
    for _ in 0..MAX_BOXES {
        let Some(Element { id, from, to: Some(to) }) = element_at(source, at, end)?.filter(|e| e.to <= Some(end)) else {
            break;
        };
        see(source, id, from, to)?;
        at = to;
    }
    Ok(())
}

/// The segment, which holds everything.
fn segment(source: &mut dyn Bytes, found: u64) -> io::Result<Option<Element>> {
    let Some(Element { to: Some(mut at), .. }) = element_at(source, 0, found)? else { return Ok(None) };
    // Padding may stand between the header and the segment.
    for _ in 0..16 {
        match element_at(source, at, found)? {
            Some(segment) if segment.id == SEGMENT => return Ok(Some(segment)),
            Some(Element { id: VOID, to: Some(to), .. }) => at = to,
            _ => break,
        }
    }
    Ok(None)
}

/// The end of the segment; a live recording leaves its size unknown.
pub(super) fn end(source: &mut dyn Bytes, found: u64) -> io::Result<Option<u64>> {
    Ok(segment(source, found)?.and_then(|segment| segment.to))
}

/// The sound tracks, in the file's order.
pub(super) fn tracks(source: &mut dyn Bytes, found: u64) -> io::Result<Vec<MkvTrack>> {
    let Some(segment) = segment(source, found)? else { return Ok(Vec::new()) };
    let mut tracks = Vec::new();
    let mut clusters = VecDeque::new();
    each(source, segment.from, segment.to.unwrap_or(found), |source, id, from, to| {
        match id {
            TRACKS => each(source, from, to, |source, id, from, to| {
                if id == TRACK_ENTRY && tracks.len() < MAX_TRACKS {
                    tracks.extend(read_track(source, from, to)?);
                }
                Ok(())
            })?,
            CLUSTER => {
                if clusters.len() == LAST_CLUSTERS {
                    clusters.pop_front();
                }
                clusters.push_back((from, to));
            }
            _ => {}
        }
        Ok(())
    })?;
    let paddings = paddings(source, &clusters)?;
    for track in &mut tracks {
        track.padding = paddings.get(&u64::from(track.number)).copied().unwrap_or(0);
    }
    Ok(tracks)
}

fn read_track(source: &mut dyn Bytes, from: u64, to: u64) -> io::Result<Option<MkvTrack>> {
    // What the format's schema says when the file does not.
    let mut track = MkvTrack { language: Some("eng".into()), default: true, ..MkvTrack::default() };
    let (mut sound, mut bcp47) = (false, None);
    each(source, from, to, |source, id, from, to| {
        match id {
            TRACK_NUMBER => track.number = u32::try_from(number(source, from, to)?).unwrap_or(0),
            TRACK_TYPE => sound = number(source, from, to)? == 2,
            FLAG_DEFAULT => track.default = number(source, from, to)? == 1,
            CODEC_DELAY => track.delay = number(source, from, to)?,
            CODEC_ID => track.codec = text(source, from, to, 64)?.unwrap_or_default(),
            LANGUAGE => track.language = text(source, from, to, 64)?,
            LANGUAGE_BCP47 => bcp47 = text(source, from, to, 64)?,
            _ => {}
        }
        Ok(())
    })?;
    track.language = bcp47.or(track.language).filter(|l| l != "und");
    Ok((sound && track.number > 0).then_some(track))
}

/// The padding of each track's last block, as far as one of the last clusters has it.
fn paddings(source: &mut dyn Bytes, clusters: &VecDeque<(u64, u64)>) -> io::Result<HashMap<u64, u64>> {
    let mut last = HashMap::new();
    for &(from, to) in clusters {
        each(source, from, to, |source, id, from, to| {
            let (track, padding) = match id {
                SIMPLE_BLOCK => (block_track(source, from, to)?, 0),
                BLOCK_GROUP => group(source, from, to)?,
                _ => (None, 0),
            };
            last.extend(track.map(|track| (track, padding)));
            Ok(())
        })?;
    }
    Ok(last)
}

/// The track of a block in a group of its own, and the padding in it.
fn group(source: &mut dyn Bytes, from: u64, to: u64) -> io::Result<(Option<u64>, u64)> {
    let (mut track, mut padding) = (None, 0);
    each(source, from, to, |source, id, from, to| {
        match id {
            BLOCK => track = block_track(source, from, to)?,
            // A signed number. A negative one would be silence that is to be put in, which nobody writes.
            DISCARD_PADDING if bytes::<1>(source, from, to)?.is_some_and(|[first]| first < 0x80) => {
                padding = number(source, from, to)?;
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok((track, padding))
}

/// The number of a block's track, with which it begins.
fn block_track(source: &mut dyn Bytes, from: u64, to: u64) -> io::Result<Option<u64>> {
    Ok(bytes::<4>(source, from, to)?.and_then(|head| vint(&head, false)).map(|(track, _)| track))
}

/// An unsigned number of up to eight bytes.
fn number(source: &mut dyn Bytes, from: u64, to: u64) -> io::Result<u64> {
    let mut value = 0_u64;
    for at in from..to.min(from + 8) {
        let Some([byte]) = bytes::<1>(source, at, to)? else { return Ok(0) };
        value = value << 8 | u64::from(byte);
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn element(id: u32, body: &[u8]) -> Vec<u8> {
        let id = id.to_be_bytes();
        let id = &id[id.iter().position(|&b| b != 0).unwrap()..];
        [id, &(1 << 56 | body.len() as u64).to_be_bytes(), body].concat()
    }

    #[test]
    fn tracks_tell_their_run_up_padding_and_language() {
        let track = |number: u8, kind: u8, more: &[u8]| {
            let codec = element(CODEC_ID, b"A_AAC");
            element(TRACK_ENTRY, &[element(TRACK_NUMBER, &[number]), element(TRACK_TYPE, &[kind]), codec, more.to_vec()].concat())
        };
        let delay = element(CODEC_DELAY, &21_333_333_u32.to_be_bytes());
        let spanish = [element(LANGUAGE, b"spa"), element(FLAG_DEFAULT, &[0])].concat();
        let tracks_element = element(TRACKS, &[track(1, 1, &[]), track(2, 2, &delay), track(3, 2, &spanish)].concat());
        let group = |track: u8, padding: &[u8]| {
            element(BLOCK_GROUP, &[element(BLOCK, &[0x80 | track, 0, 0, 0, 9]), element(DISCARD_PADDING, padding)].concat())
        };
        let first = element(CLUSTER, &[group(2, &[0x10]), group(3, &[0x01, 0x00])].concat());
        // The last block of track 2 counts; a negative padding does not.
        let last = element(CLUSTER, &[group(2, &[0x00, 0xff, 0xff]), element(SIMPLE_BLOCK, &[0x81, 0, 0, 0x80])].concat());
        let segment = element(SEGMENT, &[tracks_element, first, last, element(CLUSTER, &group(3, &[0x80]))].concat());
        let file = [element(EBML, b""), segment].concat();
        let len = file.len() as u64;
        let tracks = tracks(&mut Cursor::new(file.clone()), len).unwrap();
        let codec = || "A_AAC".to_owned();
        let english = MkvTrack {
            number: 2,
            codec: codec(),
            language: Some("eng".into()),
            default: true,
            delay: 21_333_333,
            padding: 0xffff,
        };
        let spanish = MkvTrack { number: 3, codec: codec(), language: Some("spa".into()), ..MkvTrack::default() };
        assert_eq!(tracks, [english, spanish]);
        assert_eq!(end(&mut Cursor::new(file), len).unwrap(), Some(len));
    }
}
