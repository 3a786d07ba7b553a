//! From a model's name to its files: embedded in the binary, a directory, or the Hugging Face cache.

mod blob;
#[cfg(feature = "hub")]
mod fetch;
mod hub;
mod installed;

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};

pub(crate) use blob::{Blob, Reading};
pub use hub::HubOptions;
pub use installed::Installed;

/// Names a model.
///
/// | written | means |
/// |---|---|
/// | `micro/stt-en` | a model embedded in the library (feature `bundled`) |
/// | `./models/x`, `/srv/x`, `~` is not expanded | a directory in Hugging Face layout |
/// | `openai/whisper-base`, `openai/whisper-base@main` | a hub model, at a revision |
/// | `whisper:v2`, `translation:en-es@v2` | a name that the factory knows: [`FactoryBuilder::alias`](crate::FactoryBuilder::alias) |
///
/// ```
/// use dubcore::ModelRef;
/// let model: ModelRef = "openai/whisper-base@main".parse()?;
/// assert_eq!(model.to_string(), "openai/whisper-base@main");
/// assert!("owner/../secret".parse::<ModelRef>().is_err());
/// # Ok::<(), dubcore::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ModelRef(Kind);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Bundled(String),
    Directory(PathBuf),
    Hub { id: String, revision: Option<String> },
    Alias(String),
}

impl ModelRef {
    /// The models that are embedded in this build.
    pub fn embedded() -> Vec<Self> {
        #[cfg(feature = "bundled")]
        let names = dubcore_models::ALL.iter().map(|model| model.name);
        #[cfg(not(feature = "bundled"))]
        let names = std::iter::empty::<&str>();
        names.map(|name| Self(Kind::Bundled(name.to_string()))).collect()
    }

    /// A directory in Hugging Face layout, absolute or relative to the working directory.
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        Self(Kind::Directory(path.into()))
    }

    /// The name, if the reference is one that a factory has to look up.
    pub(crate) fn alias(&self) -> Option<&str> {
        match &self.0 {
            Kind::Alias(name) => Some(name),
            _ => None,
        }
    }

    /// The revision asked for, if the reference names one.
    pub fn revision(&self) -> Option<&str> {
        match &self.0 {
            Kind::Hub { revision, .. } => revision.as_deref(),
            _ => None,
        }
    }
}

impl FromStr for ModelRef {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::argument(format!(
                "{text:?} does not name a model ({why}): use micro/NAME, a directory starting with ./ or /, OWNER/NAME[@REVISION], or a known NAME:VERSION"
            ))
        };
        if text.starts_with(['/', '.']) || Path::new(text).is_absolute() {
            return match text.contains('\0') {
                true => Err(wrong("a path has no NUL")),
                false => Ok(Self::directory(text)),
            };
        }
        let plain = |part: &str| {
            let ok = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !part.is_empty() && part.len() <= 96 && part.chars().all(ok) && !part.starts_with(['.', '-']) && !part.contains("..")
        };
        if let Some((group, rest)) = text.split_once(':') {
            return match plain(group) && rest.split('@').all(plain) {
                true => Ok(Self(Kind::Alias(text.to_string()))),
                false => Err(wrong("a name with a version is NAME:VERSION or NAME:WHAT@VERSION")),
            };
        }
        let (id, revision) = match text.split_once('@') {
            Some((id, revision)) => (id, Some(revision)),
            None => (text, None),
        };
        if !id.split('/').all(plain) || id.split('/').count() > 2 {
            return Err(wrong("letters, digits, '-', '_' and '.' only, at most one '/'"));
        }
        // A revision may be a branch with slashes (refs/pr/1); each part is as strict as a name.
        if !revision.is_none_or(|r| r.split('/').all(plain)) {
            return Err(wrong("a revision is a branch, tag or commit"));
        }
        Ok(Self(match id.strip_prefix("micro/") {
            Some(_) if revision.is_some() => return Err(wrong("an embedded model has no revisions")),
            Some(name) => Kind::Bundled(name.to_string()),
            None => Kind::Hub { id: id.to_string(), revision: revision.map(str::to_string) },
        }))
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Bundled(name) => write!(f, "micro/{name}"),
            Kind::Directory(path) if path.is_absolute() || path.starts_with(".") || path.starts_with("..") => {
                path.display().fmt(f)
            }
            Kind::Directory(path) => write!(f, "./{}", path.display()),
            Kind::Hub { id, revision: None } => f.write_str(id),
            Kind::Hub { id, revision: Some(revision) } => write!(f, "{id}@{revision}"),
            Kind::Alias(name) => f.write_str(name),
        }
    }
}

