//! The group `c`: the header is current, examples build in every way and dub as the Rust one does, misuse is refused, and what
//! the header promises happens. What takes longer is in [`long`].

mod abi;
mod docs;
mod header;
pub(crate) mod long;
mod misuse;
mod place;
mod random;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::Tally;
use crate::install::{HEADERS, lay};
use crate::rust::{HEADER, counted};
use crate::shell::{Project, run, watch};
use place::{Compiler, Linking, Place};

/// Calls at random in the everyday group, and seconds of its soak.
const CALLS: usize = 30_000;
const SOAK: f64 = 20.0;

pub(crate) fn test(project: &Project) -> Result<Tally> {
    // The whole workspace, as in the group `doc`: with one crate selected the dependencies would be built again.
    run(project.cargo("build").args(["--workspace", "--lib", "--examples"]))?;
    let mut tally = counted(project.cargo("test").args(["--workspace", "--test", "header", HEADER]))?;
    let place = Place::new(project)?;
    abi::check(project, &place, &mut tally)?;
    compiles(&place, &mut tally)?;
    examples(project, &place, &mut tally)?;
    docs::check(project, &place, &mut tally)?;
    installed(project, &place, &mut tally)?;
    for linking in [Linking::Shared, Linking::Static] {
        by_hand(&place, linking, &mut tally)?;
    }
    all_misused(&place, &mut tally)?;
    behaviour(&place, &mut tally)?;
    at_random(&place, CALLS, 1, &mut tally)?;
    soak(&place, SOAK, &mut tally)?;
    Ok(tally)
}

/// The headers need nothing but themselves.
fn compiles(place: &Place<'_>, tally: &mut Tally) -> Result<()> {
    for compiler in Compiler::ALL {
        for header in HEADERS.iter().filter(|header| compiler.is_cpp() || header.ends_with(".h")) {
            let alone = place.dir.join(if compiler.is_cpp() { "alone.cpp" } else { "alone.c" });
            // Twice, for the guard.
            std::fs::write(&alone, format!("#include \"{header}\"\n#include \"{header}\"\nint main(void) {{ return 0; }}\n"))?;
            run(place.compiler(compiler).arg("-fsyntax-only").arg(&alone))?;
            tally.check(format!("{header} compiles alone, {compiler:?}"), true);
        }
    }
    Ok(())
}

/// The examples, by every compiler and in both ways of linking, give the Rust example's files.
fn examples(project: &Project, place: &Place<'_>, tally: &mut Tally) -> Result<()> {
    let sample = sample(project)?;
    let rust = place.dir.join("out-rust");
    let example = project.target.join("debug/examples/dub");
    run(project.command(example).arg(&sample).args(["--from", "en", "--to", "es", "--out"]).arg(&rust))?;
    let (_, wanted) = written(&sample, &rust)?;
    for compiler in Compiler::ALL {
        let sources: &[&str] =
            if compiler.is_cpp() { &["examples/cpp/dub.cpp"] } else { &["examples/c/dub.c", "examples/c/stream.c"] };
        for linking in [Linking::Shared, Linking::Static] {
            for source in sources {
                let program = place.compile(compiler, linking, &project.root.join(source), &["-pthread"])?;
                tally.check(format!("{source} compiles, {compiler:?}, {linking:?}"), true);
                if source.ends_with("stream.c") {
                    stream(project, &program, &sample, &format!("{compiler:?}, {linking:?}"), tally)?;
                    continue;
                }
                let out = place.dir.join(format!("out-{compiler:?}-{linking:?}"));
                run(project.command(&program).arg(&sample).args(["--from", "en", "--to", "es", "-o"]).arg(&out))?;
                let (said, track) = written(&sample, &out)?;
                tally.check(
                    format!("{source} gives the Rust example's track, {compiler:?}, {linking:?}: {said}"),
                    track == wanted,
                );
            }
        }
    }
    Ok(())
}

/// The example with threads: a whole dub, and one that is cancelled.
fn stream(project: &Project, program: &Path, sample: &Path, how: &str, tally: &mut Tally) -> Result<()> {
    let (status, lines) = watch(project.command(program).arg(sample).arg("es"))?;
    let whole = lines.last().is_some_and(|l| l.ends_with("lines, complete"));
    tally.check(
        format!("stream.c dubs and tells how far it is, {how}"),
        status.success() && whole && lines.iter().any(|l| l.ends_with(" %")),
    );
    let (status, lines) = watch(project.command(program).arg(sample).args(["es", "1"]))?;
    // A short clip may be done before the cancel arrives.
    let ended = lines.last().is_some_and(|l| l.ends_with("lines, cut short") || l.ends_with("lines, complete"));
    tally.check(format!("stream.c cancels from another thread, {how}"), status.success() && ended);
    Ok(())
}

