//! How long calls take, counted without a lock; and all figures of a factory as Prometheus reads them.

use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use super::FactoryStatus;
use crate::device::DeviceMemory;
use crate::sync::{AtomicU64, Ordering};

/// Bounds of the buckets grow by this factor from a millisecond on.
const GROWTH: f64 = 1.25;
/// The last bound is about an hour.
const BUCKETS: usize = 68;

/// Calls of one kind of stage, by how long they took.
pub(super) struct Latency {
    buckets: [AtomicU64; BUCKETS + 1],
    nanos: AtomicU64,
    failed: AtomicU64,
    longest: AtomicU64,
}

/// How the calls of one kind of stage went, since the factory was made.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CallStatus {
    /// `stt`, `translator` or `tts`.
    pub stage: String,
    /// Calls that ended, failed ones included.
    pub calls: u64,
    /// Those that failed, for whatever reason.
    pub failed: u64,
    /// The time that all of them took together, waiting for a turn or a load included.
    pub total: Duration,
    /// Half of them took less, to about a tenth.
    pub p50: Duration,
    /// Nine of ten took less.
    pub p90: Duration,
    /// Ninety-nine of a hundred took less.
    pub p99: Duration,
    /// The longest.
    pub longest: Duration,
}

fn bound(bucket: usize) -> Duration {
    Duration::from_secs_f64(0.001 * GROWTH.powi(bucket as i32))
}

impl Latency {
    pub(super) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self { buckets: std::array::from_fn(|_| zero()), nanos: zero(), failed: zero(), longest: zero() }
    }

    pub(super) fn add(&self, time: Duration, failed: bool) {
        let place = (0..BUCKETS).find(|i| time <= bound(*i)).unwrap_or(BUCKETS);
        self.buckets[place].fetch_add(1, Ordering::AcqRel);
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::AcqRel);
        self.longest.fetch_max(nanos, Ordering::AcqRel);
        self.failed.fetch_add(failed.into(), Ordering::AcqRel);
    }

    pub(super) fn status(&self, stage: &str) -> CallStatus {
        let counts: Vec<u64> = self.buckets.iter().map(|b| b.load(Ordering::Acquire)).collect();
        let calls: u64 = counts.iter().sum();
        let longest = Duration::from_nanos(self.longest.load(Ordering::Acquire));
        let below = |part: f64| {
            let rank = (calls as f64 * part).ceil() as u64;
            let mut seen = 0;
            let place = counts.iter().position(|n| {
                seen += n;
                seen >= rank.max(1)
            });
            place.map_or(Duration::ZERO, |i| bound(i).min(longest))
        };
        CallStatus {
            stage: stage.into(),
            calls,
            failed: self.failed.load(Ordering::Acquire),
            total: Duration::from_nanos(self.nanos.load(Ordering::Acquire)),
            p50: below(0.5),
            p90: below(0.9),
            p99: below(0.99),
            longest,
        }
    }
}