impl Serialize for ModelRef {
    fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// The largest model file that is read; a limit against declared nonsense and against filling memory by mistake.
const MAX_FILE: u64 = 16 << 30;
/// The largest JSON file. The largest vocabularies take a tenth of it.
const MAX_JSON: u64 = 256 << 20;

/// Where models may be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// A folder with models as `OWNER/NAME`.
    pub(crate) models_dir: Option<PathBuf>,
    pub(crate) hub: HubOptions,
}

/// The files of one model.
pub(crate) struct ModelFiles {
    name: String,
    root: Root,
    /// Hash of every file read so far, in the order of reading: what the model is, to the bit.
    hash: Mutex<blake3::Hasher>,
    reading: Arc<Reading>,
}

enum Root {
    #[cfg_attr(not(feature = "bundled"), allow(dead_code, reason = "constructed only where models are embedded"))]
    Embedded(&'static [(&'static str, &'static [u8])]),
    Directory {
        path: PathBuf,
        within: PathBuf,
    },
    #[cfg(any(test, fuzzing))]
    Memory(Vec<(String, Vec<u8>)>),
}

impl ModelFiles {
    /// Finds the files of `model` on this machine, by no settings.
    pub(crate) fn locate(model: &ModelRef) -> Result<Self> {
        Self::locate_in(model, &Sources::default(), Arc::default())
    }

    /// Finds the files of `model`, which may have to be fetched; `reading` tells how far that is.
    ///
    /// # Errors
    /// `ModelNotFound`, with what to do about it; `Network`, `Io` or `Busy` where it cannot be fetched.
    pub(crate) fn locate_in(model: &ModelRef, sources: &Sources, reading: Arc<Reading>) -> Result<Self> {
        let folder = |id: &str| sources.models_dir.as_ref().map(|folder| folder.join(id));
        let own = |id: &str| folder(id).filter(|path| path.join("config.json").is_file());
        let root = match &model.0 {
            Kind::Bundled(name) => embedded(name)?,
            Kind::Directory(path) => directory(path, path)?,
            // What lies there has no revision that could be asked for.
            Kind::Hub { id, revision: None } if let Some(path) = own(id) => directory(&path, &path)?,
            Kind::Hub { id, revision } => hub::find(id, revision.as_deref(), &sources.hub, &reading)?,
            Kind::Alias(name) => return Err(Error::internal(format!("{name} was not looked up"))),
        };
        Ok(Self { reading, ..Self::new(model.to_string(), root) })
    }

    fn new(name: String, root: Root) -> Self {
        Self { name, root, hash: Mutex::default(), reading: Arc::default() }
    }

    /// How much was read.
    #[cfg(test)]
    pub(crate) fn reading(&self) -> &Arc<Reading> {
        &self.reading
    }

    /// A model that a test or a fuzzer made up.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn in_memory(files: &[(&str, &[u8])]) -> Self {
        let root = Root::Memory(files.iter().map(|(name, bytes)| (name.to_string(), bytes.to_vec())).collect());
        Self::new("./in-memory".into(), root)
    }

    /// The files of a hub model in another cache than the environment's.
    #[cfg(test)]
    pub(crate) fn cached(cache: &Path, id: &str) -> Result<Self> {
        let hub = HubOptions::default().cache(cache.to_path_buf()).downloads(false);
        Self::locate_in(&id.parse()?, &Sources { hub, ..Sources::default() }, Arc::default())
    }

    /// The model's reference, for messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A file whose parts can be read, or `None` where the model has no such file. All of it goes into the model's
    /// revision, whatever is read of it later.
    pub(crate) fn open(&self, file: &str) -> Result<Option<Blob>> {
        self.open_up_to(file, MAX_FILE)
    }

