//! The blocks of docs/c.md are programs, or parts of them that compile by themselves.

use anyhow::{Context, Result, ensure};

use super::place::{Compiler, Linking, Place};
use crate::Tally;
use crate::shell::{Project, run};

pub(super) fn check(project: &Project, place: &Place<'_>, tally: &mut Tally) -> Result<()> {
    let text = std::fs::read_to_string(project.root.join("docs/c.md")).context("docs/c.md")?;
    let blocks = blocks(&text);
    ensure!(
        blocks.iter().any(|(kind, ..)| *kind == "c") && blocks.iter().any(|(kind, ..)| *kind == "cpp"),
        "docs/c.md shows nothing"
    );
    for (kind, line, code) in blocks {
        let compilers: &[Compiler] = match kind {
            "c" => &[Compiler::Gcc, Compiler::Clang],
            "cpp" => &[Compiler::Gxx, Compiler::Clangxx],
            _ => continue,
        };
        let source = place.write(&format!("docs-{line}.{kind}"), &code)?;
        for compiler in compilers {
            if code.contains(" main(") {
                place.compile(*compiler, Linking::Shared, &source, &["-pthread"])?;
            } else {
                run(place.compiler(*compiler).arg("-fsyntax-only").arg(&source))?;
            }
        }
        tally.check(format!("docs/c.md, line {line}, compiles"), true);
    }
    Ok(())
}

/// Kind, first line and text of each block.
fn blocks(text: &str) -> Vec<(&str, usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<(&str, usize, String)> = None;
    for (number, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(kind)) => open = Some((kind, number + 2, String::new())),
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some((.., code)), None) => *code += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found() {
        assert_eq!(blocks("a\n```c\nint x;\n```\nb\n```sh\nls\n```\n"), [("c", 3, "int x;\n".into()), ("sh", 7, "ls\n".into())]);
    }
}
