//! Time, processor time and memory of this process, and the rows of the table.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use criterion::{BenchmarkId, Criterion, SamplingMode};
use serde_json::{Value, json};

/// The most memory that this process had since [`forget_peak`], in bytes; 0 where the system does not tell.
pub fn peak_rss() -> u64 {
    status("VmHWM:")
}

/// The memory that it has now.
pub fn rss() -> u64 {
    status("VmRSS:")
}

fn status(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix(key));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Lets [`peak_rss`] begin anew. Where the system cannot, the peak stays that of the whole process.
pub fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Processor time of this process so far, all threads together; 0 where the system does not tell.
pub fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in brackets may hold spaces; user and system time are the 12th and 13th fields behind it, in hundredths.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// criterion, and the rows that its measurements become.
pub struct Meter {
    criterion: Criterion,
    results: PathBuf,
}

/// What is measured, beside its name.
#[derive(Clone, Copy)]
pub struct Row {
    /// Seconds of sound that one round takes in or gives out, where there is sound.
    pub audio: Option<f64>,
    /// How long to measure.
    pub time: Duration,
}

impl Row {
    /// Measured for some seconds.
    pub fn new(seconds: u64) -> Self {
        Self { audio: None, time: Duration::from_secs(seconds) }
    }

    /// With the sound that a round handles.
    #[must_use]
    pub fn audio(self, seconds: f64) -> Self {
        Self { audio: Some(seconds), ..self }
    }
}

impl Meter {
    /// Ready to measure.
    pub fn new() -> Result<Self> {
        let results = crate::target_dir()?.join("criterion");
        Ok(Self { criterion: Criterion::default().output_directory(&results), results })
    }

    /// Times `work`, which is told how many rounds to do and says how long they took, and prints the row: a line of JSON
    /// behind the word `row`.
    pub fn rounds(&mut self, group: &str, name: &str, row: Row, mut work: impl FnMut(u64) -> Duration) -> Result<()> {
        forget_peak();
        let before = cpu_seconds();
        let mut done = 0;
        let mut timed = self.criterion.benchmark_group(group);
        timed
            .sample_size(10)
            .sampling_mode(SamplingMode::Flat)
            .warm_up_time(Duration::from_millis(200))
            .measurement_time(row.time);
        timed.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter_custom(|rounds| {
                done += rounds;
                work(rounds)
            });
        });
        timed.finish();
        let (low, median, high) = self.median(group, name)?;
        let printed = json!({
            "group": group, "name": name, "median": median, "low": low, "high": high, "audio": row.audio,
            "peak": peak_rss(), "cpu": (cpu_seconds() - before) / done.max(1) as f64,
        });
        println!("row {printed}");
        Ok(())
    }

    /// Times one round of `work` after the other.
    pub fn each<R>(&mut self, group: &str, name: &str, row: Row, mut work: impl FnMut() -> R) -> Result<()> {
        self.rounds(group, name, row, |rounds| {
            let began = std::time::Instant::now();
            (0..rounds).for_each(|_| drop(std::hint::black_box(work())));
            began.elapsed()
        })
    }

    /// The median that criterion found, in seconds, and the bounds of its confidence.
    fn median(&self, group: &str, name: &str) -> Result<(f64, f64, f64)> {
        let path = self.results.join(group).join(name).join("new/estimates.json");
        let text = std::fs::read(&path).with_context(|| format!("criterion left no {}", path.display()))?;
        let median: Value = serde_json::from_slice::<Value>(&text)?["median"].take();
        let of = |v: &Value| v.as_f64().map(|nanos| nanos / 1e9).context("criterion's estimates have no median");
        let interval = &median["confidence_interval"];
        Ok((of(&interval["lower_bound"])?, of(&median["point_estimate"])?, of(&interval["upper_bound"])?))
    }
}