    fn open_up_to(&self, file: &str, most: u64) -> Result<Option<Blob>> {
        let blob = match &self.root {
            Root::Embedded(files) => files.iter().find(|(name, _)| *name == file).map(|(_, bytes)| Blob::bytes(*bytes)),
            Root::Directory { path, within } => open_within(&path.join(file), within, most, &self.reading)?,
            #[cfg(any(test, fuzzing))]
            Root::Memory(files) => files.iter().find(|(name, _)| name == file).map(|(_, bytes)| Blob::bytes(bytes.clone())),
        };
        let Some(blob) = blob else { return Ok(None) };
        // Beside the weights the other files are nothing.
        if file.ends_with(".safetensors") {
            self.reading.expect(blob.len());
        }
        let content = blob.hash().map_err(|e| self.unreadable(file, e))?;
        let mut hash = self.hash.lock();
        hash.update(file.as_bytes());
        hash.update(&blob.len().to_le_bytes());
        hash.update(content.as_bytes());
        Ok(Some(blob))
    }

    /// The bytes of a file, or `None` where the model has no such file.
    pub(crate) fn find(&self, file: &str) -> Result<Option<Cow<'static, [u8]>>> {
        self.find_up_to(file, MAX_FILE)
    }

    fn find_up_to(&self, file: &str, most: u64) -> Result<Option<Cow<'static, [u8]>>> {
        match self.open_up_to(file, most)? {
            None => Ok(None),
            Some(blob) => blob.into_bytes().map(Some).map_err(|e| self.unreadable(file, e)),
        }
    }

    /// Whether the model has a file of that name, which is not opened.
    pub(crate) fn has(&self, file: &str) -> bool {
        match &self.root {
            Root::Embedded(files) => files.iter().any(|(name, _)| *name == file),
            Root::Directory { path, .. } => path.join(file).is_file(),
            #[cfg(any(test, fuzzing))]
            Root::Memory(files) => files.iter().any(|(name, _)| name == file),
        }
    }

    /// The bytes of a file that must be there.
    pub(crate) fn read(&self, file: &str) -> Result<Cow<'static, [u8]>> {
        self.find(file)?.ok_or_else(|| self.missing(file))
    }

    /// A JSON file that must be there.
    pub(crate) fn json<T: DeserializeOwned>(&self, file: &str) -> Result<T> {
        self.find_json(file)?.ok_or_else(|| self.missing(file))
    }

    /// A JSON file that may be missing.
    pub(crate) fn find_json<T: DeserializeOwned>(&self, file: &str) -> Result<Option<T>> {
        self.find_up_to(file, MAX_JSON)?.map(|bytes| self.parse(file, &bytes)).transpose()
    }

    fn parse<T: DeserializeOwned>(&self, file: &str, bytes: &[u8]) -> Result<T> {
        serde_json::from_slice(bytes).map_err(|e| self.corrupt(file, "does not say what it must").with_source(e))
    }

    fn missing(&self, file: &str) -> Error {
        let what = format!("model {} has no {file}: it needs the whole Hugging Face directory", self.name);
        Error::new(ErrorKind::ModelNotFound, what)
    }

    /// An error about a file that was found and cannot be read.
    fn unreadable(&self, file: &str, e: io::Error) -> Error {
        let kind = if e.kind() == io::ErrorKind::OutOfMemory { ErrorKind::OutOfMemory } else { ErrorKind::Io };
        Error::new(kind, format!("cannot read {file} of model {}", self.name)).with_source(e)
    }

    /// An error about one of the model's files.
    pub(crate) fn corrupt(&self, file: &str, what: &str) -> Error {
        Error::new(ErrorKind::ModelCorrupt, format!("{file} of model {} {what}", self.name))
    }

    /// An error about a model that is intact but cannot be run.
    pub(crate) fn incompatible(&self, what: &str) -> Error {
        Error::new(ErrorKind::ModelIncompatible, format!("model {} {what}", self.name))
    }

    /// Identifies the exact content of the files read so far.
    pub(crate) fn revision(&self) -> String {
        self.hash.lock().finalize().to_hex()[..16].to_string()
    }
}

/// What the embedded models can do together.
pub(crate) mod bundled {
    #[cfg(feature = "bundled")]
    use super::Kind;
    use super::ModelRef;
    use crate::lang::Lang;

    /// Models that dub one language into another.
    pub(crate) struct Pair {
        pub(crate) from: Lang,
        pub(crate) to: Lang,
        pub(crate) stt: ModelRef,
        pub(crate) translator: ModelRef,
        pub(crate) tts: ModelRef,
    }

