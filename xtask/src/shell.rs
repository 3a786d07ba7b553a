//! Where the project is, running programs, and what the machine must have.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// The places of the project.
pub(crate) struct Project {
    /// The repository's root.
    pub(crate) root: PathBuf,
    /// Cargo's target directory, wherever `CARGO_TARGET_DIR` or a configuration file put it.
    pub(crate) target: PathBuf,
    /// How many crates the workspace has.
    pub(crate) crates: usize,
}

impl Project {
    pub(crate) fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the repository's root")?.to_path_buf();
        let mut project = Self { root, target: PathBuf::new(), crates: 0 };
        let out = output(project.cargo("metadata").args(["--format-version=1", "--no-deps"]))?;
        // Two fields of one line of JSON: too little to be worth a parser among the dependencies.
        let after = |key: &str| out.split_once(key).map(|(_, rest)| rest);
        let target = after(r#""target_directory":""#).and_then(|rest| rest.split_once('"'));
        let members = after(r#""workspace_members":["#).and_then(|rest| rest.split_once(']'));
        let (Some((target, _)), Some((members, _))) = (target, members) else {
            bail!("cargo metadata names no target directory or no members");
        };
        project.target = PathBuf::from(target.replace(r"\\", r"\"));
        project.crates = members.split("\",\"").count();
        Ok(project)
    }

    /// `cargo SUBCOMMAND`, in the root.
    pub(crate) fn cargo(&self, subcommand: &str) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = self.command(cargo);
        command.arg(subcommand);
        command
    }

    /// A program, in the root, without what `cargo run` adds to the environment: a library path that would hide a
    /// missing rpath, and this crate's own variables, which make some build scripts run again.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root).env_remove("LD_LIBRARY_PATH");
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|n| n.starts_with("CARGO_PKG_") || n.starts_with("CARGO_MANIFEST_")) {
                command.env_remove(name);
            }
        }
        command
    }

    /// A program that finds a nightly compiler, which some checks need.
    pub(crate) fn nightly(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        let rustup = || {
            let mut command = self.command("rustup");
            // The stable compiler that runs us must not be the one that it finds.
            command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").env_remove("RUSTC");
            command.args(["run", "nightly"]);
            command
        };
        ensure!(works(rustup().args(["rustc", "--version"])), "this needs a nightly compiler: rustup toolchain install nightly");
        let mut command = rustup();
        command.arg(program);
        Ok(command)
    }

    /// The program `name` of a crate, installed in the target directory if it is not there yet.
    pub(crate) fn tool(&self, name: &str, version: &str) -> Result<PathBuf> {
        let tools = self.target.join("tools");
        let program = tools.join("bin").join(name);
        if !works(self.command(&program).arg("--version")) {
            let mut install = self.cargo("install");
            install.args(["--locked", "--version", version, "--root"]).arg(&tools).arg(name);
            // Its own build folder: in ours it would wait for, and be waited for by, every other build.
            run(install.env("CARGO_TARGET_DIR", tools.join("build")))?;
        }
        Ok(program)
    }

    /// An empty folder `name` of our own in the target directory.
    pub(crate) fn scratch(&self, name: &str) -> Result<PathBuf> {
        let path = self.target.join("xtask").join(name);
        if path.exists() {
            std::fs::remove_dir_all(&path).with_context(|| format!("cannot empty {}", path.display()))?;
        }
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }
}

/// Runs `command`, which must succeed; its output is ours.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", line(command)))?;
    ensure!(status.success(), "{} failed ({status})", line(command));
    Ok(())
}

/// Runs `command`, which must succeed, and gives what it printed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let out = command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot start {}", line(command)))?;
    ensure!(out.status.success(), "{} failed ({})", line(command), out.status);
    Ok(String::from_utf8(out.stdout)?)
}

/// Runs `command` and passes on what it prints, line by line; gives the same lines to be counted, and how it ended.
pub(crate) fn watch(command: &mut Command) -> Result<(ExitStatus, Vec<String>)> {
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {}", line(command)))?;
    let pipe = child.stdout.take().context("the child's output was asked for")?;
    let mut lines = Vec::new();
    for line in BufReader::new(pipe).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        println!("{line}");
        lines.push(line);
    }
    Ok((child.wait()?, lines))
}

/// `command` as one would type it, without its environment.
pub(crate) fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Whether `command` starts and succeeds; what it prints is dropped.
pub(crate) fn works(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).status().is_ok_and(|s| s.success())
}

/// What a group wants from the machine and does not bring along.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// A C compiler and linker.
    Gcc,
    /// A C++ compiler.
    Cpp,
    /// The other C and C++ compiler.
    Clang,
    /// CMake and pkg-config, by which programs find the C library.
    CMake,
    /// ffmpeg, which makes the media that the tests read.
    Ffmpeg,
    /// Python 3.11 or later that can make virtual environments.
    Python,
    /// memcheck.
    Valgrind,
}

impl Needs {
    fn is_there(self) -> bool {
        match self {
            Self::Gcc => works(Command::new("gcc").arg("--version")),
            Self::Cpp => works(Command::new("g++").arg("--version")),
            Self::Clang => works(Command::new("clang++").arg("--version")),
            Self::CMake => works(Command::new("cmake").arg("--version")) && works(Command::new("pkg-config").arg("--version")),
            Self::Ffmpeg => works(Command::new("ffmpeg").arg("-version")),
            Self::Python => {
                let check = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))";
                works(Command::new("python3").args(["-c", check]))
            }
            Self::Valgrind => works(Command::new("valgrind").arg("--version")),
        }
    }

    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Gcc => &["gcc", "libc6-dev"],
            Self::Cpp => &["g++"],
            Self::Clang => &["clang"],
            Self::CMake => &["cmake", "make", "pkg-config"],
            Self::Ffmpeg => &["ffmpeg"],
            Self::Python => &["python3", "python3-venv"],
            Self::Valgrind => &["valgrind", "libc6-dbg"],
        }
    }
}

/// Sees to it that all `needs` are met before anything runs: root on a Debian gets them installed, anyone else the
/// line to type.
pub(crate) fn provide<'a>(needs: impl Iterator<Item = &'a Needs>) -> Result<()> {
    let mut missing: Vec<Needs> = Vec::new();
    for need in needs {
        if !missing.contains(need) && !need.is_there() {
            missing.push(*need);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<_> = missing.iter().flat_map(|n| n.packages()).copied().collect();
    let root = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout.trim_ascii() == b"0");
    if root && works(Command::new("apt-get").arg("--version")) {
        println!("installing {}", packages.join(" "));
        run(Command::new("apt-get").args(["update", "-q"]))?;
        run(Command::new("apt-get").args(["install", "-qy", "--no-install-recommends"]).args(&packages))?;
    }
    match missing.iter().find(|n| !n.is_there()) {
        None => Ok(()),
        Some(_) => bail!("the tests need system packages: sudo apt-get install {}", packages.join(" ")),
    }
}
