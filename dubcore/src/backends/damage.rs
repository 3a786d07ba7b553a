//! Models whose files cannot be read, or were cut off, at every byte.

use std::sync::LazyLock;

use rayon::prelude::*;

use super::fixtures::fixture;
use super::*;
use crate::backend;
use crate::compute::ComputeType;
use crate::device::simulated::Simulated;
use crate::device::{Hardware, Place};
use crate::error::{Error, ErrorKind};
use crate::nn::weights::Weights;
use crate::source::{ModelFiles, ModelRef};

const MODELS: [&str; 3] = ["whisper/a", "marian/shared-relu", "vits/deterministic"];

/// What a load gives where something is wrong; `None` where the model came out all the same. Nothing is left of it.
fn load(files: &ModelFiles) -> Option<Error> {
    let gpu = std::sync::Arc::new(Simulated::new(1 << 30));
    let e = backend::load(files, &(gpu.clone() as Place), ComputeType::F32, ALL).map(drop).err();
    assert_eq!((gpu.memory().weights, gpu.memory().requests), (0, 0), "{e:?}");
    e
}

fn in_directory(model: &str) -> ModelFiles {
    ModelFiles::locate(&ModelRef::directory(fixture(model))).unwrap()
}

#[test]
fn every_read_may_fail() {
    for model in MODELS {
        let whole = in_directory(model);
        assert!(load(&whole).is_none());
        let reads = whole.reading().fail_at(0);
        assert!(reads > 40, "{model} is read in {reads} parts");
        for read in 1..=reads {
            let files = in_directory(model);
            files.reading().fail_at(read);
            let e = load(&files).unwrap_or_else(|| panic!("{model}: read {read} went unnoticed"));
            // What is not understood for want of its beginning counts as damaged.
            assert!(matches!(e.kind(), ErrorKind::Io | ErrorKind::ModelCorrupt), "{model}, {read}: {e:?}");
            assert!(e.report().contains("a test let it fail"), "{model}, {read}: {e:?}");
        }
    }
}

/// The files of a model that are read at all.
fn files_of(model: &str) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(fixture(model)).unwrap().map(|e| e.unwrap());
    let named = entries.map(|e| (e.file_name().into_string().unwrap(), std::fs::read(e.path()).unwrap()));
    named.filter(|(name, _)| !name.starts_with("expected.")).collect()
}

#[test]
fn every_file_may_be_cut_off_at_every_byte() {
    for model in MODELS {
        let files = files_of(model);
        for (cut_file, bytes) in &files {
            let weights = cut_file.ends_with(".safetensors");
            // All of a weight file's are below; here some that go through the whole of a load.
            let cuts: Vec<usize> = (0..bytes.len()).filter(|cut| !weights || cut % 1_009 == 0).collect();
            let whole = cuts.par_iter().filter(|cut| {
                let damaged: Vec<(&str, &[u8])> = files
                    .iter()
                    .map(|(name, bytes)| (name.as_str(), if name == cut_file { &bytes[..**cut] } else { &bytes[..] }))
                    .collect();
                match load(&ModelFiles::in_memory(&damaged)) {
                    None => true,
                    Some(e) => {
                        let typed = matches!(e.kind(), ErrorKind::ModelCorrupt | ErrorKind::ModelIncompatible);
                        assert!(typed && e.report().len() > 20, "{model}, {cut_file} cut to {cut}: {e:?}");
                        false
                    }
                }
            });
            let whole = whole.count();
            println!("{model}: {cut_file} cut off at {} places, {whole} of which did no harm", cuts.len());
            // The last line's end may be missing, and a tokenizer's settings may be left out.
            assert!(whole <= 2, "{model}, {cut_file}: {whole}");
        }
    }
}

#[test]
fn every_weight_file_may_be_cut_off_at_every_byte() {
    // The weights keep a reference into the bytes they are read from.
    static FILES: LazyLock<Vec<Vec<u8>>> =
        LazyLock::new(|| MODELS.iter().map(|model| std::fs::read(fixture(model).join("model.safetensors")).unwrap()).collect());
    for (model, bytes) in MODELS.iter().zip(FILES.iter()) {
        let unnoticed = (0..bytes.len()).into_par_iter().filter(|cut| {
            let kind = Weights::parse("model.safetensors", bytes[..*cut].into()).map(drop).map_err(|e| e.kind());
            kind != Err(ErrorKind::ModelCorrupt)
        });
        assert_eq!(unnoticed.count(), 0, "{model}");
    }
}