/// What `install-c` lays down is found by pkg-config and CMake, and links in both ways.
fn installed(project: &Project, place: &Place<'_>, tally: &mut Tally) -> Result<()> {
    // Moved after it was made, because the files name no place.
    let made = project.scratch("c-prefix-made")?;
    lay(project, &project.target.join("debug"), &made)?;
    lay(project, &project.target.join("debug"), &made).context("installing over an installation")?;
    let prefix = project.scratch("c-prefix")?.join("moved");
    std::fs::rename(&made, &prefix)?;
    let soname = place.output("readelf", &["-d".as_ref(), prefix.join("lib/libdubcore.so").as_os_str()])?;
    tally.check("the shared library knows its name", soname.contains("Library soname: [libdubcore.so.0]"));

    let sample = sample(project)?;
    let asked = |words: &[&str]| -> Result<Vec<String>> {
        let mut command = project.command("pkg-config");
        command.env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")).args(words).arg("dubcore");
        Ok(crate::shell::output(&mut command)?.split_whitespace().map(String::from).collect())
    };
    tally.check("pkg-config knows the version", asked(&["--modversion"])? == [env!("CARGO_PKG_VERSION")]);
    let program = place.dir.join("by-pkg-config");
    let mut gcc = project.command("gcc");
    gcc.args(["-std=c99", "-o"]).arg(&program).arg("examples/c/dub.c").args(asked(&["--cflags", "--libs"])?);
    run(gcc.arg(format!("-Wl,-rpath,{}", prefix.join("lib").display())))?;
    dubs(project, &program, &sample, &place.dir.join("out-pkg-config"), "linked by pkg-config", tally)?;
    // As docs/c.md says it: the library by its file, and the system libraries.
    let program = place.dir.join("by-pkg-config-static");
    let mut gcc = project.command("gcc");
    gcc.args(["-std=c99", "-o"]).arg(&program).arg("examples/c/dub.c").args(asked(&["--cflags"])?);
    gcc.arg(prefix.join("lib/libdubcore.a"));
    run(gcc.args(asked(&["--static", "--libs-only-l"])?.into_iter().filter(|l| l != "-ldubcore")))?;
    dubs(project, &program, &sample, &place.dir.join("out-pkg-config-static"), "linked statically by pkg-config", tally)?;

    for (option, how) in [("OFF", "shared"), ("ON", "static")] {
        let build = project.scratch("c-cmake")?;
        let mut configure = project.command("cmake");
        configure.args(["-S", "examples/cpp", "-B"]).arg(&build).arg(format!("-DDUBCORE_STATIC={option}"));
        run(configure.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display())).args(["-Wno-dev", "--log-level=WARNING"]))?;
        run(project.command("cmake").arg("--build").arg(&build))?;
        let (program, out) = (build.join("dub"), place.dir.join(format!("out-cmake-{how}")));
        dubs(project, &program, &sample, &out, &format!("built by CMake, {how}"), tally)?;
        let (status, lines) = watch(project.command(&program).arg(&sample).args(["--to", "es", "--shout", "-o"]).arg(&out))?;
        let shouted = lines.iter().any(|l| l.split_once(" -> ").is_some_and(|(_, t)| t == t.to_uppercase() && t.len() > 3));
        tally.check(format!("a C++ function is a stage, {how}"), status.success() && shouted);
    }
    Ok(())
}

fn dubs(project: &Project, program: &Path, sample: &Path, out: &Path, how: &str, tally: &mut Tally) -> Result<()> {
    run(project.command(program).arg(sample).args(["--from", "en", "--to", "es", "-o"]).arg(out))?;
    let (said, _) = written(sample, out)?;
    tally.check(format!("a program dubs, {how}: {said}"), true);
    Ok(())
}

/// What is checked by hand: the error object, and the short way.
fn by_hand(place: &Place<'_>, linking: Linking, tally: &mut Tally) -> Result<()> {
    let program = place.checked("misuse.c", linking)?;
    let text = place.dir.join("notes.txt");
    std::fs::write(&text, "This is no sound.\n".repeat(100))?;
    let (status, lines) = watch(place.program(&program).arg(text).arg(place.dir.join("never")))?;
    lines.iter().filter_map(|l| l.strip_prefix("FAILED ")).for_each(|l| tally.fail(format!("misuse, {linking:?}: {l}")));
    tally.passed += lines.iter().filter(|l| l.starts_with("ok ")).count();
    tally.check(format!("misuse.c ends well, {linking:?} ({status})"), status.success());
    Ok(())
}

