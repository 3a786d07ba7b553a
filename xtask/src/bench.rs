//! `cargo xtask bench`: every benchmark, in one table that says on what machine it was made.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::python;
use crate::shell::{Project, output, run as build, watch};

/// The suites, in the order of the table. Each is a process of its own, so that its memory is its own.
const SUITES: [&str; 8] = ["sound", KERNELS, "micro", "micro-dub", "server", "real", "real-dub", PYTHON];

/// The one with a table of its own.
const KERNELS: &str = "kernels";

/// The one that is a program in Python.
const PYTHON: &str = "python";

/// Where the tables are kept, that of the kernels by itself, and what each stands between.
const PLACE: &str = "docs/performance.md";
const PLACE_OF_KERNELS: &str = "docs/kernels.md";
const BEGIN: &str = "<!-- measured: `cargo xtask bench --write` replaces what is between -->\n";
const END: &str = "<!-- end of what was measured -->\n";

/// Runs the suites named, or all, and prints the tables; `write` puts them into docs/performance.md and docs/kernels.md.
pub(crate) fn run(project: &Project, named: &[String], write: bool) -> Result<()> {
    if let Some(unknown) = named.iter().find(|n| !SUITES.contains(&n.as_str())) {
        bail!("there is no benchmark {unknown:?}; there are {}", SUITES.join(", "));
    }
    let alone = named == [KERNELS];
    ensure!(
        !write || named.is_empty() || alone,
        "--write wants all benchmarks, or {KERNELS}: a part would replace a whole table"
    );
    let began = Instant::now();
    let program = program(project)?;
    let machine = machine(project)?;
    let (mut rows, mut notes, mut kernels) = (Vec::new(), Vec::new(), Vec::new());
    for suite in SUITES.iter().filter(|s| named.is_empty() || named.iter().any(|n| n == *s)) {
        let mut measure = match *suite {
            PYTHON => python::program(project, "benches/python/measure.py")?,
            _ => project.command(&program),
        };
        let (status, lines) = watch(measure.arg("measure").arg(suite))?;
        ensure!(status.success(), "the benchmark {suite} failed ({status})");
        for line in &lines {
            if let Some(kernel) = line.strip_prefix("kernel ") {
                kernels.push(kernel_of(&serde_json::from_str(kernel)?)?);
            } else if let Some(row) = line.strip_prefix("row ").filter(|_| *suite != KERNELS) {
                rows.push(row_of(&serde_json::from_str(row)?)?);
            } else if let Some(note) = line.strip_prefix("note ") {
                notes.push(format!("- {note}\n"));
            }
        }
    }
    ensure!(!rows.is_empty() || alone, "nothing was measured");
    let head = "| | median | 95 % of the median | by second of sound | processor | peak memory |\n|---|---|---|---|---|---|\n";
    let stages = format!("{machine}\n\n{head}{}\n{}", rows.concat(), notes.concat());
    let head =
        "| | numbers | instructions | G/s | of the peak | memory, GB/s | times candle's f32 |\n|---|---|---|---|---|---|---|\n";
    let kernels = (!kernels.is_empty()).then(|| format!("{machine}\n\n{head}{}", kernels.concat()));
    println!("\n{stages}\n{}\n{:.0} s", kernels.as_deref().unwrap_or_default(), began.elapsed().as_secs_f64());
    if write {
        if !alone {
            keep(project, PLACE, &stages)?;
        }
        kernels.map_or(Ok(()), |kernels| keep(project, PLACE_OF_KERNELS, &kernels))?;
    }
    Ok(())
}

/// Puts a table into its document.
fn keep(project: &Project, place: &str, measured: &str) -> Result<()> {
    let path = project.root.join(place);
    let text = std::fs::read_to_string(&path).with_context(|| format!("there is no {place}"))?;
    std::fs::write(&path, replaced(&text, measured).with_context(|| format!("{place} has no place for its table"))?)?;
    println!("written into {place}");
    Ok(())
}

/// The program that measures, built.
pub(crate) fn program(project: &Project) -> Result<PathBuf> {
    build(project.cargo("build").args(["--release", "--package", "dubcore-bench"]))?;
    Ok(project.target.join("release/dubcore-bench"))
}

fn number(row: &Value, key: &str) -> Result<f64> {
    row[key].as_f64().with_context(|| format!("a row has no {key}: {row}"))
}

fn text<'a>(row: &'a Value, key: &str) -> Result<&'a str> {
    row[key].as_str().with_context(|| format!("a row has no {key}: {row}"))
}

