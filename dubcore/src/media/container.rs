//! Which container a file is, whether it is all there, and what its own headers say that symphonia does not pass on.
//!
//! Only headers are read, a few dozen bytes each, so this costs a handful of seeks however long the file is.

use std::io::{self, Read, Seek, SeekFrom};

use super::matroska::{self, MkvTrack};
use super::mp4::{self, Mp4Track};
use super::opus;

/// The containers that are told by their first bytes. The name of the file is never asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Container {
    Wav,
    /// WAV with sizes of 64 bits: RF64, or its twin BW64.
    Rf64,
    Aiff,
    Caf,
    Flac,
    Ogg,
    Mp4,
    Matroska,
    /// MP3 or ADTS frames, or an ID3 tag in front of anything.
    Frames,
}

/// What the container's headers say about its sound tracks.
pub(super) enum Headers {
    Mp4(Vec<Mp4Track>),
    Matroska(Vec<MkvTrack>),
    /// Containers that symphonia reports in full.
    Other,
}

/// Where a source of bytes is looked into.
pub(super) trait Bytes: Read + Seek {}

impl<T: Read + Seek + ?Sized> Bytes for T {}

/// Most boxes, chunks or elements of one level that are looked at; real files have a few dozen (fragmented ones: thousands).
pub(super) const MAX_BOXES: usize = 1 << 16;

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
        _ if (at(0, b"RF64") || at(0, b"BW64")) && at(8, b"WAVE") => Some(Container::Rf64),
        _ if at(0, b"FORM") && (at(8, b"AIFF") || at(8, b"AIFC")) => Some(Container::Aiff),
        _ if at(0, b"caff") => Some(Container::Caf),
        _ if at(0, b"fLaC") => Some(Container::Flac),
        _ if at(0, b"OggS") => Some(Container::Ogg),
        _ if at(4, b"ftyp") => Some(Container::Mp4),
        _ if at(0, &matroska::EBML.to_be_bytes()) => Some(Container::Matroska),
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
        _ if at(0, &[0x30, 0x26, 0xb2, 0x75]) => Some("a Windows Media (ASF) file"),
        _ if at(0, b"FLV") => Some("a Flash video"),
        _ if at(0, &[0x47]) && at(188, &[0x47]) => Some("an MPEG transport stream"),
        // The same behind a time stamp of four bytes, as Blu-ray discs and AVCHD cameras write it.
        _ if at(4, &[0x47]) && at(196, &[0x47]) => Some("an MPEG transport stream"),
        _ if at(0, &[0, 0, 1, 0xba]) => Some("an MPEG program stream"),
        // Both share the sync word; the version, five bits behind it, tells them apart.
        [0x0b, 0x77, _, _, _, version, ..] if version >> 3 > 10 => Some("raw E-AC-3"),
        _ if at(0, &[0x0b, 0x77]) => Some("raw AC-3"),
        _ if at(0, &[0x7f, 0xfe, 0x80, 0x01]) => Some("raw DTS"),
        _ if at(0, b"#!AMR") => Some("an AMR file"),
        _ if at(0, b".RMF") => Some("a RealMedia file"),
        _ if at(0, b"wvpk") => Some("a WavPack file"),
        _ if at(0, b"MAC ") => Some("a Monkey's Audio file"),
        _ if at(0, b"TTA1") => Some("a True Audio file"),
        _ if at(0, b"MPCK") || at(0, b"MP+") => Some("a Musepack file"),
        _ if at(0, b"MThd") => Some("a MIDI file, which has no sound of its own"),
        _ if at(0, b".snd") => Some("a Sun audio file"),
        _ if at(0, b"riff") => Some("a Wave64 file"),
        _ => None,
    }
}

/// What the first packet of an Ogg file says it is, where that is not for symphonia.
pub(super) fn ogg_codec(head: &[u8]) -> Option<String> {
    // A page's header has 27 bytes, the last of which counts the bytes that follow it.
    let packet = head.strip_prefix(b"OggS").and_then(|_| head.get(27 + usize::from(*head.get(26)?)..))?;
    let is = |magic: &[u8]| packet.starts_with(magic);
    Some(match opus::mapping_family(packet) {
        Some(family @ 2..) => format!("Opus with channel mapping family {family}"),
        _ if is(b"Speex   ") => "Speex".into(),
        _ if is(b"CELT    ") => "CELT".into(),
        _ if is(b"PCM     ") => "PCM in Ogg".into(),
        _ => return None,
    })
}

