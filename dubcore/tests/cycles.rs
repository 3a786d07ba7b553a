//! Memory over a thousand loads: what is unloaded is given back. A test binary of its own, as memory is the whole process's.

#![cfg(target_os = "linux")]

use std::path::Path;

use dubcore::{Factory, Job, KeepAll, LoadOptions, ModelRef};

const CYCLES: usize = 1_000;
/// Before this, caches fill and heaps find their size.
const SETTLED: usize = 200;

/// Resident memory in MB.
fn rss() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 4096.0 / 1e6
}

/// The slope of a line through `points`, least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let over: f64 = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    over / points.iter().map(|p| (p.0 - x).powi(2)).sum::<f64>()
}

#[test]
fn memory_does_not_grow_with_loads() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let model = |name: &str| ModelRef::directory(fixtures.join(name));
    let models = [model("whisper/a"), model("marian/shared-relu"), model("vits/deterministic")];
    let factory = Factory::builder().policy(KeepAll).build().unwrap();
    let mut points = Vec::new();
    let (mut floor, mut loaded) = (f64::MAX, 0.0f64);
    for cycle in 0..CYCLES {
        for warm in factory.warm_up(&models, &LoadOptions::default(), &Job::new()) {
            warm.unwrap();
        }
        loaded = loaded.max(rss());
        factory.clear(&Job::new()).unwrap();
        if cycle >= SETTLED {
            points.push((cycle as f64, rss()));
            floor = floor.min(rss());
        }
    }
    let slope = slope(&points);
    println!("{CYCLES} cycles of three models: {slope:.5} MB per cycle, {floor:.1} MB without models, {loaded:.1} MB with them");
    assert_eq!(factory.status().loads, 3 * CYCLES as u64);
    assert!(slope <= 0.1, "{slope} MB per cycle");
}
