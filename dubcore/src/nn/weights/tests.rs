//! Where weights may lie, and each thing that can be wrong with them.

use std::path::Path;

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::*;
use crate::backends::fixtures::{expected_cases, fixture};
use crate::device::cpu;
use crate::source::ModelRef;

fn file(dtype: Dtype, data: &[u8]) -> Vec<u8> {
    let view = TensorView::new(dtype, vec![2], data).unwrap();
    safetensors::serialize([("a.w", view)], None).unwrap()
}

/// A file of tensors `[1]`, by name and value.
fn shard(tensors: &[(&str, f32)]) -> Vec<u8> {
    let bytes: Vec<_> = tensors.iter().map(|(name, v)| (*name, v.to_le_bytes())).collect();
    let views = bytes.iter().map(|(name, v)| (*name, TensorView::new(Dtype::F32, vec![1], v).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

const INDEX: &str = r#"{"metadata": {"total_size": 8}, "weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}"#;

/// A model in two files that is in order.
fn whole() -> Vec<(&'static str, Vec<u8>)> {
    vec![(index::FILE, INDEX.into()), ("one.safetensors", shard(&[("a", 1.0)])), ("two.safetensors", shard(&[("b", 2.0)]))]
}

fn write(dir: &Path, files: &[(&str, Vec<u8>)]) {
    for (name, bytes) in files {
        std::fs::write(dir.join(name), bytes).unwrap();
    }
}

fn open(dir: &Path) -> Result<Weights> {
    Weights::open(&ModelFiles::locate(&ModelRef::directory(dir)).unwrap(), cpu(), ComputeType::F32)
}

fn both(w: &Weights) -> [f32; 2] {
    [w.values("a", &[1]).unwrap()[0], w.values("b", &[1]).unwrap()[0]]
}

#[test]
fn every_float_storage_is_read() {
    for (dtype, bytes) in [
        (Dtype::F32, [1.5f32, -2.0].iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>()),
        (Dtype::F16, [1.5f32, -2.0].iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect()),
        (Dtype::BF16, [1.5f32, -2.0].iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect()),
    ] {
        let w = Weights::parse("m.safetensors", file(dtype, &bytes).into()).unwrap();
        assert_eq!(w.at("a").values("w", &[2]).unwrap(), [1.5, -2.0]);
        assert_eq!(w.finish(&[]).bytes(), 8);
    }
}

#[test]
fn errors_name_the_tensor_and_the_file() {
    let bytes: Vec<u8> = [f32::NAN, 0.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let whole = file(Dtype::F32, &bytes);
    let w = Weights::parse("m.safetensors", whole.clone().into()).unwrap().at("a");
    for (error, part) in [
        (w.values("w", &[3]).unwrap_err(), "shape [2]"),
        (w.values("x", &[3]).unwrap_err(), "a.x"),
        (w.values("w", &[2]).unwrap_err(), "NaN"),
    ] {
        assert_eq!(error.kind(), ErrorKind::ModelCorrupt);
        assert!(error.to_string().contains(part) && error.to_string().contains("m.safetensors"), "{error}");
    }
    for cut in 0..whole.len() {
        assert_eq!(Weights::parse("m", whole[..cut].to_vec().into()).err().unwrap().kind(), ErrorKind::ModelCorrupt, "{cut}");
    }
    let ints = file(Dtype::I32, &[0; 8]);
    let w = Weights::parse("m", ints.into()).unwrap();
    let e = w.values("a.w", &[2]).unwrap_err();
    assert!(e.kind() == ErrorKind::ModelIncompatible && e.to_string().contains("I32"), "{e}");
}

#[test]
fn several_files_are_read_wherever_a_model_may_lie() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &whole());
    assert_eq!(both(&open(dir.path()).unwrap()), [1.0, 2.0]);

    let files = whole();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, &**bytes)).collect();
    assert_eq!(both(&Weights::open(&ModelFiles::in_memory(&files), cpu(), ComputeType::F32).unwrap()), [1.0, 2.0]);

    // A hub cache links from a snapshot to files that are named by their content.
    let cache = tempfile::tempdir().unwrap();
    let repo = cache.path().join("models--owner--name");
    for folder in ["refs", "blobs", "snapshots/c1"] {
        std::fs::create_dir_all(repo.join(folder)).unwrap();
    }
    std::fs::write(repo.join("refs/main"), "c1").unwrap();
    for (i, (name, bytes)) in whole().into_iter().chain([("config.json", b"{}".to_vec())]).enumerate() {
        std::fs::write(repo.join(format!("blobs/{i}")), bytes).unwrap();
        std::os::unix::fs::symlink(format!("../../blobs/{i}"), repo.join("snapshots/c1").join(name)).unwrap();
    }
    let cached = || Weights::open(&ModelFiles::cached(cache.path(), "owner/name").unwrap(), cpu(), ComputeType::F32);
    assert_eq!(both(&cached().unwrap()), [1.0, 2.0]);
    // One that leads out of the repository is not followed.
    let link = repo.join("snapshots/c1/two.safetensors");
    std::fs::remove_file(&link).unwrap();
    std::fs::write(cache.path().join("secret"), shard(&[("b", 2.0)])).unwrap();
    std::os::unix::fs::symlink("../../../secret", link).unwrap();
    let e = cached().err().unwrap();
    assert!(e.kind() == ErrorKind::ModelCorrupt && e.to_string().contains("links out"), "{e}");
}