/// Whether the file ends before the container says it does.
pub(super) fn cut(source: &mut dyn Bytes, container: Container, found: u64) -> io::Result<Option<Cut>> {
    let declared = match container {
        Container::Wav => wav_end(source, found)?,
        Container::Rf64 => rf64_data(source, found)?.map(|data| data.to),
        Container::Aiff => aiff_end(source, found)?,
        Container::Caf => caf_end(source, found)?,
        Container::Mp4 => mp4::end(source, found)?,
        Container::Matroska => matroska::end(source, found)?,
        // FLAC tells its length in samples, checked after decoding; frames and Ogg pages have no declared end.
        Container::Flac | Container::Ogg | Container::Frames => None,
    };
    Ok(declared.filter(|&end| end > found).map(|declared| Cut { declared, found }))
}

/// Asks the container's own headers about its tracks.
pub(super) fn headers(source: &mut dyn Bytes, container: Container, found: u64) -> io::Result<Headers> {
    Ok(match container {
        Container::Mp4 => Headers::Mp4(mp4::tracks(source, found)?),
        Container::Matroska => Headers::Matroska(matroska::tracks(source, found)?),
        _ => Headers::Other,
    })
}

/// The end of the `data` chunk. Writers to a pipe, which cannot go back to fill it in, leave 0 or all ones: not declared.
fn wav_end(source: &mut dyn Bytes, found: u64) -> io::Result<Option<u64>> {
    let size_of = |size: [u8; 4]| u64::from(u32::from_le_bytes(size));
    let data = riff_chunk(source, found, b"data", size_of)?;
    Ok(data.filter(|&(_, size)| size != 0 && size != u64::from(u32::MAX)).map(|(from, size)| from + size))
}

fn aiff_end(source: &mut dyn Bytes, found: u64) -> io::Result<Option<u64>> {
    let size_of = |size: [u8; 4]| u64::from(u32::from_be_bytes(size));
    Ok(riff_chunk(source, found, b"SSND", size_of)?.map(|(from, size)| from + size))
}

/// Where the payload of the first chunk `kind` is, and its size. Chunks begin at even places.
fn riff_chunk(source: &mut dyn Bytes, found: u64, kind: &[u8; 4], size_of: fn([u8; 4]) -> u64) -> io::Result<Option<(u64, u64)>> {
    let mut at = 12;
    for _ in 0..MAX_BOXES {
        let Some([a, b, c, d, size @ ..]) = bytes::<8>(source, at, found)? else { break };
        let size = size_of(size);
        if [a, b, c, d] == *kind {
            return Ok(Some((at + 8, size)));
        }
        at += 8 + size + size % 2;
    }
    Ok(None)
}

/// The place of the sound in an RF64 file, whose true size is in its first chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rf64Data {
    pub(super) from: u64,
    pub(super) to: u64,
}

pub(super) fn rf64_data(source: &mut dyn Bytes, found: u64) -> io::Result<Option<Rf64Data>> {
    let size_of = |size: [u8; 4]| u64::from(u32::from_le_bytes(size));
    let Some((sizes, _)) = riff_chunk(source, found, b"ds64", size_of)? else { return Ok(None) };
    let Some(wide) = bytes::<8>(source, sizes + 8, found)? else { return Ok(None) };
    let Some((from, narrow)) = riff_chunk(source, found, b"data", size_of)? else { return Ok(None) };
    // The wide size counts where the narrow one says so, by all ones.
    let size = if narrow == u64::from(u32::MAX) { u64::from_le_bytes(wide) } else { narrow };
    Ok(from.checked_add(size).map(|to| Rf64Data { from, to }))
}

/// The end of the `data` chunk; all ones mean that it goes to the end of the file.
fn caf_end(source: &mut dyn Bytes, found: u64) -> io::Result<Option<u64>> {
    let mut at = 8_u64;
    for _ in 0..MAX_BOXES {
        let (Some(kind), Some(size)) = (bytes::<4>(source, at, found)?, bytes::<8>(source, at + 4, found)?) else { break };
        let Ok(size) = u64::try_from(i64::from_be_bytes(size)) else { break };
        let Some(end) = (at + 12).checked_add(size) else { break };
        if kind == *b"data" {
            return Ok(Some(end));
        }
        at = end;
    }
    Ok(None)
}

/// `N` bytes at `at`, or `None` where they do not fit before `end`.
pub(super) fn bytes<const N: usize>(source: &mut dyn Bytes, at: u64, end: u64) -> io::Result<Option<[u8; N]>> {
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

/// A short text between `from` and `to`; what is longer than `most` bytes is not one.
pub(super) fn text(source: &mut dyn Bytes, from: u64, to: u64, most: usize) -> io::Result<Option<String>> {
    let Some(len) = to.checked_sub(from).and_then(|len| usize::try_from(len).ok()).filter(|&len| len <= most) else {
        return Ok(None);
    };
    source.seek(SeekFrom::Start(from))?;
    let mut out = vec![0; len];
    match source.read_exact(&mut out) {
        Ok(()) => Ok(Some(String::from_utf8_lossy(&out).trim_end_matches('\0').to_owned())),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(e),
    }
}