    /// Every pair for which there is a recogniser, a translator and a voice.
    #[cfg(feature = "bundled")]
    pub(crate) fn pairs() -> Vec<Pair> {
        use dubcore_models::{ALL, Stage};
        let named = |stage| ALL.iter().find(|m| m.stage == stage).map(|m| ModelRef(Kind::Bundled(m.name.to_string())));
        let pair = |m: &dubcore_models::Model| {
            let Stage::Translator { from, to } = m.stage else { return None };
            Some(Pair {
                from: from.parse().ok()?,
                to: to.parse().ok()?,
                stt: named(Stage::Stt { from })?,
                translator: named(m.stage)?,
                tts: named(Stage::Tts { to })?,
            })
        };
        ALL.iter().filter_map(pair).collect()
    }

    /// None is embedded in this build.
    #[cfg(not(feature = "bundled"))]
    pub(crate) fn pairs() -> Vec<Pair> {
        Vec::new()
    }
}

#[cfg(feature = "bundled")]
fn embedded(name: &str) -> Result<Root> {
    dubcore_models::find(name).map(|m| Root::Embedded(m.files)).ok_or_else(|| {
        let known: Vec<_> = dubcore_models::ALL.iter().map(|m| format!("micro/{}", m.name)).collect();
        Error::new(ErrorKind::ModelNotFound, format!("there is no embedded model micro/{name}: there are {}", known.join(", ")))
    })
}

#[cfg(not(feature = "bundled"))]
fn embedded(name: &str) -> Result<Root> {
    Err(Error::new(
        ErrorKind::ModelNotFound,
        format!("micro/{name} is not in this build: enable the feature \"bundled\", or name a directory or a hub model"),
    ))
}

fn directory(path: &Path, within: &Path) -> Result<Root> {
    let missing = |e| Error::new(ErrorKind::ModelNotFound, format!("no model directory {}", path.display())).with_source(e);
    let (path, within) = (path.canonicalize().map_err(missing)?, within.canonicalize().map_err(missing)?);
    if !path.is_dir() {
        let what = format!("{} is not a directory: name the folder that holds config.json", path.display());
        return Err(Error::new(ErrorKind::ModelNotFound, what));
    }
    Ok(Root::Directory { path, within })
}