#[test]
fn a_single_file_comes_before_an_index() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &whole());
    write(dir.path(), &[("model.safetensors", shard(&[("a", 3.0), ("b", 4.0)]))]);
    assert_eq!(both(&open(dir.path()).unwrap()), [3.0, 4.0]);
    // Even where the index is nonsense.
    write(dir.path(), &[(index::FILE, b"?".to_vec())]);
    assert_eq!(both(&open(dir.path()).unwrap()), [3.0, 4.0]);
}

#[test]
fn the_revision_is_that_of_all_files() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &whole());
    let revision = || {
        let files = ModelFiles::locate(&ModelRef::directory(dir.path())).unwrap();
        Weights::open(&files, cpu(), ComputeType::F32).unwrap();
        files.revision()
    };
    let before = revision();
    assert_eq!(before, revision());
    write(dir.path(), &[("two.safetensors", shard(&[("b", 2.5)]))]);
    assert_ne!(before, revision());
}

/// The error of a model that is whole but for `files`.
fn fault(files: &[(&str, Vec<u8>)], gone: &[&str]) -> Error {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &whole());
    write(dir.path(), files);
    gone.iter().for_each(|name| std::fs::remove_file(dir.path().join(name)).unwrap());
    let e = open(dir.path()).err().unwrap_or_else(|| panic!("it was opened"));
    println!("{e}");
    e
}

fn says(e: &Error, kind: ErrorKind, words: &[&str]) {
    assert_eq!(e.kind(), kind, "{e}");
    words.iter().for_each(|word| assert!(e.to_string().contains(word), "{word:?} is not in {e}"));
}

/// An index with these entries, written as they are.
fn index(entries: &str) -> (&'static str, Vec<u8>) {
    (index::FILE, format!("{{\"weight_map\": {{{entries}}}}}").into())
}

#[test]
fn a_file_of_the_index_that_is_missing() {
    let e = fault(&[], &["two.safetensors"]);
    says(&e, ErrorKind::ModelNotFound, &["two.safetensors", "tensor b", index::FILE]);
}

#[test]
fn a_tensor_that_is_not_where_the_index_places_it() {
    let e = fault(&[("two.safetensors", shard(&[("c", 2.0)]))], &[]);
    says(&e, ErrorKind::ModelCorrupt, &["tensor b", "two.safetensors", index::FILE]);
}

#[test]
fn a_tensor_that_is_in_no_file() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &whole());
    let e = open(dir.path()).unwrap().at("model").values("c", &[1]).unwrap_err();
    says(&e, ErrorKind::ModelCorrupt, &["tensor model.c", index::FILE]);
}

#[test]
fn a_tensor_that_is_in_two_files() {
    let e = fault(&[("two.safetensors", shard(&[("a", 1.0), ("b", 2.0)]))], &[]);
    says(&e, ErrorKind::ModelCorrupt, &["tensor a", "one.safetensors", "two.safetensors"]);
    let e = fault(&[index(r#""a": "one.safetensors", "b": "two.safetensors", "a": "two.safetensors""#)], &[]);
    says(&e, ErrorKind::ModelCorrupt, &["tensor a twice", "one.safetensors", "two.safetensors"]);
}

#[test]
fn a_wrong_shape_or_storage_in_one_of_several_files() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &whole());
    let e = open(dir.path()).unwrap().values("b", &[2, 2]).unwrap_err();
    says(&e, ErrorKind::ModelCorrupt, &["tensor b", "two.safetensors", "[1]", "[2, 2]"]);
    let view = TensorView::new(Dtype::I8, vec![1], &[7]).unwrap();
    write(dir.path(), &[("two.safetensors", safetensors::serialize([("b", view)], None).unwrap())]);
    let e = open(dir.path()).unwrap().values("b", &[1]).unwrap_err();
    says(&e, ErrorKind::ModelIncompatible, &["tensor b", "two.safetensors", "I8"]);
}

#[test]
fn a_file_of_the_index_that_is_cut_off() {
    let whole = shard(&[("b", 2.0)]);
    for keep in 0..whole.len() {
        let e = fault(&[("two.safetensors", whole[..keep].to_vec())], &[]);
        says(&e, ErrorKind::ModelCorrupt, &["two.safetensors"]);
    }
    let longer = [&whole[..], &[0]].concat();
    says(&fault(&[("two.safetensors", longer)], &[]), ErrorKind::ModelCorrupt, &["two.safetensors"]);
}

#[test]
fn a_file_that_is_cut_off_between_its_header_and_its_tensors() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &whole());
    let w = open(dir.path()).unwrap();
    let path = dir.path().join("two.safetensors");
    let len = std::fs::metadata(&path).unwrap().len();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(len - 1).unwrap();
    says(&w.values("b", &[1]).unwrap_err(), ErrorKind::ModelCorrupt, &["tensor b", "two.safetensors", "cut off"]);
}

