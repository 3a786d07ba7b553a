//! Everything that needs a release build, in one program, for each link of it takes minutes: what `cargo xtask bench`,
//! `cargo xtask random-model` and the long tests run.

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand, ValueEnum};
use dubcore_bench::random::{self, Shape, Storage};
use dubcore_bench::{Set, cancel, programme, serve, suite};

#[derive(Parser)]
#[command(bin_name = "dubcore-bench")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Write a model of a published checkpoint's shape with random weights.
    RandomModel {
        /// Whose shape.
        shape: Shape,
        /// Where to; the folder is made if need be.
        dir: PathBuf,
        /// How weights are stored.
        #[arg(long, default_value = "f32")]
        storage: Storage,
        /// Another seed makes other weights.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Run one suite of benchmarks.
    Measure {
        /// Which.
        suite: Suite,
    },
    /// Do what lines of JSON on the standard input say: dubcore's part in `benches/peers/run.py`.
    Serve,
    /// Write a programme, and what is known of it beside it.
    MakeProgramme {
        /// How long, about.
        minutes: f64,
        /// A WAV file.
        file: PathBuf,
    },
    /// Dub a programme, and print what was found.
    DubProgramme {
        /// What `make-programme` wrote.
        file: PathBuf,
        /// Where the dubbed track goes.
        track: PathBuf,
    },
    /// Cancel dubs and loads of models of real size, and print how long they went on.
    Cancel,
}

#[derive(Clone, Copy, ValueEnum)]
enum Suite {
    Sound,
    Kernels,
    Micro,
    MicroDub,
    Server,
    Real,
    RealDub,
}

fn main() -> anyhow::Result<()> {
    match Args::parse().task {
        Task::RandomModel { shape, dir, storage, seed } => {
            random::write(shape, &dir, storage, seed)?;
            println!("{}", dir.display());
            Ok(())
        }
        Task::Measure { suite } => match suite {
            Suite::Sound => suite::sound(),
            Suite::Kernels => suite::kernels(),
            Suite::Micro => suite::stages(Set::Micro),
            Suite::MicroDub => suite::dub(Set::Micro),
            Suite::Server => suite::server(),
            Suite::Real => suite::stages(Set::Real),
            Suite::RealDub => suite::dub(Set::Real),
        },
        Task::Serve => serve::serve(),
        Task::MakeProgramme { minutes, file } => {
            std::fs::write(facts(&file), programme::make(minutes, &file)?.to_string())?;
            Ok(())
        }
        Task::DubProgramme { file, track } => {
            let known = serde_json::from_slice(&std::fs::read(facts(&file))?)?;
            println!("{}", programme::dub(&file, &known, &track)?);
            Ok(())
        }
        Task::Cancel => cancel::all(),
    }
}

fn facts(file: &Path) -> PathBuf {
    file.with_extension("json")
}
