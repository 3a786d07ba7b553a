//! The models that are on this machine.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::hub::has_weights;
use super::{Kind, ModelFiles, ModelRef, Root, Sources, directory, embedded};
use crate::error::Result;

/// A model that is on this machine, so that it loads without a network.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Installed {
    /// Its name, as it is asked for.
    pub model: ModelRef,
    /// The architecture, as its config.json has it.
    pub model_type: Option<String>,
    /// Where it lies; `None` if it is embedded.
    pub folder: Option<PathBuf>,
    /// Whether this build runs that architecture, and the weights are there in a format that it reads.
    pub runs: bool,
}

impl Sources {
    /// The embedded models, those in the folder of models, and those in the hub's cache. A folder that cannot be read has none.
    pub(crate) fn installed(&self, known: &[&str]) -> Vec<Installed> {
        let mut found = Vec::new();
        let mut look = |model: ModelRef, root: Result<Root>, folder: Option<&Path>| {
            let Ok(root) = root else { return };
            let files = ModelFiles::new(model.to_string(), root);
            if !files.has("config.json") {
                return;
            }
            let config: Option<Value> = files.find_json("config.json").unwrap_or_default();
            let model_type = config.and_then(|c| Some(c.get("model_type")?.as_str()?.to_owned()));
            let runs = has_weights(&files) && model_type.as_deref().is_some_and(|t| known.contains(&t));
            found.push(Installed { model, model_type, folder: folder.map(Path::to_path_buf), runs });
        };
        for model in ModelRef::embedded() {
            if let Kind::Bundled(name) = &model.0 {
                look(model.clone(), embedded(name), None);
            }
        }
        // A folder whose name is no model's cannot be asked for.
        let mut look_into = |name: &str, folder: &Path, fence: &Path| {
            if let Ok(model) = name.parse() {
                look(model, directory(folder, fence), Some(folder));
            }
        };
        for (owner, path) in self.models_dir.iter().flat_map(|folder| children(folder)) {
            look_into(&owner, &path, &path);
            for (name, path) in children(&path) {
                look_into(&format!("{owner}/{name}"), &path, &path);
            }
        }
        for (repository, fence) in self.hub.folder().iter().flat_map(|folder| children(folder)) {
            let Some(id) = repository.strip_prefix("models--").map(|id| id.replace("--", "/")) else { continue };
            let main = fs::read_to_string(fence.join("refs/main")).unwrap_or_default();
            for (commit, snapshot) in children(&fence.join("snapshots")) {
                match commit == main.trim() {
                    true => look_into(&id, &snapshot, &fence),
                    false => look_into(&format!("{id}@{commit}"), &snapshot, &fence),
                }
            }
        }
        found
    }
}

/// The folders in a folder, by name.
fn children(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let named = entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())));
    let mut found: Vec<_> = named.filter(|(_, path)| path.is_dir()).collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::HubOptions;

    #[test]
    fn models_are_found_where_they_are_looked_for() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("own/me/one/config.json", r#"{"model_type": "marian"}"#);
        write("own/me/one/model.safetensors", "");
        write("own/flat/config.json", r#"{"model_type": "bert"}"#);
        write("own/flat/model.safetensors", "");
        write("own/not a name/config.json", "{}");
        write("hub/models--owner--name/refs/main", "abc\n");
        write("hub/models--owner--name/snapshots/abc/config.json", r#"{"model_type": "marian"}"#);
        write("hub/models--owner--name/snapshots/def/config.json", "no JSON");
        write("hub/models--owner--name/snapshots/def/model.safetensors.index.json", "");
        write("hub/models--owner--name/snapshots/empty/other", "");
        write("hub/datasets--owner--name/snapshots/abc/config.json", "{}");
        let hub = HubOptions::default().cache(dir.path().join("hub"));
        let sources = Sources { models_dir: Some(dir.path().join("own")), hub };
        let found: Vec<_> = sources.installed(&["marian"]).into_iter().filter(|m| m.folder.is_some()).collect();
        let told: Vec<_> = found.iter().map(|m| (m.model.to_string(), m.model_type.as_deref(), m.runs)).collect();
        let wanted = [
            ("flat", Some("bert"), false),
            ("me/one", Some("marian"), true),
            ("owner/name", Some("marian"), false),
            ("owner/name@def", None, false),
        ];
        assert_eq!(told, wanted.map(|(name, kind, runs)| (name.to_string(), kind, runs)));
        assert!(found[2].folder.as_ref().unwrap().ends_with("snapshots/abc"));
        let nowhere =
            Sources { models_dir: Some("/nowhere".into()), hub: HubOptions::default().cache(PathBuf::from("/nowhere")) };
        let embedded = nowhere.installed(&["whisper", "marian", "vits"]);
        assert_eq!(embedded.len(), ModelRef::embedded().len());
        assert!(embedded.iter().all(|m| m.runs && m.folder.is_none()));
    }
}
