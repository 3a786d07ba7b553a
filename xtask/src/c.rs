//! The group `c`: the header is current, the example builds both ways and dubs, misuse is refused.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::Tally;
use crate::rust::{HEADER, counted};
use crate::shell::{Project, output, run, watch};

const STRICT: &[&str] = &["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-O1", "-g"];

/// What the Rust part of the static library asks of the system.
const SYSTEM: &[&str] = &["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl", "-lc"];

pub(crate) fn test(project: &Project) -> Result<Tally> {
    // The whole workspace, as in the group `doc`: with one crate selected the dependencies would be built again.
    run(project.cargo("build").args(["--workspace", "--lib", "--examples"]))?;
    let mut tally = counted(project.cargo("test").args(["--workspace", "--test", "header", HEADER]))?;

    let place = Place::new(project)?;
    let sample = sample(project)?;
    let mut tracks = Vec::new();
    for linking in ["shared", "static"] {
        let dub = place.compile(linking, "examples/c/dub.c", &[])?;
        tally.check(format!("dub.c compiles, {linking}"), true);
        let out = place.dir.join(format!("out-{linking}"));
        run(project.command(&dub).arg(&sample).args(["--from", "en", "--to", "es", "-o"]).arg(&out))?;
        let (written, track) = written(&sample, &out)?;
        tally.check(format!("dub.c dubs, {linking}: {written}"), true);
        tracks.push(track);
    }
    tally.check("both ways of linking give the same track", tracks[0] == tracks[1]);

    for linking in ["shared", "static"] {
        let sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-pthread"];
        let misuse = place.compile(linking, "dubcore-c/tests/misuse.c", &sanitizers)?;
        let text = place.dir.join("notes.txt");
        std::fs::write(&text, "This is no sound.\n".repeat(100))?;
        let (status, lines) = watch(project.command(&misuse).arg(text).arg(place.dir.join("never")))?;
        tally.passed += lines.iter().filter(|l| l.starts_with("ok ")).count();
        lines.iter().filter_map(|l| l.strip_prefix("FAILED ")).for_each(|l| tally.fail(format!("misuse, {linking}: {l}")));
        ensure!(status.success() || tally.failed > 0, "misuse, {linking}, ended with {status}");
    }

    let foreign = place.foreign_symbols()?;
    tally.check(format!("the shared library exports only dub_*: {foreign:?}"), foreign.is_empty());
    Ok(tally)
}

/// A folder with the libraries under the names that an installation gives them.
struct Place<'a> {
    project: &'a Project,
    dir: PathBuf,
}

impl<'a> Place<'a> {
    fn new(project: &'a Project) -> Result<Self> {
        let dir = project.scratch("c")?;
        let built = project.target.join("debug");
        std::fs::copy(built.join("libdubcore.so"), dir.join("libdubcore.so.0")).context("the shared library was not built")?;
        std::fs::copy(built.join("libdubcore.a"), dir.join("libdubcore.a")).context("the static library was not built")?;
        std::os::unix::fs::symlink("libdubcore.so.0", dir.join("libdubcore.so"))?;
        Ok(Self { project, dir })
    }

    fn compile(&self, linking: &str, source: &str, more: &[&str]) -> Result<PathBuf> {
        let stem = Path::new(source).file_stem().context("a source file has a name")?.to_string_lossy();
        let program = self.dir.join(format!("{stem}-{linking}"));
        let mut gcc = self.gcc();
        gcc.args(more).arg("-o").arg(&program).arg(source);
        match linking {
            "shared" => gcc.arg("-L").arg(&self.dir).arg("-ldubcore").arg("-Wl,-rpath,$ORIGIN"),
            _ => gcc.arg(self.dir.join("libdubcore.a")).args(SYSTEM),
        };
        run(&mut gcc)?;
        Ok(program)
    }

    fn gcc(&self) -> Command {
        let mut gcc = self.project.command("gcc");
        gcc.args(STRICT).arg("-Iinclude");
        gcc
    }

    /// Exported names that a program's own or another library's might clash with.
    fn foreign_symbols(&self) -> Result<Vec<String>> {
        let listed = output(self.project.command("nm").args(["-D", "--defined-only"]).arg(self.dir.join("libdubcore.so")))?;
        let names = listed.lines().filter_map(|l| l.split_whitespace().nth(2));
        let (ours, foreign): (Vec<_>, Vec<_>) = names.map(String::from).partition(|n| n.starts_with("dub_"));
        ensure!(!ours.is_empty(), "the shared library exports nothing");
        Ok(foreign)
    }
}

/// The clip that the bindings are tried on.
fn sample(project: &Project) -> Result<PathBuf> {
    let dir = project.root.join("examples/media");
    let entries = std::fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))?;
    let mut clips: Vec<_> =
        entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.extension().is_some_and(|e| e == "wav")).collect();
    clips.sort();
    clips.into_iter().next().with_context(|| format!("{} has no .wav", dir.display()))
}

/// Checks the files of a dub; gives what to say about them, and the track's bytes.
fn written(sample: &Path, out: &Path) -> Result<(String, Vec<u8>)> {
    let stem = sample.file_stem().context("a clip has a name")?.to_string_lossy();
    let mut names: Vec<_> =
        std::fs::read_dir(out)?.map(|e| Ok(e?.file_name().to_string_lossy().into_owned())).collect::<Result<_>>()?;
    names.sort();
    let wanted = ["en.srt", "en.vtt", "es.json", "es.srt", "es.vtt", "es.wav"].map(|ending| format!("{stem}.{ending}"));
    ensure!(names == wanted, "the dub left {names:?}, not {wanted:?}");
    let read = |ending: &str| std::fs::read(out.join(format!("{stem}.es.{ending}")));
    ensure!(String::from_utf8(read("srt")?)?.contains(" --> "), "the SRT has no line");
    ensure!(read("vtt")?.starts_with(b"WEBVTT"), "the VTT does not begin as one");
    ensure!(read("json")?.starts_with(b"{"), "the report is not a JSON object");
    let (was, track) = (frames(&std::fs::read(sample)?)?, read("wav")?);
    let is = frames(&track)?;
    ensure!(was == is, "the track has {is} frames, the clip {was}");
    Ok((format!("{is} frames"), track))
}

/// How many frames a RIFF WAVE file has.
fn frames(wav: &[u8]) -> Result<usize> {
    ensure!(wav.len() >= 12 && wav.starts_with(b"RIFF") && &wav[8..12] == b"WAVE", "not a WAVE file");
    let (mut rest, mut frame) = (&wav[12..], 0);
    while let Some((head, body)) = rest.split_at_checked(8) {
        let size = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        match &head[..4] {
            b"fmt " if body.len() >= 16 => frame = usize::from(u16::from_le_bytes([body[12], body[13]])),
            b"data" if frame > 0 => {
                ensure!(size <= body.len(), "a WAVE file that ends too early");
                return Ok(size / frame);
            }
            _ => {}
        }
        rest = body.get(size + size % 2..).unwrap_or_default();
    }
    anyhow::bail!("a WAVE file without sound")
}