impl FactoryStatus {
    /// The same figures in the text format of Prometheus, to be served by the host under `/metrics`, say.
    ///
    /// ```
    /// # fn main() -> dubcore::Result<()> {
    /// let text = dubcore::Factory::global()?.status().prometheus();
    /// assert!(text.contains("\ndubcore_loads_total "));
    /// # Ok(())
    /// # }
    /// ```
    pub fn prometheus(&self) -> String {
        let mut page = Page(String::new());
        page.metric("dubcore_weights_bytes", "gauge", "Bytes of the weights that are loaded.", [("", self.bytes as f64)]);
        let resident = self.memory.resident.map(|bytes| ("", bytes as f64));
        page.metric("dubcore_process_resident_bytes", "gauge", "Bytes that the process occupies.", resident);
        let available = self.memory.available.map(|bytes| ("", bytes as f64));
        page.metric("dubcore_process_available_bytes", "gauge", "Bytes that it can still have.", available);
        let devices: Vec<_> = self.devices.iter().map(|d| (label("device", &d.device.to_string()), d)).collect();
        let each = |of: fn(&DeviceMemory) -> f64| devices.iter().map(move |(l, d)| (l.as_str(), of(d)));
        page.metric("dubcore_device_weights_bytes", "gauge", "Bytes of weights on a device.", each(|d| d.weights as f64));
        page.metric("dubcore_device_requests_bytes", "gauge", "Bytes that calls hold on it.", each(|d| d.requests as f64));
        page.metric("dubcore_device_used", "gauge", "The part of its memory that is taken.", each(DeviceMemory::used));
        page.metric("dubcore_loads_total", "counter", "Models loaded, failed loads included.", [("", self.loads as f64)]);
        page.metric("dubcore_evictions_total", "counter", "Models evicted or unloaded.", [("", self.evictions as f64)]);
        let waiting: usize = self.loading.iter().map(|l| l.waiting).sum();
        page.metric("dubcore_loading", "gauge", "Models that are being loaded.", [("", self.loading.len() as f64)]);
        page.metric("dubcore_waiting_for_load", "gauge", "Calls that wait for a load.", [("", waiting as f64)]);
        let residents: Vec<_> = self.residents.iter().map(|r| (label("model", &r.key.to_string()), r)).collect();
        let each = |of: fn(&super::ResidentStatus) -> f64| residents.iter().map(move |(l, r)| (l.as_str(), of(r)));
        page.metric("dubcore_model_bytes", "gauge", "Bytes of a model's weights.", each(|r| r.bytes as f64));
        page.metric("dubcore_model_in_use", "gauge", "Calls that use a model now.", each(|r| r.in_use as f64));
        page.metric("dubcore_model_waiting", "gauge", "Calls that wait for their turn.", each(|r| r.waiting as f64));
        page.metric("dubcore_model_idle_seconds", "gauge", "How long a model was not used.", each(|r| r.idle.as_secs_f64()));
        let stages: Vec<_> = self.calls.iter().map(|c| (label("stage", &c.stage), c)).collect();
        let each = |of: fn(&CallStatus) -> f64| stages.iter().map(move |(l, c)| (l.as_str(), of(c)));
        page.metric("dubcore_calls_total", "counter", "Calls that ended.", each(|c| c.calls as f64));
        page.metric("dubcore_calls_failed_total", "counter", "Calls that failed.", each(|c| c.failed as f64));
        page.metric("dubcore_call_seconds_total", "counter", "Time that calls took.", each(|c| c.total.as_secs_f64()));
        let percentiles: Vec<_> = stages
            .iter()
            .flat_map(|(l, c)| {
                [("0.5", c.p50), ("0.9", c.p90), ("0.99", c.p99)].map(|(q, t)| (format!("{l},quantile=\"{q}\""), t))
            })
            .collect();
        let each = percentiles.iter().map(|(l, t)| (l.as_str(), t.as_secs_f64()));
        page.metric("dubcore_call_seconds", "gauge", "How long calls take, by percentile since the start.", each);
        if let Some(r) = &self.results {
            page.metric("dubcore_results", "gauge", "Results in memory.", [("", r.entries as f64)]);
            page.metric("dubcore_results_bytes", "gauge", "Bytes of the results in memory.", [("", r.bytes as f64)]);
            page.metric("dubcore_results_hits_total", "counter", "Results found.", [("", r.hits as f64)]);
            page.metric("dubcore_results_misses_total", "counter", "Results computed.", [("", r.misses as f64)]);
            page.metric("dubcore_results_evictions_total", "counter", "Results dropped.", [("", r.evictions as f64)]);
            page.metric("dubcore_results_disk_failures_total", "counter", "Failed writes.", [("", r.disk_failures as f64)]);
        }
        page.0
    }
}

fn label(name: &str, value: &str) -> String {
    format!("{name}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

struct Page(String);

impl Page {
    /// One metric with its values by label.
    fn metric<'a>(&mut self, name: &str, kind: &str, help: &str, values: impl IntoIterator<Item = (&'a str, f64)>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in values {
            let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
            let _ = writeln!(self.0, "{name}{labels} {value}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_calls_to_a_quarter() {
        let latency = Latency::new();
        assert_eq!(latency.status("stt"), CallStatus { stage: "stt".into(), ..CallStatus::default() });
        for ms in 1..=1_000u64 {
            latency.add(Duration::from_millis(ms), ms % 10 == 0);
        }
        let s = latency.status("stt");
        assert_eq!((s.calls, s.failed, s.longest), (1_000, 100, Duration::from_secs(1)));
        assert_eq!(s.total, Duration::from_millis(500_500));
        for (found, ms) in [(s.p50, 500.0), (s.p90, 900.0), (s.p99, 990.0)] {
            let found = found.as_secs_f64() * 1e3;
            assert!((ms..=ms * GROWTH).contains(&found), "{found} for {ms}");
        }
        latency.add(Duration::from_secs(100_000), false);
        latency.add(Duration::ZERO, false);
        assert_eq!(latency.status("stt").longest, Duration::from_secs(100_000));
        assert!(bound(BUCKETS - 1) > Duration::from_secs(2_400));
    }

    #[test]
    fn labels_are_escaped() {
        assert_eq!(label("model", "./a\"b\\c\nd"), r#"model="./a\"b\\c\nd""#);
    }
}