#[test]
fn an_index_that_is_none() {
    for text in ["", "{", "[]", "null", "{}", r#"{"weight_map": []}"#, r#"{"weight_map": {"a": 1}}"#, "\u{0}"] {
        says(&fault(&[(index::FILE, text.into())], &[]), ErrorKind::ModelCorrupt, &[index::FILE]);
    }
    says(&fault(&[index("")], &[]), ErrorKind::ModelCorrupt, &["no tensor", index::FILE]);
}

#[test]
fn an_index_that_lists_too_much() {
    let entries = |count: usize, file: fn(usize) -> String| -> String {
        (0..count).map(|i| format!("\"t{i}\": \"{}\"", file(i))).collect::<Vec<_>>().join(",")
    };
    let e = fault(&[index(&entries(100_001, |_| "one.safetensors".into()))], &[]);
    says(&e, ErrorKind::LimitExceeded, &["100000", index::FILE]);
    let e = fault(&[index(&entries(1_001, |i| format!("{i}.safetensors")))], &[]);
    says(&e, ErrorKind::LimitExceeded, &["1000", index::FILE]);
}

#[test]
fn names_that_lead_out_of_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("secret.safetensors"), shard(&[("a", 1.0)])).unwrap();
    let absolute = dir.path().join("secret.safetensors").display().to_string();
    let mut names: Vec<&str> = vec!["../secret.safetensors", "x/one.safetensors", "./one.safetensors", "..", ".", "", "/", "C:x"];
    names.extend(["one.bin", ".safetensors", "a\\\\b.safetensors", "one.safetensors\\u0000", &absolute]);
    for name in names {
        let e = fault(&[index(&format!("\"a\": \"{name}\", \"b\": \"two.safetensors\""))], &[]);
        says(&e, ErrorKind::ModelCorrupt, &["tensor a", index::FILE, "beside it"]);
    }
    let long = "x".repeat(300) + ".safetensors";
    says(&fault(&[index(&format!("\"a\": \"{long}\""))], &[]), ErrorKind::ModelCorrupt, &["tensor a"]);
}

#[test]
fn no_weights_at_all() {
    let gone = ["one.safetensors", "two.safetensors", index::FILE];
    says(&fault(&[], &gone), ErrorKind::ModelNotFound, &["model.safetensors", index::FILE]);
    says(&fault(&[("pytorch_model.bin", vec![0])], &gone), ErrorKind::ModelNotFound, &["pytorch_model.bin", "safetensors"]);
}

#[test]
fn tensors_that_nobody_asks_for_are_told_and_ignored() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &whole());
    // One more than the index lists, as transformers would read it.
    write(dir.path(), &[("two.safetensors", shard(&[("b", 2.0), ("head.x", 0.0), ("teacher.y", 0.0)]))]);
    let w = open(dir.path()).unwrap();
    assert_eq!(both(&w), [1.0, 2.0]);
    assert_eq!(w.left_over(&[]), ["head.x", "teacher.y"]);
    assert_eq!(w.left_over(&["head."]), ["teacher.y"]);
    // A tensor that is read twice is twice in memory.
    w.values("a", &[1]).unwrap();
    assert_eq!(warnings(|| assert_eq!(w.finish(&[]).bytes(), 12)), 1);
    assert_eq!(warnings(|| assert_eq!(w.finish(&["head.", "teacher."]).bytes(), 0, "the layers have it by now")), 0);
}

/// Checkpoints as transformers writes them are no reason for a warning.
#[test]
fn whole_checkpoints_leave_nothing_over() {
    let micro = ["stt-en", "mt-en-es", "tts-es"].map(|name| fixture("../../../models/micro").join(name));
    let cases = ["whisper", "marian", "vits"].into_iter().flat_map(expected_cases);
    let mut seen = 0;
    for dir in cases.chain(micro) {
        let files = ModelFiles::locate(&ModelRef::directory(&dir)).unwrap();
        let warnings = warnings(|| drop(crate::backend::load(&files, cpu(), ComputeType::F32, crate::backends::ALL).unwrap()));
        assert_eq!(warnings, 0, "{}", dir.display());
        seen += 1;
    }
    assert!(seen >= 12, "only {seen}");
}

/// How often `work` warns.
fn warnings(work: impl FnOnce()) -> usize {
    struct Warnings(std::sync::atomic::AtomicUsize);
    impl tracing::Subscriber for Warnings {
        fn enabled(&self, meta: &tracing::Metadata<'_>) -> bool {
            *meta.level() <= tracing::Level::WARN
        }
        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }
        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
        fn event(&self, _: &tracing::Event<'_>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
        fn enter(&self, _: &tracing::span::Id) {}
        fn exit(&self, _: &tracing::span::Id) {}
    }
    let warnings = Arc::new(Warnings(Default::default()));
    tracing::subscriber::with_default(warnings.clone(), work);
    warnings.0.load(std::sync::atomic::Ordering::SeqCst)
}
