//! The group `tree`: rules about files that no other tool checks.

use anyhow::Result;

use crate::Tally;
use crate::shell::{Project, output};

/// A file longer than this does more than one thing.
const LONGEST: usize = 800;

/// What a clone must have.
const EXPECTED: &[&str] =
    &["CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT", "README.md", "include/dubcore.h", "python/dubcore/py.typed"];

/// Where files lie on the machine of whoever wrote them (split, so that this file is not one of those that name them).
const PRIVATE: &[&str] = &[concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/Us", "ers/")];

pub(crate) fn check(project: &Project) -> Result<Tally> {
    let listed = output(project.command("git").args(["ls-files", "-z"]))?;
    let mut tally = Tally::default();
    for name in listed.split_terminator('\0') {
        // A tracked file may be deleted in the working tree: git will tell.
        let Ok(bytes) = std::fs::read(project.root.join(name)) else { continue };
        let faults = faults(name, &bytes);
        match faults.is_empty() {
            true => tally.passed += 1,
            false => faults.into_iter().for_each(|f| tally.fail(format!("{name}: {f}"))),
        }
    }
    for name in EXPECTED {
        if !project.root.join(name).is_file() {
            tally.fail(format!("{name} is missing"));
        }
    }
    Ok(tally)
}

fn faults(name: &str, bytes: &[u8]) -> Vec<String> {
    // Weights and sounds are not text, and have no lines.
    let Ok(text) = std::str::from_utf8(bytes) else { return Vec::new() };
    let mut faults = Vec::new();
    let lines = text.lines().count();
    if name.ends_with(".rs") && lines > LONGEST {
        faults.push(format!("{lines} lines, over {LONGEST}: split it"));
    }
    for place in PRIVATE {
        if text.contains(place) {
            faults.push(format!("names {place}, a place on one machine"));
        }
    }
    if text.lines().any(|l| l.starts_with("<<<<<<< ") || l.starts_with(">>>>>>> ")) {
        faults.push("has an unresolved merge".into());
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_found() {
        assert!(faults("a.rs", b"fn main() {}\n").is_empty());
        assert!(faults("weights", b"\xff\xfe").is_empty());
        assert_eq!(faults("a.rs", "x\n".repeat(LONGEST + 1).as_bytes()).len(), 1);
        assert_eq!(faults("a.md", format!("see {}x", PRIVATE[0]).as_bytes()).len(), 1);
    }
}