/// Every function of the header, misused in every way.
fn all_misused(place: &Place<'_>, tally: &mut Tally) -> Result<()> {
    let source = place.write("misuse_all.c", &misuse::program(&place.header)?)?;
    let program = place.checked(&source, Linking::Static)?;
    let (status, lines) = watch(&mut place.in_world(&program)?)?;
    told(&lines, status.success(), "misuse of all functions", tally)
}

fn told(lines: &[String], well: bool, what: &str, tally: &mut Tally) -> Result<()> {
    let number = |key: &str| lines.iter().find_map(|l| l.strip_prefix(key)?.trim().parse::<usize>().ok());
    lines.iter().filter_map(|l| l.strip_prefix("FAILED ")).for_each(|l| tally.fail(format!("{what}: {l}")));
    let (functions, checks) = (number("functions ").unwrap_or(0), number("checks ").or(number("calls ")).unwrap_or(0));
    tally.passed += if well { checks } else { 0 };
    tally.check(format!("{what}: {functions} functions, {checks} calls"), well && functions > 0 && checks > 0);
    Ok(())
}

/// Callbacks, threads, ends.
fn behaviour(place: &Place<'_>, tally: &mut Tally) -> Result<()> {
    for (what, program, more) in [
        ("with sanitizers", place.checked("behaviour.c", Linking::Static)?, Some("no-fork")),
        (
            "as it is",
            place.compile(Compiler::Clang, Linking::Shared, &place.tests.join("behaviour.c"), &["-pthread", "-lm"])?,
            None,
        ),
    ] {
        let (status, lines) = watch(place.in_world(&program)?.args(more))?;
        tally.passed += lines.iter().filter(|l| l.starts_with("ok ")).count();
        lines.iter().filter_map(|l| l.strip_prefix("FAILED ")).for_each(|l| tally.fail(format!("behaviour, {what}: {l}")));
        tally.check(format!("behaviour.c ends well, {what} ({status})"), status.success());
    }
    Ok(())
}

/// So many calls of any functions, with any arguments.
fn at_random(place: &Place<'_>, calls: usize, seed: u64, tally: &mut Tally) -> Result<()> {
    let source = place.write("random_all.c", &random::program(&place.header)?)?;
    let program = place.checked(&source, Linking::Static)?;
    let (status, lines) = watch(place.in_world(&program)?.args([calls.to_string(), seed.to_string()]))?;
    told(&lines, status.success(), &format!("calls at random from seed {seed} ({status})"), tally)
}

/// How much more memory a process may have late in a soak than early: what an allocator keeps.
const GROWTH: f64 = 4e6;

/// Memory stays what it was.
fn soak(place: &Place<'_>, seconds: f64, tally: &mut Tally) -> Result<()> {
    let program = place.compile(Compiler::Gcc, Linking::Shared, &place.tests.join("soak.c"), &["-pthread", "-lm"])?;
    let mut command = place.in_world(&program)?;
    // One heap for all threads: glibc's many keep what was freed for as long as chance has it.
    let (status, lines) = watch(command.env("MALLOC_ARENA_MAX", "1").arg(seconds.to_string()))?;
    let told = lines.iter().filter_map(|l| l.strip_prefix("RSS ")?.split_once(' '));
    let told: Vec<(f64, f64)> = told.filter_map(|(at, bytes)| Some((at.parse().ok()?, bytes.parse().ok()?))).collect();
    ensure!(told.len() >= 3, "the soak told too little to judge by ({status})");
    let highest = |from: f64, to: f64| {
        let part = told.iter().filter(|(at, _)| (from * seconds..=to * seconds).contains(at)).map(|(_, bytes)| *bytes);
        part.fold(0.0, f64::max)
    };
    let (early, late) = (highest(0.0, 0.5), highest(0.5, f64::INFINITY));
    let what = format!("{seconds} s of soak: {:.1} MB early, {:.1} MB late", early / 1e6, late / 1e6);
    tally.check(what, status.success() && early > 0.0 && late > 0.0 && late - early <= GROWTH);
    Ok(())
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
    let (was, track) = (place::frames(&std::fs::read(sample)?)?, read("wav")?);
    let is = place::frames(&track)?;
    ensure!(was == is, "the track has {is} frames, the clip {was}");
    Ok((format!("{is} frames"), track))
}
