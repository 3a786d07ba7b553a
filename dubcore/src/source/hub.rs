//! Models of the Hugging Face hub: where the clients keep them on this machine, and whether missing ones are fetched.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::{Cache, Repo, RepoType};

use super::{ModelFiles, Reading, Root, directory};
use crate::error::{Error, ErrorKind, Result};
use crate::stage::setters;

/// How models of the Hugging Face hub are found. What is not set comes from the environment that all its clients share.
#[non_exhaustive]
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HubOptions {
    /// The folder that its clients share. Default: `HF_HUB_CACHE`, else `hub` in `HF_HOME`, else in `~/.cache/huggingface`.
    pub cache: Option<PathBuf>,
    /// Whether what is not there is fetched. Default: yes, unless `HF_HUB_OFFLINE` is `1` or this build is without the feature
    /// `hub`.
    pub downloads: Option<bool>,
    /// The server. Default: `HF_ENDPOINT`, else `https://huggingface.co`.
    pub endpoint: Option<String>,
    /// The token for models that are not everyone's. Default: `HF_TOKEN`, else what `hf auth login` left in `HF_HOME`.
    pub token: Option<String>,
    /// How long the server may take to answer. A part of a file, 16 MB, may take thirty times as long. Default:
    /// `HF_HUB_DOWNLOAD_TIMEOUT` seconds, else 10.
    pub timeout: Option<Duration>,
}

setters! { HubOptions:
    /// Sets [`HubOptions::cache`].
    cache: impl Into<Option<PathBuf>>,
    /// Sets [`HubOptions::downloads`].
    downloads: impl Into<Option<bool>>,
    /// Sets [`HubOptions::endpoint`].
    endpoint: impl Into<Option<String>>,
    /// Sets [`HubOptions::token`].
    token: impl Into<Option<String>>,
    /// Sets [`HubOptions::timeout`].
    timeout: impl Into<Option<Duration>>,
}

/// The token is nobody's to read in a log.
impl fmt::Debug for HubOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cache, downloads, endpoint, token, timeout } = self;
        let token = token.as_ref().map(|_| "...");
        let mut shown = f.debug_struct("HubOptions");
        shown.field("cache", cache).field("downloads", downloads).field("endpoint", endpoint);
        shown.field("token", &token).field("timeout", timeout).finish()
    }
}

/// A server to fetch from.
#[cfg(feature = "hub")]
pub(super) struct Server {
    pub(super) endpoint: String,
    pub(super) token: Option<String>,
    pub(super) timeout: Duration,
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The folder of the hub's clients, if the system tells where the user lives.
fn home() -> Option<PathBuf> {
    let cache = || env("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| Some(std::env::home_dir()?.join(".cache")));
    env("HF_HOME").map(PathBuf::from).or_else(|| Some(cache()?.join("huggingface")))
}

impl HubOptions {
    pub(crate) fn downloads_allowed(&self) -> bool {
        let offline = || env("HF_HUB_OFFLINE").is_some_and(|v| ["1", "true", "yes", "on"].contains(&v.to_lowercase().as_str()));
        cfg!(feature = "hub") && self.downloads.unwrap_or_else(|| !offline())
    }

    /// The folder of the hub's models: see [`HubOptions::cache`]. It may not be there yet.
    ///
    /// # Errors
    /// `ModelNotFound` where nothing names one and the user has no home.
    pub fn folder(&self) -> Result<PathBuf> {
        let shared = || env("HF_HUB_CACHE").map(PathBuf::from).or_else(|| Some(home()?.join("hub")));
        self.cache.clone().or_else(shared).ok_or_else(|| {
            let what = "the folder of the hub's models is not known, for the user has no home: set HF_HOME";
            Error::new(ErrorKind::ModelNotFound, what)
        })
    }

    /// The address of the server: see [`HubOptions::endpoint`].
    pub fn address(&self) -> String {
        let address = self.endpoint.clone().or_else(|| env("HF_ENDPOINT")).unwrap_or_else(|| "https://huggingface.co".into());
        address.trim_end_matches('/').to_owned()
    }

    #[cfg(feature = "hub")]
    fn server(&self) -> Result<Server> {
        Ok(Server {
            endpoint: self.address(),
            token: self.token.clone().or_else(|| env("HF_TOKEN")).or_else(token_of_the_clients).filter(|t| !t.is_empty()),
            timeout: match (self.timeout, env("HF_HUB_DOWNLOAD_TIMEOUT")) {
                (Some(timeout), _) => timeout,
                (None, None) => Duration::from_secs(10),
                (None, Some(seconds)) => seconds.parse().map(Duration::from_secs).map_err(|_| {
                    Error::argument(format!("HF_HUB_DOWNLOAD_TIMEOUT={seconds:?} is wrong: it must be a number of seconds"))
                })?,
            },
        })
    }
}

#[cfg(feature = "hub")]
fn token_of_the_clients() -> Option<String> {
    let token = std::fs::read_to_string(home()?.join("token")).ok()?;
    Some(token.trim().to_owned())
}

/// Finds a model of the hub, fetching it if need be; `reading` tells how far that is.
#[cfg_attr(not(feature = "hub"), expect(unused_variables, reason = "nothing is fetched"))]
pub(super) fn find(id: &str, revision: Option<&str>, opts: &HubOptions, reading: &Reading) -> Result<Root> {
    let (cache, fetches) = (opts.folder()?, opts.downloads_allowed());
    let found = cached(&cache, id, revision)?;
    // Other clients fetch a file when they need it: what they left may be without weights.
    if let Some(found) = found {
        let found = ModelFiles::new(id.to_owned(), found);
        if !fetches || has_weights(&found) {
            return Ok(found.root);
        }
    }
    #[cfg(feature = "hub")]
    if fetches {
        super::fetch::fetch(&opts.server()?, &cache, id, revision.unwrap_or("main"), reading)?;
        if let Some(found) = cached(&cache, id, revision)? {
            return Ok(found);
        }
    }
    let at = revision.map(|r| format!(" --revision {r}")).unwrap_or_default();
    let why = match cfg!(feature = "hub") {
        true => "and nothing is fetched (HF_HUB_OFFLINE)",
        false => "and this build fetches nothing (feature \"hub\")",
    };
    let what = format!("model {id} is not in the cache {}, {why}: fetch it with `hf download {id}{at}`", cache.display());
    Err(Error::new(ErrorKind::ModelNotFound, what))
}

/// Whether there are weights that this library reads.
pub(super) fn has_weights(files: &ModelFiles) -> bool {
    ["model.safetensors", "model.safetensors.index.json"].iter().any(|file| files.has(file))
}

/// Looks in the folder that the hub's clients share.
fn cached(cache: &Path, id: &str, revision: Option<&str>) -> Result<Option<Root>> {
    let repo = Repo::with_revision(id.to_string(), RepoType::Model, revision.unwrap_or("main").to_string());
    let found = Cache::new(cache.to_path_buf()).repo(repo.clone()).get("config.json");
    // A commit may be named itself: it has no entry in refs/.
    let fence = cache.join(repo.folder_name());
    let found = found.or_else(|| revision.map(|r| fence.join("snapshots").join(r).join("config.json")).filter(|p| p.is_file()));
    let Some(config) = found else { return Ok(None) };
    let folder = config.parent().unwrap_or(&config).to_path_buf();
    // A snapshot's files are links into blobs/ beside it: the repository's folder is the fence.
    directory(&folder, &fence).map(Some)
}
