//! Writing WAV, so that a reader of the target never sees half a file.

use std::fs::File;
use std::io::{self, BufWriter, Cursor, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use crate::audio::{Audio, check_rate};
use crate::error::{Error, ErrorKind, Result};
use crate::part::Part;
use crate::sync::Mutex;

/// How a WAV file stores its samples.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WavFormat {
    /// 16-bit integers: rounded to the nearest, and clamped to -1..1.
    #[default]
    I16,
    /// 32-bit floating point, as it is.
    F32,
}

impl WavFormat {
    fn bits(self) -> u16 {
        match self {
            Self::I16 => 16,
            Self::F32 => 32,
        }
    }
}

/// The sizes in a WAV header are 32-bit; the headers need less than this of it.
const MOST_DATA: u64 = u32::MAX as u64 - 256;

/// Writes interleaved samples as WAV, to a file ([`WavWriter::create`]) or to memory ([`WavWriter::in_memory`]).
///
/// A file is written as `NAME.part` beside its target and takes the target's name at [`finish`](WavWriter::finish): whoever
/// opens the target sees what was there before or the whole new file. Dropping the writer unfinished deletes the part.
pub struct WavWriter<T> {
    // Declared before the target: hound completes the header when dropped, which must happen before the part is deleted.
    hound: hound::WavWriter<BufWriter<Shared>>,
    shared: Arc<Mutex<Target>>,
    format: WavFormat,
    channels: usize,
    samples: u64,
    name: String,
    kind: T,
}

/// The file behind a [`WavWriter`].
pub struct WavFile(Part);

enum Target {
    File(File),
    Memory(Cursor<Vec<u8>>),
}

/// hound owns what it writes to and does not give it back, so it gets a share.
struct Shared(Arc<Mutex<Target>>);

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Memory(memory) => memory.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Target {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::File(file) => file.seek(to),
            Self::Memory(memory) => memory.seek(to),
        }
    }
}

/// In a header that says where channels are, hound puts the first one left, the only one of mono too. ffmpeg then refuses
/// to encode it: one channel is the centre.
fn centre_mono(target: &mut Target, format: WavFormat, channels: usize) -> io::Result<()> {
    /// Where the mask is in the extended header, which hound writes for floats.
    const MASK: u64 = 40;
    const CENTRE: u32 = 4;
    if format == WavFormat::F32 && channels == 1 {
        target.seek(SeekFrom::Start(MASK))?;
        target.write_all(&CENTRE.to_le_bytes())?;
    }
    Ok(())
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Shared {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.lock().seek(to)
    }
}

impl WavWriter<WavFile> {
    /// Begins the file that will be at `path`. Its folder must exist; a file of that name stays until the end.
    ///
    /// # Errors
    /// `InvalidArgument` for a rate outside [`RATES`](crate::RATES) or no channels; `Io` with the path.
    pub fn create(path: impl AsRef<Path>, channels: usize, rate: u32, format: WavFormat) -> Result<Self> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let spec = spec(channels, rate, format)?;
        let (file, part) = Part::create(path).map_err(|e| unwritable(&name, e))?;
        Self::build(Target::File(file), spec, format, name, WavFile(part))
    }

    /// Completes the file and puts it in its place.
    ///
    /// # Errors
    /// `Io` with the path. The target is as it was before, and the part is deleted.
    pub fn finish(self) -> Result<()> {
        let Self { hound, shared, name, kind: WavFile(part), format, channels, .. } = self;
        let finish = || {
            hound.finalize().map_err(into_io)?;
            let mut target = shared.lock();
            centre_mono(&mut target, format, channels)?;
            match &*target {
                Target::File(file) => part.place(file),
                Target::Memory(_) => Err(io::Error::other("a file is in memory")),
            }
        };
        finish().map_err(|e| unwritable(&name, e))
    }
}

impl WavWriter<Cursor<Vec<u8>>> {
    /// Begins a file in memory.
    ///
    /// # Errors
    /// `InvalidArgument` for a rate outside [`RATES`](crate::RATES) or no channels.
    pub fn in_memory(channels: usize, rate: u32, format: WavFormat) -> Result<Self> {
        let spec = spec(channels, rate, format)?;
        Self::build(Target::Memory(Cursor::default()), spec, format, "the memory file".into(), Cursor::default())
    }

    /// Completes the file and gives its bytes.
    ///
    /// # Errors
    /// `Io`, which memory does not have in practice.
    pub fn finish(self) -> Result<Vec<u8>> {
        let Self { hound, shared, name, format, channels, .. } = self;
        hound.finalize().map_err(|e| unwritable(&name, into_io(e)))?;
        centre_mono(&mut shared.lock(), format, channels).map_err(|e| unwritable(&name, e))?;
        match &mut *shared.lock() {
            Target::Memory(memory) => Ok(std::mem::take(memory).into_inner()),
            Target::File(_) => Err(Error::internal("a memory file is a file")),
        }
    }
}

