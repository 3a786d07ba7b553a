//! Where C programs are built: an installation, and folders for what they write.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::header::{Header, parse};
use crate::install::{SYSTEM, lay};
use crate::shell::{Project, output, run};

/// Who compiles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Compiler {
    Gcc,
    Clang,
    Gxx,
    Clangxx,
}

impl Compiler {
    pub(super) const ALL: [Self; 4] = [Self::Gcc, Self::Clang, Self::Gxx, Self::Clangxx];

    pub(super) fn is_cpp(self) -> bool {
        matches!(self, Self::Gxx | Self::Clangxx)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gcc => "gcc",
            Self::Clang => "clang",
            Self::Gxx => "g++",
            Self::Clangxx => "clang++",
        }
    }
}

/// How the library is linked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Linking {
    Shared,
    Static,
}

/// An installation of what was built, and what it declares.
pub(super) struct Place<'a> {
    project: &'a Project,
    pub(super) dir: PathBuf,
    pub(super) tests: PathBuf,
    prefix: PathBuf,
    pub(super) header: Header,
}

impl<'a> Place<'a> {
    pub(super) fn new(project: &'a Project) -> Result<Self> {
        let dir = project.scratch("c")?;
        let prefix = dir.join("prefix");
        lay(project, &project.target.join("debug"), &prefix)?;
        let header = parse(&std::fs::read_to_string(project.root.join("include/dubcore.h"))?)?;
        Ok(Self { project, tests: project.root.join("dubcore-c/tests/c"), dir, prefix, header })
    }

    /// A compiler as strict as it can be, which finds the headers.
    pub(super) fn compiler(&self, compiler: Compiler) -> Command {
        let mut command = self.project.command(compiler.name());
        command.arg(if compiler.is_cpp() { "-std=c++17" } else { "-std=c99" });
        command.args(["-pedantic", "-Wall", "-Wextra", "-Werror", "-O1", "-g"]);
        command.arg("-I").arg(self.prefix.join("include")).arg("-I").arg(&self.tests);
        command
    }

    pub(super) fn compile(&self, compiler: Compiler, linking: Linking, source: &Path, more: &[&str]) -> Result<PathBuf> {
        let stem = source.file_stem().context("a source file has a name")?.to_string_lossy();
        let kind = if more.iter().any(|m| m.contains("sanitize")) { "-checked" } else { "" };
        let program = self.dir.join(format!("{stem}-{compiler:?}-{linking:?}{kind}"));
        let mut command = self.compiler(compiler);
        command.arg("-o").arg(&program).arg(source);
        match linking {
            Linking::Shared => {
                let lib = self.prefix.join("lib");
                command.arg("-L").arg(&lib).arg("-ldubcore").arg(format!("-Wl,-rpath,{}", lib.display()))
            }
            Linking::Static => command.arg(self.prefix.join("lib/libdubcore.a")).args(SYSTEM),
        };
        run(command.args(more))?;
        Ok(program)
    }

    /// A test program under gcc's address, leak and undefined-behaviour sanitizers.
    pub(super) fn checked(&self, source: impl AsRef<Path>, linking: Linking) -> Result<PathBuf> {
        let more = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-pthread", "-lm"];
        self.compile(Compiler::Gcc, linking, &self.tests.join(source), &more)
    }

    /// A test program that fetches nothing.
    pub(super) fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.project.command(program);
        command.env("HF_HUB_OFFLINE", "1").env("UBSAN_OPTIONS", "print_stacktrace=1");
        command
    }

    /// A program that makes a world, in a folder of its own, with a short clip.
    pub(super) fn in_world(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        let (clip, scratch) = self.world()?;
        let mut command = self.program(program);
        command.current_dir(&scratch).arg(clip).arg(scratch);
        Ok(command)
    }

    /// A short clip, and a folder for what a world writes.
    pub(super) fn world(&self) -> Result<(PathBuf, PathBuf)> {
        let (clip, scratch) = (self.dir.join("clip.wav"), self.dir.join("scratch"));
        let _ = std::fs::remove_dir_all(&scratch);
        std::fs::create_dir_all(&scratch)?;
        std::fs::write(&clip, shorter(&std::fs::read(super::sample(self.project)?)?, 4.2)?)?;
        Ok((clip, scratch))
    }

    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }

    pub(super) fn output(&self, program: &str, arguments: &[&OsStr]) -> Result<String> {
        output(self.project.command(program).args(arguments))
    }

    /// What the shared library exports.
    pub(super) fn exported(&self) -> Result<Vec<String>> {
        let library = self.prefix.join("lib/libdubcore.so");
        let listed = self.output("nm", &["-D".as_ref(), "--defined-only".as_ref(), library.as_os_str()])?;
        let mut names: Vec<_> = listed.lines().filter_map(|l| l.split_whitespace().nth(2).map(String::from)).collect();
        names.sort();
        Ok(names)
    }
}

/// The chunks of a RIFF WAVE file that matter: bytes of a frame, frames per second, and where the sound lies.
fn chunks(wav: &[u8]) -> Result<(usize, usize, std::ops::Range<usize>)> {
    if wav.len() < 12 || !wav.starts_with(b"RIFF") || &wav[8..12] != b"WAVE" {
        bail!("not a WAVE file");
    }
    let (mut at, mut frame, mut rate) = (12, 0, 0);
    while let Some((head, body)) = wav.get(at..).and_then(|rest| rest.split_at_checked(8)) {
        let size = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        match &head[..4] {
            b"fmt " if body.len() >= 16 => {
                frame = usize::from(u16::from_le_bytes([body[12], body[13]]));
                rate = u32::from_le_bytes([body[4], body[5], body[6], body[7]]) as usize;
            }
            b"data" if frame > 0 && size <= body.len() => return Ok((frame, rate, at + 8..at + 8 + size)),
            b"data" => bail!("a WAVE file that ends too early"),
            _ => {}
        }
        at += 8 + size + size % 2;
    }
    bail!("a WAVE file without sound")
}

/// How many frames a RIFF WAVE file has.
pub(super) fn frames(wav: &[u8]) -> Result<usize> {
    let (frame, _, data) = chunks(wav)?;
    Ok(data.len() / frame)
}

/// The first seconds of a RIFF WAVE file.
fn shorter(wav: &[u8], seconds: f64) -> Result<Vec<u8>> {
    let (frame, rate, data) = chunks(wav)?;
    let length = data.len().min((seconds * rate as f64) as usize * frame);
    let mut short = wav[..data.start + length].to_vec();
    let whole = (short.len() - 8) as u32;
    short[4..8].copy_from_slice(&whole.to_le_bytes());
    short[data.start - 4..data.start].copy_from_slice(&(length as u32).to_le_bytes());
    Ok(short)
}
