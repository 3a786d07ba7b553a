//! Dubs a media file: `cargo run --release --example dub -- INPUT --to es`.
//!
//! Writes INPUT.es.wav, .srt, .vtt and .json, and the original's subtitles, and prints the lines.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use comfy_table::{Cell, ContentArrangement, Table, presets};
use dubcore::media::{Input, Limits, Reader};
use dubcore::{
    ComputeType, Dub, DubModels, DubRequest, Dubber, Error, Factory, Job, Lang, Line, LoadOptions, ModelRef, Pipeline, Span,
};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Dub a media file into another language.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The media file: WAV, MP3, FLAC, OGG, M4A, MP4, MOV, MKV, WebM and others.
    input: PathBuf,
    /// The language to dub into.
    #[arg(long)]
    to: Lang,
    /// Which of several sound tracks, counted from zero; by default the one that is marked, or the first.
    #[arg(long)]
    track: Option<usize>,
    /// The language of the media; found out if the recogniser can.
    #[arg(long)]
    from: Option<Lang>,
    /// The folder to write to; the input's by default.
    #[arg(short, long)]
    out: Option<PathBuf>,
    /// The recogniser: micro/NAME, ./DIR or OWNER/NAME[@REVISION].
    #[arg(long)]
    stt: Option<ModelRef>,
    /// The translator.
    #[arg(long)]
    mt: Option<ModelRef>,
    /// The voice.
    #[arg(long)]
    tts: Option<ModelRef>,
    /// In which numbers the models compute: auto, f32, bf16 or int8.
    #[arg(long, default_value_t)]
    compute_type: ComputeType,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error ({}): {}", e.kind(), e.report());
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Error> {
    let began = Instant::now();
    let models = DubModels::default().stt(args.stt.clone()).translator(args.mt.clone()).tts(args.tts.clone());
    let models = models.load(LoadOptions::default().compute_type(args.compute_type));
    let dubber = Dubber::from_factory(Factory::global()?, &models, args.from, args.to, &Job::new())?;
    let loaded = began.elapsed();

    let folder = args.out.clone().unwrap_or_else(|| args.input.parent().unwrap_or(Path::new("")).to_path_buf());
    let stem = args.input.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    // The input is looked at before a folder is made for the output.
    let input = Input::from(args.input.as_path());
    let input = match args.track {
        Some(index) => input.track(index),
        None => input,
    };
    Reader::open(&input, &Limits::default())?;
    if !folder.as_os_str().is_empty() {
        std::fs::create_dir_all(&folder).map_err(|e| {
            Error::new(dubcore::ErrorKind::Io, format!("cannot make the folder {}", folder.display())).with_source(e)
        })?;
    }
    let request = DubRequest::new(input, args.to).from(args.from).output(folder.join(format!("{stem}.{}.wav", args.to)));

    let bars = Bars::default();
    let job = Job::new().observe({
        let bars = bars.clone();
        move |progress| bars.show(&progress.parts)
    });
    let mut run = dubber.start(request, job)?;
    for line in &mut run {
        match line {
            Ok(line) => bars.say(&format!("{}  {}", time(line.source.span.start), line.text)),
            Err(e) => bars.say(&format!("a line failed ({}): {}", e.kind(), e.report())),
        }
    }
    let mut dub = run.finish()?;
    bars.clear();

    let mut report = dub.report();
    let wall = began.elapsed();
    report["times"]["load"] = loaded.as_secs_f64().into();
    report["times"]["wall"] = wall.as_secs_f64().into();
    report["peak_rss_bytes"] = peak_rss().into();
    dub.save_report(&folder, &stem, &report)?;
    print(&dub, wall);
    Ok(())
}

fn print(dub: &Dub, wall: Duration) {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["time", dub.from.name(), dub.to.name(), "speed"]);
    for Line { source, text, placement, .. } in &dub.lines {
        let speed = placement.map_or(String::new(), |p| format!("{:.2}{}", p.speed, if p.overflow { " !" } else { "" }));
        table.add_row([Cell::new(span(source.span)), Cell::new(&source.text), Cell::new(text), Cell::new(speed)]);
    }
    println!("{table}");
    for failed in &dub.failed {
        println!("line {} failed: {}", failed.index, failed.error);
    }
    let times = dub.times;
    println!(
        "{:.1} s of media in {:.1} s (RTF {:.2}): transcribe {:.1}, translate {:.1}, speak {:.1}, mix {:.1}; peak memory {} MB",
        dub.duration.as_secs_f64(),
        wall.as_secs_f64(),
        wall.as_secs_f64() / dub.duration.as_secs_f64().max(1e-9),
        times.transcribe.as_secs_f64(),
        times.translate.as_secs_f64(),
        times.speak.as_secs_f64(),
        times.mix.as_secs_f64(),
        peak_rss() / 1_000_000,
    );
    for file in &dub.files {
        println!("wrote {}", file.display());
    }
}

/// A progress bar per stage.
#[derive(Clone, Default)]
struct Bars {
    all: MultiProgress,
    bars: std::sync::Arc<std::sync::Mutex<Vec<ProgressBar>>>,
}

impl Bars {
    fn show(&self, parts: &[(String, f64)]) {
        let mut bars = self.bars.lock().unwrap_or_else(|e| e.into_inner());
        for (i, (name, fraction)) in parts.iter().enumerate() {
            if i == bars.len() {
                let style = ProgressStyle::with_template("{msg:>10} [{bar:40}] {percent:>3} %")
                    .unwrap_or_else(|_| ProgressStyle::default_bar());
                bars.push(self.all.add(ProgressBar::new(1_000).with_style(style).with_message(name.clone())));
            }
            bars[i].set_position((fraction * 1_000.0) as u64);
        }
    }

    fn say(&self, text: &str) {
        // Nothing is lost if the terminal went away: the lines are in the table and the files.
        let _ = self.all.println(text);
    }

    fn clear(&self) {
        let _ = self.all.clear();
    }
}

fn span(span: Span) -> String {
    format!("{} - {}", time(span.start), time(span.end))
}

fn time(at: Duration) -> String {
    let ms = at.as_millis();
    format!("{}:{:02}.{:02}", ms / 60_000, ms / 1_000 % 60, ms / 10 % 100)
}

/// Most memory this process ever had, in bytes; 0 where the system does not tell.
fn peak_rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}