/// Opens a file whose real place must be inside `within`; `None` if there is none.
fn open_within(path: &Path, within: &Path, most: u64, reading: &Arc<Reading>) -> Result<Option<Blob>> {
    let failed = |e: io::Error| Error::new(ErrorKind::Io, format!("cannot read {}", path.display())).with_source(e);
    let real = match path.canonicalize() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed)?,
    };
    if !real.starts_with(within) {
        let what = format!("{} links out of the model's folder {}", path.display(), within.display());
        return Err(Error::new(ErrorKind::ModelCorrupt, what));
    }
    // Asked before opening, because opening a pipe waits for its other end.
    if !std::fs::metadata(&real).map_err(failed)?.is_file() {
        return Err(Error::new(ErrorKind::ModelCorrupt, format!("{} is not a file", path.display())));
    }
    let file = File::open(&real).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if meta.len() > most {
        let what = format!("{} has {} bytes, over the limit of {most}", path.display(), meta.len());
        return Err(Error::new(ErrorKind::LimitExceeded, what));
    }
    Ok(Some(Blob::file(file, meta.len(), reading.clone())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_round_trip() {
        for text in [
            "micro/stt-en",
            "openai/whisper-base",
            "openai/whisper-base@refs/pr/1",
            "gpt2",
            "./a/b",
            "../a",
            "/srv/m",
            "whisper:v2",
            "translation:en-es@v2",
        ] {
            assert_eq!(text.parse::<ModelRef>().unwrap().to_string(), text);
        }
        assert_eq!(ModelRef::directory("a/b").to_string(), "./a/b");
        for text in [
            "",
            "a/b/c",
            "a/../b",
            "a/..",
            "micro/x@main",
            "a b",
            "a/b@",
            "a/b@../x",
            "-a/b",
            "é/b",
            "micro/",
            "a\0/b",
            "/a\0",
            "a:",
            ":a",
            "a:b:c",
            "a/b:c",
            "a:b@",
        ] {
            assert_eq!(text.parse::<ModelRef>().unwrap_err().kind(), ErrorKind::InvalidArgument, "{text:?}");
        }
    }

    #[test]
    fn directories_fence_their_files() {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("model");
        std::fs::create_dir(&model).unwrap();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        std::fs::write(model.join("config.json"), "{}").unwrap();
        std::os::unix::fs::symlink("../secret", model.join("vocab.json")).unwrap();
        let files = ModelFiles::locate(&ModelRef::directory(&model)).unwrap();
        assert_eq!(&*files.read("config.json").unwrap(), b"{}");
        assert_eq!(files.read("vocab.json").unwrap_err().kind(), ErrorKind::ModelCorrupt);
        assert_eq!(files.read("other.json").unwrap_err().kind(), ErrorKind::ModelNotFound);
        assert!(files.find("other.json").unwrap().is_none());
        assert_eq!(files.json::<Vec<u8>>("config.json").unwrap_err().kind(), ErrorKind::ModelCorrupt);
        assert_eq!(
            ModelFiles::locate(&ModelRef::directory(dir.path().join("none"))).err().unwrap().kind(),
            ErrorKind::ModelNotFound
        );
        assert_eq!(
            ModelFiles::locate(&ModelRef::directory(model.join("config.json"))).err().unwrap().kind(),
            ErrorKind::ModelNotFound
        );
    }

    #[test]
    fn the_hub_cache_is_read_as_its_clients_write_it() {
        let dir = tempfile::tempdir().unwrap();
        let repo = dir.path().join("models--owner--name");
        for folder in ["refs", "blobs", "snapshots/abc123"] {
            std::fs::create_dir_all(repo.join(folder)).unwrap();
        }
        std::fs::write(repo.join("refs/main"), "abc123").unwrap();
        std::fs::write(repo.join("blobs/b1"), "{}").unwrap();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink("../../blobs/b1", repo.join("snapshots/abc123/config.json")).unwrap();
        std::os::unix::fs::symlink("../../../secret", repo.join("snapshots/abc123/vocab.json")).unwrap();
        for name in ["owner/name", "owner/name@main", "owner/name@abc123"] {
            let files = ModelFiles::cached(dir.path(), name).unwrap();
            assert_eq!(&*files.read("config.json").unwrap(), b"{}");
            assert_eq!(files.read("vocab.json").unwrap_err().kind(), ErrorKind::ModelCorrupt);
        }
        for (name, how) in [("owner/name@v2", "hf download owner/name --revision v2"), ("owner/other", "hf download owner/other")]
        {
            let e = ModelFiles::cached(dir.path(), name).err().unwrap();
            assert!(e.kind() == ErrorKind::ModelNotFound && e.to_string().contains(how), "{e}");
        }
    }

    #[test]
    fn parts_are_read_from_files_and_from_memory_alike() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), b"0123456789").unwrap();
        let files = ModelFiles::locate(&ModelRef::directory(dir.path())).unwrap();
        for blob in [files.open("a").unwrap().unwrap(), Blob::bytes(&b"0123456789"[..])] {
            assert_eq!(blob.len(), 10);
            assert_eq!(&*blob.part(3, 4).unwrap(), b"3456");
            assert_eq!(&*blob.part(0, 2).unwrap(), b"01");
            assert_eq!(&*blob.part(10, 0).unwrap(), b"");
            for (at, len) in [(8, 3), (11, 1), (u64::MAX, 1), (1, usize::MAX)] {
                assert!(blob.part(at, len).is_err(), "{at} {len}");
            }
            assert_eq!(&*blob.into_bytes().unwrap(), b"0123456789");
        }
        // A file that shrinks while it is open is an error, not a signal.
        let blob = files.open("a").unwrap().unwrap();
        std::fs::write(dir.path().join("a"), b"01").unwrap();
        assert_eq!(blob.part(3, 4).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn json_has_a_limit_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        // A hole: it takes no room on the disk.
        File::create(dir.path().join("a.json")).unwrap().set_len(MAX_JSON + 1).unwrap();
        let files = ModelFiles::locate(&ModelRef::directory(dir.path())).unwrap();
        let e = files.json::<serde_json::Value>("a.json").unwrap_err();
        assert!(e.kind() == ErrorKind::LimitExceeded && e.to_string().contains("a.json"), "{e}");
    }

    #[test]
    fn the_revision_is_the_content() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "1").unwrap();
        let revision = || {
            let files = ModelFiles::locate(&ModelRef::directory(dir.path())).unwrap();
            files.read("a").unwrap();
            files.revision()
        };
        let before = revision();
        assert_eq!(before, revision());
        std::fs::write(dir.path().join("a"), "2").unwrap();
        assert_ne!(before, revision());
    }
}
