//! Reads what Python transformers computed (tests/generate) for the parity tests.

use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};

/// A folder below tests/fixtures.
pub(crate) fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(path)
}

/// Every case of a group.
pub(crate) fn expected_cases(group: &str) -> Vec<PathBuf> {
    let mut cases: Vec<_> =
        std::fs::read_dir(fixture(group)).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    cases.sort();
    cases
}

/// The expectations of one case.
pub(crate) struct Expected {
    bytes: Vec<u8>,
    pub(crate) json: serde_json::Value,
    name: String,
}

impl Expected {
    pub(crate) fn read(dir: &Path) -> Self {
        let json = std::fs::read(dir.join("expected.json")).map(|b| serde_json::from_slice(&b).unwrap()).unwrap_or_default();
        Self { bytes: std::fs::read(dir.join("expected.safetensors")).unwrap(), json, name: dir.display().to_string() }
    }

    /// Tensors without a JSON file beside them.
    pub(crate) fn file(path: &Path) -> Self {
        Self { bytes: std::fs::read(path).unwrap(), json: serde_json::Value::Null, name: path.display().to_string() }
    }

    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).unwrap()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.tensors().names().into_iter().map(str::to_string).collect()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors().tensor(name).is_ok()
    }

    /// Values and shape.
    pub(crate) fn floats(&self, name: &str) -> (Vec<f32>, Vec<usize>) {
        let tensors = self.tensors();
        let t = tensors.tensor(name).unwrap_or_else(|e| panic!("{}: {name}: {e}", self.name));
        assert_eq!(t.dtype(), Dtype::F32, "{name}");
        (t.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(), t.shape().to_vec())
    }

    pub(crate) fn ints(&self, name: &str) -> (Vec<i64>, Vec<usize>) {
        let tensors = self.tensors();
        let t = tensors.tensor(name).unwrap_or_else(|e| panic!("{}: {name}: {e}", self.name));
        assert_eq!(t.dtype(), Dtype::I64, "{name}");
        (t.data().as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect(), t.shape().to_vec())
    }

    pub(crate) fn shorts(&self, name: &str) -> Vec<i16> {
        let tensors = self.tensors();
        let t = tensors.tensor(name).unwrap_or_else(|e| panic!("{}: {name}: {e}", self.name));
        assert_eq!(t.dtype(), Dtype::I16, "{name}");
        t.data().as_chunks::<2>().0.iter().map(|b| i16::from_le_bytes(*b)).collect()
    }

    /// Rows of tokens.
    pub(crate) fn tokens(&self, name: &str) -> Vec<Vec<u32>> {
        let (values, shape) = self.ints(name);
        values.chunks(shape[1]).map(|row| row.iter().map(|t| *t as u32).collect()).collect()
    }

    /// Rows of tokens in expected.json.
    pub(crate) fn rows(&self, key: &str) -> Vec<Vec<u32>> {
        serde_json::from_value(self.json[key].clone()).unwrap_or_else(|e| panic!("{}: {key}: {e}", self.name))
    }

    /// Fails if `got` is further than `tolerance` from the expectation anywhere.
    pub(crate) fn close(&self, name: &str, got: &[f32], tolerance: f32) {
        let (want, shape) = self.floats(name);
        assert_eq!(want.len(), got.len(), "{}: {name} {shape:?}", self.name);
        let worst = want.iter().zip(got).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{}: {name} max abs error {worst:.2e}", self.name);
        assert!(worst <= tolerance, "{}: {name} is off by {worst}", self.name);
    }
}
