//! The group `coverage`: how many lines of the library the tests reach.

use anyhow::{Context, Result};

use crate::Tally;
use crate::rust::HEADER;
use crate::shell::{Project, output, run, works};

const CARGO_LLVM_COV: &str = "0.6.21";

/// Below this, tests are missing. What is not reached is mostly what only a lack of memory or a full disk brings about.
const LEAST: f64 = 90.0;

/// Prints the lines of each file of the library that no test reaches, and the sum.
pub(crate) fn coverage(project: &Project) -> Result<Tally> {
    if !works(project.command("rustup").args(["component", "add", "llvm-tools"])) {
        anyhow::bail!("coverage needs the compiler's own llvm-tools: rustup component add llvm-tools");
    }
    let program = project.tool("cargo-llvm-cov", CARGO_LLVM_COV)?;
    let cov = || {
        let mut command = project.command(&program);
        // Its own build: the instrumented one is no use to anyone else.
        command.arg("llvm-cov").env("CARGO_TARGET_DIR", project.target.join("coverage"));
        command
    };
    // The bindings are reached from their own languages.
    let others = "(/|^)(models|xtask|loom|benches|examples|dubcore-c|dubcore-py)/";
    // What a forked child reaches is not counted, and files that are cut off at every byte reach the same lines a thousand
    // times: instrumented, each takes a quarter of an hour.
    let skipped = ["--", "--skip", "children_finish_their_dubs", "--skip", "damage::", "--skip", HEADER];
    run(cov().args(["--workspace", "--lib", "--tests", "--no-report"]).args(skipped))?;
    let table = output(cov().args(["report", "--ignore-filename-regex", others]))?;
    println!("{table}");
    let lines = lines_covered(&table).context("the report has no total")?;
    let mut tally = Tally::default();
    tally.check(format!("{lines} % of the lines are reached, at least {LEAST} %"), lines >= LEAST);
    Ok(tally)
}

/// The percentage of lines in the report's last row: regions, functions, lines, each with their number, how many are missed
/// and the percentage of the others.
fn lines_covered(table: &str) -> Option<f64> {
    let total = table.lines().find(|l| l.starts_with("TOTAL"))?;
    let percent = total.split_whitespace().filter_map(|word| word.strip_suffix('%')).nth(2)?;
    percent.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_found() {
        let table = "Filename  Regions  Missed  Cover  Functions  Missed  Executed  Lines  Missed  Cover  Branches\n\
                     a.rs      10       1       90.00% 2          0       100.00%   20     1       95.00% 0\n\
                     TOTAL     10       1       90.00% 2          0       100.00%   20     1       95.50% 0   0   -\n";
        assert_eq!(lines_covered(table), Some(95.5));
        assert_eq!(lines_covered("nothing"), None);
    }
}
