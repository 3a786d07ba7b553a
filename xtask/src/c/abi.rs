//! What programs were compiled against stays what it was. `dubcore-c/abi.txt` is the list; `BLESS=1 cargo xtask test c` writes it
//! anew.

use anyhow::{Context, Result};

use super::place::Place;
use crate::Tally;
use crate::shell::Project;

pub(super) fn check(project: &Project, place: &Place<'_>, tally: &mut Tally) -> Result<()> {
    let mut declared: Vec<_> = place.header.functions.iter().map(|f| f.name.clone()).collect();
    declared.sort();
    let exported = place.exported()?;
    let foreign: Vec<_> = exported.iter().filter(|n| !n.starts_with("dub_")).collect();
    tally.check(format!("the shared library exports only dub_*: {foreign:?}"), foreign.is_empty());
    tally.check(format!("it exports the {} functions of the header, and no others", declared.len()), exported == declared);

    let current = place.header.declarations.join("\n") + "\n";
    let path = project.root.join("dubcore-c/abi.txt");
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    if std::env::var_os("BLESS").is_some_and(|v| v == "1") {
        std::fs::write(&path, &current).with_context(|| path.display().to_string())?;
        return Ok(());
    }
    let gone: Vec<_> = committed.lines().filter(|line| !current.lines().any(|l| l == *line)).collect();
    let came: Vec<_> = current.lines().filter(|line| !committed.lines().any(|l| l == *line)).collect();
    for line in &gone {
        println!("- {line}");
    }
    for line in &came {
        println!("+ {line}");
    }
    let what = "the ABI is that of dubcore-c/abi.txt: where it grew on purpose, raise abi-version in dubcore-c/Cargo.toml, and \
                where what was there has changed, so-version too; then run `BLESS=1 cargo xtask test c`";
    tally.check(what, current == committed);
    Ok(())
}
