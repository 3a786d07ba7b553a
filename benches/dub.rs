//! The whole dub of each sample clip on the embedded models: `cargo bench --bench dub`.
//!
//! Beside criterion's figures it prints what the README quotes: the real-time factor (median time of a dub by the length
//! of the clip, models already loaded), the processor time of a dub, which other work on the machine changes least, and the
//! most memory that the process had so far. The shorter clip comes first, so that its memory is its own.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode};
use dubcore::{Dub, DubModels, DubRequest, Dubber, Factory, Job, Lang, Output, Pipeline, Result};

const CLIPS: [&str; 2] = ["kitchen.wav", "station.mp4"];

/// One dub, from the file to a finished track in memory.
fn dub(dubber: &Dubber, clip: &Path) -> Result<Dub> {
    dubber.start(DubRequest::new(clip.to_path_buf(), Lang::ES).output(Output::Memory), Job::new())?.finish()
}

fn main() -> Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    let began = Instant::now();
    let dubber = Dubber::from_factory(Factory::global()?, &DubModels::default(), Some(Lang::EN), Lang::ES, &Job::new())?;
    println!("models loaded in {:.2} s, peak memory {} MB", began.elapsed().as_secs_f64(), peak_rss() / 1_000_000);

    let mut group = criterion.benchmark_group("dub");
    // A dub takes seconds: ten of them tell enough.
    group.sample_size(10).sampling_mode(SamplingMode::Flat).warm_up_time(Duration::from_millis(100));
    group.measurement_time(Duration::from_secs(20));
    let mut summary = Vec::new();
    for name in CLIPS {
        let clip = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/media").join(name);
        let (mut took, mut last, busy) = (Vec::new(), None, cpu_seconds());
        group.bench_function(name, |b| {
            b.iter(|| {
                let began = Instant::now();
                last = Some(dub(&dubber, black_box(&clip)));
                took.push(began.elapsed());
            });
        });
        // Nothing ran if a filter left it out.
        if let Some(last) = last {
            let cpu = (cpu_seconds() - busy) / took.len() as f64;
            summary.push(line(name, &last?, took, cpu));
        }
    }
    group.finish();
    criterion.final_summary();
    summary.iter().for_each(|s| println!("{s}"));
    Ok(())
}

fn line(name: &str, dub: &Dub, mut took: Vec<Duration>, cpu: f64) -> String {
    took.sort();
    let (media, median, best) = (dub.duration.as_secs_f64(), took[took.len() / 2].as_secs_f64(), took[0].as_secs_f64());
    let part = |t: Duration| 100.0 * t.as_secs_f64() / dub.times.total().as_secs_f64();
    let t = &dub.times;
    format!(
        "{name}: {media:.1} s, {} lines, dubbed in {median:.2} s (best {best:.2}, processor {cpu:.2}), \
         RTF {:.3} (best {:.3}, processor {:.3}); \
         listen {:.0} %, transcribe {:.0} %, translate {:.0} %, speak {:.0} %, mix {:.0} %; peak memory {} MB",
        dub.lines.len(),
        median / media,
        best / media,
        cpu / media,
        part(t.listen),
        part(t.transcribe),
        part(t.translate),
        part(t.speak),
        part(t.mix),
        peak_rss() / 1_000_000,
    )
}

/// Most memory this process ever had, in bytes; 0 where the system does not tell.
fn peak_rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Processor time of this process so far, all threads together; 0 where the system does not tell.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in brackets may hold spaces; user and system time are the 12th and 13th fields behind it, in hundredths.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}
