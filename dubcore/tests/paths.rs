//! Paths that are not what they should be, given to everything that takes one: each is refused with a typed error, at once
//! (a pipe nobody writes to, a device without end), and nothing is changed.

mod common;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::*;
use dubcore::media::{Input, Limits, MonoStream, Reader, WavFormat, WavWriter, decode, write_wav};
use dubcore::{Audio, DubRequest, Error, ErrorKind, Factory, Job, Lang, LoadOptions, ModelRef, Pipeline, dub_file};

/// A folder with one of each.
struct Zoo(tempfile::TempDir);

impl Zoo {
    fn new() -> Self {
        let zoo = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(zoo.at("folder")).unwrap();
        std::fs::write(zoo.at("empty"), "").unwrap();
        std::fs::write(zoo.at("text"), "This is neither sound nor a model.\n".repeat(100)).unwrap();
        assert!(Command::new("mkfifo").arg(zoo.at("pipe")).status().unwrap().success());
        std::os::unix::net::UnixListener::bind(zoo.at("socket")).unwrap();
        symlink("loop", zoo.at("loop")).unwrap();
        symlink("nowhere", zoo.at("dangling")).unwrap();
        for device in ["zero", "full", "random"] {
            symlink(Path::new("/dev").join(device), zoo.at(device)).unwrap();
        }
        // A file of no length that cannot be read, not even by the superuser.
        symlink("/proc/self/mem", zoo.at("memory")).unwrap();
        zoo
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Paths at which there is no file, and others at which there is one that cannot be read.
    fn unreadable(&self) -> Vec<PathBuf> {
        let names = ["missing", "folder", "pipe", "socket", "loop", "dangling", "zero", "full", "random", "memory", "text/below"];
        let mut paths: Vec<PathBuf> = names.iter().map(|name| self.at(name)).collect();
        paths.extend(["", "/", ".", "..", "/dev/null", "/dev/zero", "/dev/tty", "/proc/self/mem"].map(PathBuf::from));
        paths.push(self.at(&"n".repeat(300)));
        paths.push(self.at(&"n/".repeat(3_000)));
        paths.push(self.at("nul\0inside"));
        paths.push(self.0.path().join(OsStr::from_bytes(b"not\xffutf-8")));
        paths
    }

    /// What is there, and of what kind.
    fn look(&self) -> Vec<(PathBuf, String)> {
        let mut all: Vec<_> = std::fs::read_dir(self.0.path())
            .unwrap()
            .map(|e| e.unwrap())
            .map(|e| (e.path(), format!("{:?}", e.metadata().unwrap().file_type())))
            .collect();
        all.sort();
        all
    }
}

fn is(path: &Path, e: &Error, kinds: &[ErrorKind]) {
    assert!(kinds.contains(&e.kind()), "{path:?}: {e:?}");
    assert!(!e.to_string().is_empty());
}

#[test]
fn media_that_cannot_be_read() {
    within(60, || {
        let zoo = Zoo::new();
        let before = zoo.look();
        let (limits, job, dubber) = (Limits::default(), Job::new(), host_dubber());
        for path in zoo.unreadable() {
            let input = Input::from(path.as_path());
            for e in [
                Reader::open(&input, &limits).err(),
                MonoStream::open(&input, &limits, 16_000).err(),
                decode(&input, &limits, &job).err(),
                dubber.start(DubRequest::new(path.clone(), Lang::ES), Job::new()).err(),
                dub_file(&path, Lang::ES, None, &zoo.at("out"), &job).err(),
            ] {
                is(&path, &e.unwrap_or_else(|| panic!("{path:?} was taken")), &[ErrorKind::Io]);
            }
        }
        for name in ["empty", "text"] {
            let path = zoo.at(name);
            let e = Reader::open(&path.as_path().into(), &limits).err().unwrap();
            is(&path, &e, &[ErrorKind::UnsupportedMedia]);
            is(&path, &dub_file(&path, Lang::ES, None, &zoo.at("out"), &job).err().unwrap(), &[ErrorKind::UnsupportedMedia]);
        }
        assert_eq!(zoo.look(), before);
    });
}

#[test]
fn names_of_any_bytes_are_names() {
    let zoo = Zoo::new();
    for name in [&b"not\xffutf-8.wav"[..], b" ", b"-rf", b"a\nb", "ñ字.mp4".as_bytes()] {
        let path = zoo.0.path().join(OsStr::from_bytes(name));
        write_wav(&path, &Audio::new(vec![0.5; 800], 8_000).unwrap(), WavFormat::I16).unwrap();
        assert_eq!(decode(&path.as_path().into(), &Limits::default(), &Job::new()).unwrap().len(), 800);
    }
}

#[test]
fn targets_that_cannot_be_written() {
    within(60, || {
        let zoo = Zoo::new();
        let before = zoo.look();
        let audio = Audio::new(vec![0.1; 800], 8_000).unwrap();
        let input = clip("kitchen.wav");
        let dubber = host_dubber();
        let mut targets: Vec<PathBuf> = ["folder", "pipe", "socket", "text/below", "missing/below"].map(|n| zoo.at(n)).into();
        // No device itself: a failure here should not cost the machine its /dev/null.
        targets.extend(["", "/", "..", "/proc/dubcore"].map(PathBuf::from));
        targets.extend([zoo.at(&"n".repeat(300)), zoo.at("nul\0inside")]);
        for path in targets {
            for e in [
                write_wav(&path, &audio, WavFormat::I16).err(),
                WavWriter::create(&path, 1, 8_000, WavFormat::F32).and_then(|writer| writer.finish()).err(),
                dubber.start(DubRequest::new(input.clone(), Lang::ES).output(path.clone()), Job::new()).err(),
            ] {
                is(&path, &e.unwrap_or_else(|| panic!("{path:?} was taken")), &[ErrorKind::Io]);
            }
        }
        for path in ["text", "pipe", "socket", "zero", "loop", "text/below", "nul\0inside"].map(|n| zoo.at(n)) {
            let e = dub_file(&input, Lang::ES, None, &path, &Job::new()).err().unwrap_or_else(|| panic!("{path:?} was taken"));
            is(&path, &e, &[ErrorKind::Io]);
        }
        assert_eq!(zoo.look(), before);
    });
}

#[test]
fn a_dub_is_saved_under_plain_names_only() {
    within(60, || {
        let zoo = Zoo::new();
        let request = DubRequest::new(clip("kitchen.wav"), Lang::ES).output(dubcore::Output::Memory);
        let mut dub = host_dubber().start(request, Job::new()).unwrap().finish().unwrap();
        let before = zoo.look();
        for stem in ["../out", "a/b", "/tmp/x", "a\\b", "nul\0inside"] {
            is(Path::new(stem), &dub.save(zoo.0.path(), stem).unwrap_err(), &[ErrorKind::InvalidArgument]);
        }
        for folder in ["missing", "text", "pipe", "socket", "zero", "loop", "nul\0inside"] {
            is(Path::new(folder), &dub.save(&zoo.at(folder), "x").unwrap_err(), &[ErrorKind::Io]);
        }
        is(Path::new("long"), &dub.save(zoo.0.path(), &"n".repeat(300)).unwrap_err(), &[ErrorKind::Io]);
        assert_eq!((zoo.look(), &dub.files), (before, &Vec::new()));
        // A pipe in the place of a file stays where it is.
        std::fs::rename(zoo.at("pipe"), zoo.at("x.es.srt")).unwrap();
        is(Path::new("x.es.srt"), &dub.save(zoo.0.path(), "x").unwrap_err(), &[ErrorKind::Io]);
        assert!(std::fs::metadata(zoo.at("x.es.srt")).unwrap().file_type().is_fifo());
        dub.save(&zoo.at("folder"), "x").unwrap();
        assert_eq!(names(&zoo.at("folder")), ["x.en.srt", "x.en.vtt", "x.es.json", "x.es.srt", "x.es.vtt", "x.es.wav"]);
    });
}

#[test]
fn models_that_are_no_folders() {
    within(60, || {
        let zoo = Zoo::new();
        let factory = Factory::builder().build().unwrap();
        let (opts, job) = (LoadOptions::default(), Job::new());
        let mut paths = zoo.unreadable();
        paths.extend([zoo.at("empty"), zoo.at("text")]);
        for path in paths {
            let model = ModelRef::directory(&path);
            for e in [
                factory.stt(&model, &opts, &job).err(),
                factory.translator(&model, &opts, &job).err(),
                factory.tts(&model, &opts, &job).err(),
                factory.preload(std::slice::from_ref(&model), &opts, &job).remove(0).err(),
            ] {
                is(&path, &e.unwrap_or_else(|| panic!("{path:?} was taken")), &[ErrorKind::ModelNotFound]);
            }
            assert!(!factory.pin(&model, true));
            factory.unload(&model, &job).unwrap();
        }
    });
}

#[test]
fn files_of_a_model_that_are_no_files() {
    within(120, || {
        let copy = ModelCopy::new("tts-es");
        let factory = Factory::builder().build().unwrap();
        let load = || factory.tts(&copy.model(), &LoadOptions::default(), &Job::new()).err();
        let zoo = Zoo::new();
        for file in ["config.json", "model.safetensors", "vocab.json", "tokenizer_config.json"] {
            let whole = copy.read(file);
            let path = copy.folder.path().join(file);
            for other in ["folder", "pipe", "socket", "loop", "dangling", "zero", "memory"] {
                std::fs::remove_file(&path).unwrap();
                match other {
                    // Moved in, so that it lies in the model's folder; links to them would be refused for leading out of it.
                    "folder" => std::fs::create_dir(&path).unwrap(),
                    "pipe" => assert!(Command::new("mkfifo").arg(&path).status().unwrap().success()),
                    "socket" => drop(std::os::unix::net::UnixListener::bind(&path).unwrap()),
                    other => symlink(zoo.at(other), &path).unwrap(),
                }
                let e = load().unwrap_or_else(|| panic!("{file} as {other} was taken"));
                is(&path, &e, &[ErrorKind::ModelCorrupt, ErrorKind::ModelNotFound, ErrorKind::Io]);
                match other {
                    "folder" => std::fs::remove_dir(&path).unwrap(),
                    _ => std::fs::remove_file(&path).unwrap(),
                }
                copy.write(file, &whole);
            }
        }
        assert!(load().is_none());
    });
}
