//! Writes down what is said in media files: `cargo run --release --example transcribe -- talk.mp3 --stt openai/whisper-base`.
//!
//! Prints a line of text per file; with --json, a line of JSON that has the timed segments too.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use dubcore::media::{self, Input, Limits};
use dubcore::{ComputeType, Error, ErrorKind, Factory, Fallback, Job, Lang, LoadOptions, ModelRef, Stt, SttOptions};

/// Write down what is said in media files.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The media files: WAV, MP3, FLAC, OGG, M4A, MP4, MOV, MKV, WebM and others.
    #[arg(required = true)]
    input: Vec<PathBuf>,
    /// The recogniser: micro/NAME, ./DIR or OWNER/NAME[@REVISION].
    #[arg(long, default_value = "micro/stt-en")]
    stt: ModelRef,
    /// In which numbers it computes: auto, f32, bf16 or int8.
    #[arg(long, default_value_t)]
    compute_type: ComputeType,
    /// The language spoken; found out if the recogniser can.
    #[arg(long)]
    from: Option<Lang>,
    /// Which of several sound tracks, counted from zero; by default the one that is marked, or the first.
    #[arg(long)]
    track: Option<usize>,
    /// Print a line of JSON per file: file, language, text, segments, real_time_factor.
    #[arg(long)]
    json: bool,
    /// Beam width, 1 to 16; 1 is greedy, 0 what the model was made for.
    #[arg(long, default_value_t = 0)]
    beams: usize,
    /// Let the model cut the text into timed segments.
    #[arg(long)]
    timestamps: bool,
    /// Temperatures to be tried in turn, where the text is improbable or repeats itself: with 0 alone nothing is tried again.
    #[arg(long, value_delimiter = ',')]
    temperatures: Option<Vec<f64>>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("error ({}): {}", e.kind(), e.report());
            ExitCode::FAILURE
        }
    }
}

/// Whether every file could be transcribed: one that cannot does not lose the others.
fn run(args: &Args) -> Result<bool, Error> {
    let stt = Factory::global()?.stt(&args.stt, &LoadOptions::default().compute_type(args.compute_type), &Job::new())?;
    let mut opts = SttOptions::default().language(args.from).beams(args.beams).timestamps(args.timestamps);
    if let Some(temperatures) = &args.temperatures {
        opts = opts.fallback(Fallback::default().temperatures(temperatures.clone()));
    }
    let mut all = true;
    for file in &args.input {
        match transcribe(&*stt, file, &opts, args) {
            Ok(line) => writeln!(std::io::stdout(), "{line}")
                .map_err(|e| Error::new(ErrorKind::Io, "cannot write to standard output").with_source(e))?,
            Err(e) => {
                eprintln!("{}: error ({}): {}", file.display(), e.kind(), e.report());
                all = false;
            }
        }
    }
    Ok(all)
}

fn transcribe(stt: &dyn Stt, file: &Path, opts: &SttOptions, args: &Args) -> Result<String, Error> {
    let job = Job::new();
    let input = match args.track {
        Some(index) => Input::from(file).track(index),
        None => file.into(),
    };
    let audio = media::decode(&input, &Limits::default(), &job)?;
    let heard = stt.transcribe(&audio, opts, &job)?;
    if !args.json {
        return Ok(heard.text());
    }
    let line = serde_json::json!({
        "file": file,
        "language": heard.language,
        "text": heard.text(),
        "segments": heard.segments,
        "real_time_factor": heard.metadata.real_time_factor,
    });
    Ok(line.to_string())
}