impl<T> WavWriter<T> {
    fn build(target: Target, spec: hound::WavSpec, format: WavFormat, name: String, kind: T) -> Result<Self> {
        let shared = Arc::new(Mutex::new(target));
        let writer = BufWriter::with_capacity(1 << 16, Shared(shared.clone()));
        let hound = hound::WavWriter::new(writer, spec).map_err(|e| unwritable(&name, into_io(e)))?;
        Ok(Self { hound, shared, format, channels: usize::from(spec.channels), samples: 0, name, kind })
    }

    /// Appends frames, channels interleaved.
    ///
    /// # Errors
    /// `InvalidArgument` if the samples are not whole frames or not finite, or `LimitExceeded` if the file would pass the
    /// 4 GiB that WAV allows: nothing is written then. `Io` with the path; the writer is of no further use then.
    pub fn write(&mut self, samples: &[f32]) -> Result<()> {
        if !samples.len().is_multiple_of(self.channels) {
            return Err(Error::argument(format!("{} samples are not whole frames of {} channels", samples.len(), self.channels)));
        }
        if let Some(at) = samples.iter().position(|s| !s.is_finite()) {
            return Err(Error::argument(format!("sample {at} is {}: samples must be finite", samples[at])));
        }
        let total = self.samples + samples.len() as u64;
        self.check_size(total)?;
        let written = samples.iter().try_for_each(|&s| match self.format {
            WavFormat::I16 => self.hound.write_sample((s * 32_768.0).round() as i16),
            WavFormat::F32 => self.hound.write_sample(s),
        });
        written.map_err(|e| unwritable(&self.name, into_io(e)))?;
        self.samples = total;
        Ok(())
    }

    /// Frames written so far.
    pub fn frames(&self) -> u64 {
        self.samples / self.channels as u64
    }

    fn check_size(&self, samples: u64) -> Result<()> {
        let bytes = samples.saturating_mul(u64::from(self.format.bits() / 8));
        if bytes <= MOST_DATA {
            return Ok(());
        }
        let message = format!("{} would have {bytes} bytes of sound: a WAV file holds at most {MOST_DATA}", self.name);
        Err(Error::new(ErrorKind::LimitExceeded, message))
    }
}

impl<T> std::fmt::Debug for WavWriter<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WavWriter({}, {:?}, {} channels, {} frames)", self.name, self.format, self.channels, self.frames())
    }
}

/// Writes `audio` to `path` as WAV of one channel.
///
/// # Errors
/// `Io` with the path; `LimitExceeded` beyond 4 GiB. `path` is untouched then.
pub fn write_wav(path: impl AsRef<Path>, audio: &Audio, format: WavFormat) -> Result<()> {
    let mut writer = WavWriter::create(path, 1, audio.rate(), format)?;
    writer.write(audio.samples())?;
    writer.finish()
}

fn spec(channels: usize, rate: u32, format: WavFormat) -> Result<hound::WavSpec> {
    check_rate(rate)?;
    let sample_format = match format {
        WavFormat::I16 => hound::SampleFormat::Int,
        WavFormat::F32 => hound::SampleFormat::Float,
    };
    match u16::try_from(channels) {
        // The header gives the size of a frame and of a second in few bits; no sound comes near.
        Ok(channels @ 1..=256) => {
            Ok(hound::WavSpec { channels, sample_rate: rate, bits_per_sample: format.bits(), sample_format })
        }
        _ => Err(Error::argument(format!("{channels} channels: a WAV file has 1 to 256"))),
    }
}

fn into_io(e: hound::Error) -> io::Error {
    match e {
        hound::Error::IoError(e) => e,
        e => io::Error::other(e),
    }
}

fn unwritable(name: &str, e: io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot write {name}")).with_source(e)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_gibibytes_are_refused_beforehand() {
        let mut writer = WavWriter::in_memory(2, 48_000, WavFormat::F32).unwrap();
        writer.samples = MOST_DATA / 4 - 1;
        let e = writer.write(&[0.0, 0.0]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::LimitExceeded, "{e}");
        assert_eq!(writer.samples, MOST_DATA / 4 - 1);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_io_error() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let kind = WavFile(Part::nowhere());
        let spec = spec(1, 8000, WavFormat::I16).unwrap();
        let mut writer = WavWriter::build(Target::File(full), spec, WavFormat::I16, "a.wav".into(), kind).unwrap();
        let e = match writer.write(&[0.0; 100_000]) {
            Ok(()) => writer.finish().unwrap_err(),
            Err(e) => e,
        };
        assert_eq!(e.kind(), ErrorKind::Io);
        assert!(e.report().contains("a.wav") && e.report().contains("No space"), "{e:?}");
    }
}
