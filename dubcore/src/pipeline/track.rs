//! The second pass over the media: the track, mixed and written as the lines come.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::audio::Span;
use crate::error::{Error, ErrorKind, Result};
use crate::fit::Fitted;
use crate::media::{Reader, WavFile, WavWriter};
use crate::mix::Mixer;
use crate::runtime::Job;

use super::{DubRequest, Output};

pub(super) struct Track {
    reader: Reader,
    mixer: Mixer,
    sink: Sink,
    /// Frames read and not yet mixed, interleaved.
    frames: Vec<f32>,
    mixed: u64,
}

enum Sink {
    File(Box<WavWriter<WavFile>>, PathBuf),
    Memory(Box<WavWriter<std::io::Cursor<Vec<u8>>>>),
}

impl Track {
    /// Opens the media a second time and begins the output; `None` where no track is wanted.
    pub(super) fn open(request: &DubRequest) -> Result<Option<Self>> {
        if request.output == Output::Discard {
            return Ok(None);
        }
        let reader = Reader::open(&request.input, &request.limits)?;
        let (rate, channels) = (reader.rate(), reader.channels());
        let sink = match &request.output {
            Output::File(path) => {
                if same_file(path, request) {
                    return Err(Error::argument(format!("the output {} is the input: choose another name", path.display())));
                }
                Sink::File(Box::new(WavWriter::create(path, channels, rate, request.format)?), path.clone())
            }
            _ => Sink::Memory(Box::new(WavWriter::in_memory(channels, rate, request.format)?)),
        };
        Ok(Some(Self { reader, mixer: Mixer::new(rate, channels, &request.mix)?, sink, frames: Vec::new(), mixed: 0 }))
    }

    /// Adds a line in the place of the original's `span`, which is as loud as `level` says.
    pub(super) fn add(&mut self, span: Span, level: Option<f64>, line: &Fitted) -> Result<()> {
        self.mixer.push_line(span, level, line.start, &line.audio)
    }

    /// Mixes what no line beginning at or after `time` can change; `None` mixes all the rest.
    pub(super) fn advance(&mut self, time: Option<Duration>, job: &Job) -> Result<()> {
        let until = time.map_or(u64::MAX, |t| self.mixer.frames_before(t));
        let channels = self.reader.channels();
        while self.mixed < until {
            job.check()?;
            if self.frames.is_empty() && self.reader.read(&mut self.frames)? == 0 {
                break;
            }
            let wanted = usize::try_from(until - self.mixed).unwrap_or(usize::MAX).saturating_mul(channels);
            let ready = self.frames.len().min(wanted);
            self.mixer.process(&mut self.frames[..ready])?;
            match &mut self.sink {
                Sink::File(writer, _) => writer.write(&self.frames[..ready])?,
                Sink::Memory(writer) => writer.write(&self.frames[..ready])?,
            }
            self.mixed += (ready / channels) as u64;
            self.frames.drain(..ready);
        }
        Ok(())
    }

    /// Completes the output: the file written, or the bytes.
    pub(super) fn finish(self) -> Result<(Option<PathBuf>, Option<Vec<u8>>)> {
        match self.sink {
            Sink::File(writer, path) => {
                writer.finish()?;
                Ok((Some(path), None))
            }
            Sink::Memory(writer) => Ok((None, Some(writer.finish()?))),
        }
    }
}

fn same_file(output: &Path, request: &DubRequest) -> bool {
    let Some(input) = request.input.path() else { return false };
    matches!((input.canonicalize(), output.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// An output that cannot be written is told before anything is computed.
pub(super) fn check_output(request: &DubRequest) -> Result<()> {
    if let Output::File(path) = &request.output {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !folder.is_dir() {
            return Err(Error::new(ErrorKind::Io, format!("the folder {} does not exist: make it first", folder.display())));
        }
        if path.is_dir() {
            return Err(Error::new(ErrorKind::Io, format!("the output {} is a folder: name a file in it", path.display())));
        }
    }
    Ok(())
}
