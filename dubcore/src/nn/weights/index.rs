//! `model.safetensors.index.json`: which file has which tensor. It comes from outside, like all of a model.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::error::{Error, ErrorKind, Result};
use crate::source::ModelFiles;

pub(super) const FILE: &str = "model.safetensors.index.json";

/// The most tensors of an index, and the most files that it may spread them over. No model is near these.
const MAX_TENSORS: usize = 100_000;
const MAX_FILES: usize = 1_000;

#[derive(Deserialize)]
struct Index {
    weight_map: WeightMap,
}

/// Tensors and their files as they stand there. A map would hide what is listed twice, and be as large as it likes.
struct WeightMap(Vec<(String, String)>);

impl<'de> Deserialize<'de> for WeightMap {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = WeightMap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of tensors to files")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<WeightMap, A::Error> {
                let mut pairs = Vec::new();
                // One more than is allowed tells that there are too many.
                while pairs.len() <= MAX_TENSORS
                    && let Some(pair) = map.next_entry()?
                {
                    pairs.push(pair);
                }
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(WeightMap(pairs))
            }
        }
        from.deserialize_map(Pairs)
    }
}

/// The files of the index, each with its tensors, at least one; `None` where the model has no index.
pub(super) fn read(files: &ModelFiles) -> Result<Option<BTreeMap<String, Vec<String>>>> {
    let Some(Index { weight_map: WeightMap(mut pairs) }) = files.find_json(FILE)? else { return Ok(None) };
    let too_many = |what: String| Err(Error::new(ErrorKind::LimitExceeded, format!("{FILE} of model {} {what}", files.name())));
    if pairs.len() > MAX_TENSORS {
        return too_many(format!("lists more than {MAX_TENSORS} tensors"));
    }
    if pairs.is_empty() {
        return Err(files.corrupt(FILE, "lists no tensor"));
    }
    pairs.sort_unstable();
    if let Some(twice) = pairs.windows(2).find(|p| p[0].0 == p[1].0) {
        let what = format!("lists tensor {} twice, in {} and in {}", twice[0].0, twice[0].1, twice[1].1);
        return Err(files.corrupt(FILE, &what));
    }
    let mut shards: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (tensor, file) in pairs {
        if !is_plain(&file) {
            let what = format!("places tensor {tensor} in {file:?}, which is no name of a safetensors file beside it");
            return Err(files.corrupt(FILE, &what));
        }
        shards.entry(file).or_default().push(tensor);
    }
    if shards.len() > MAX_FILES {
        return too_many(format!("spreads the tensors over {} files, more than {MAX_FILES}", shards.len()));
    }
    Ok(Some(shards))
}

/// Whether `name` is the mere name of a file: anything that a path could be made of leads out of the model's folder.
fn is_plain(name: &str) -> bool {
    let ok = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    name.len() <= 255 && name.ends_with(".safetensors") && !name.starts_with('.') && name.chars().all(ok)
}