/// A row of the table.
fn row_of(row: &Value) -> Result<String> {
    let (number, text) = (|key| number(row, key), |key| text(row, key));
    let median = number("median")?;
    let ratio = row["audio"].as_f64().map_or(String::new(), |audio| format!("{:.4}", median / audio));
    let (low, high) = (time(number("low")?), time(number("high")?));
    let peak = number("peak")? / 1e6;
    Ok(format!(
        "| {}: {} | {} | {low} to {high} | {ratio} | {} | {peak:.0} MB |\n",
        text("group")?,
        text("name")?,
        time(median),
        time(number("cpu")?)
    ))
}

/// A row of the kernels' table.
fn kernel_of(row: &Value) -> Result<String> {
    let (number, text) = (|key| number(row, key), |key| text(row, key));
    let share = row["peak"].as_f64().map_or(String::new(), |share| format!("{:.0} %", 100.0 * share));
    Ok(format!(
        "| {} | {} | {} | {:.1} | {share} | {:.1} | {:.2} |\n",
        text("name")?,
        text("numbers")?,
        text("set")?,
        number("rate")?,
        number("memory")?,
        number("ratio")?
    ))
}

/// A time in the unit that leaves three digits or so.
fn time(seconds: f64) -> String {
    match seconds {
        s if s >= 1.0 => format!("{s:.2} s"),
        s if s >= 0.1 => format!("{:.0} ms", s * 1e3),
        s if s >= 0.001 => format!("{:.1} ms", s * 1e3),
        s if s >= 1e-5 => format!("{:.0} µs", s * 1e6),
        s => format!("{:.2} µs", s * 1e6),
    }
}

/// What the numbers are worth.
fn machine(project: &Project) -> Result<String> {
    let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = file("/proc/cpuinfo");
    let field = |name: &str| {
        let line = cpu.lines().find(|l| l.starts_with(name));
        line.and_then(|l| l.split_once(':')).map_or("unknown", |(_, value)| value.trim()).to_string()
    };
    let flags = field("flags");
    let known = ["avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8"];
    let have: Vec<_> = known.into_iter().filter(|k| flags.split(' ').any(|f| f == *k)).collect();
    let cores = std::thread::available_parallelism()?;
    let memory = file("/proc/meminfo");
    let total = memory.lines().find_map(|l| l.strip_prefix("MemTotal:")).unwrap_or_default();
    let gigabytes = total.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) * 1024.0 / 1e9;
    let load = file("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("unknown").to_string();
    let line = |command: &mut std::process::Command| Ok::<_, anyhow::Error>(output(command)?.trim().to_string());
    let rustc = line(project.command("rustc").arg("--version"))?;
    let date = line(project.command("date").args(["-u", "+%F"]))?;
    Ok(format!(
        "{date}. {} (family {}, model {}), {cores} cores, {gigabytes:.0} GB; of {}: {}. {rustc}, release profile. Load of the \
         machine before: {load}.",
        field("model name"),
        field("cpu family"),
        field("model\t"),
        known.join(", "),
        if have.is_empty() { "none".to_string() } else { have.join(", ") },
    ))
}

/// The document with another measurement.
fn replaced(text: &str, measured: &str) -> Result<String> {
    let (before, rest) = text.split_once(BEGIN).with_context(|| format!("there is no line {BEGIN:?}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("there is no line {END:?}"))?;
    Ok(format!("{before}{BEGIN}\n{}\n\n{END}{after}", measured.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_their_units() {
        let row = serde_json::json!({
            "group": "micro", "name": "speak", "median": 0.05, "low": 0.0004, "high": 2.5, "audio": 2.0, "peak": 3e8, "cpu": 0.2,
        });
        assert_eq!(row_of(&row).unwrap(), "| micro: speak | 50.0 ms | 400 µs to 2.50 s | 0.0250 | 200 ms | 300 MB |\n");
        let mut quiet = row.clone();
        quiet["audio"] = Value::Null;
        assert!(row_of(&quiet).unwrap().contains(" 2.50 s |  | 200 ms"));
        assert!(row_of(&Value::Null).is_err());
        let kernel = serde_json::json!({
            "name": "1 x 2 x 3", "numbers": "f32", "set": "avx2", "rate": 190.64, "peak": 0.731, "memory": 0.31, "ratio": 1.207,
        });
        assert_eq!(kernel_of(&kernel).unwrap(), "| 1 x 2 x 3 | f32 | avx2 | 190.6 | 73 % | 0.3 | 1.21 |\n");
        assert!(kernel_of(&Value::Null).is_err());
    }

    #[test]
    fn only_what_was_measured_is_replaced() {
        let text = format!("a\n{BEGIN}old\n{END}b\n");
        let new = replaced(&text, "new\n").unwrap();
        assert_eq!(new, format!("a\n{BEGIN}\nnew\n\n{END}b\n"));
        assert_eq!(replaced(&new, "new").unwrap(), new);
        assert!(replaced("a", "new").is_err());
    }
}
