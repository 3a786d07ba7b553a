//! Fetches a model from the Hugging Face hub into the folder that its clients share: the only network code.
//!
//! Files lie in `blobs/` by their hash, and a snapshot links to them. A file is fetched in parts, so that a server that says
//! no more is noticed and a part that failed is asked for again; what was interrupted goes on where it was. A file counts when
//! its hash is right, a snapshot when all its files do. What the server names is checked before it becomes a path.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use hf_hub::{Repo, RepoType};
use serde::Deserialize;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

use super::Reading;
use super::hub::Server;
use crate::error::{Error, ErrorKind, Result};
use crate::part::Part;

/// What is asked for at a time.
const PART: u64 = 16 << 20;
/// Tries for a part, or for an answer.
const TRIES: u32 = 4;
/// The longest list of files.
const MAX_LIST: u64 = 16 << 20;
/// Who waits for another process's download gives up when that has not grown for so long.
const STALLED: Duration = Duration::from_secs(120);

/// What the hub tells of a model.
#[derive(Deserialize)]
struct Listing {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// A file as the server describes it.
struct Remote {
    etag: String,
    size: u64,
}

type Request = ureq::RequestBuilder<ureq::typestate::WithoutBody>;

/// The hub, asked for one model.
struct Client<'a> {
    server: &'a Server,
    agent: Agent,
    id: &'a str,
}

/// Fetches what the backends read of `id` at `revision` into the folder `cache`.
pub(super) fn fetch(server: &Server, cache: &Path, id: &str, revision: &str, reading: &Reading) -> Result<()> {
    let agent = Agent::config_builder()
        .timeout_connect(Some(server.timeout))
        .timeout_recv_response(Some(server.timeout))
        .timeout_recv_body(Some(server.timeout * 30))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("dubcore/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let client = Client { server, agent, id };
    tracing::info!("fetching {id} at {revision} from {}", server.endpoint);
    let listing = client.listing(revision)?;
    let repo = cache.join(Repo::new(id.to_string(), RepoType::Model).folder_name());
    let snapshot = repo.join("snapshots").join(&listing.sha);
    for folder in [&repo.join("blobs"), &repo.join("refs"), &snapshot] {
        std::fs::create_dir_all(folder).map_err(|e| unwritable(folder, e))?;
    }
    let files = wanted(&listing, id)?;
    let described: Vec<_> = files.iter().map(|f| Ok((*f, client.describe(&listing.sha, f)?))).collect::<Result<_>>()?;
    reading.expect_fetched(described.iter().map(|(_, remote)| remote.size).sum());
    for (file, remote) in &described {
        let url = client.url(&listing.sha, file);
        let blob = repo.join("blobs").join(&remote.etag);
        client.blob(&url, file, remote, &blob, reading)?;
        link(&remote.etag, &blob, &snapshot.join(file))?;
    }
    // Only a whole snapshot gets a name. A commit that was asked for by its hash needs none.
    if revision != listing.sha {
        let name = repo.join("refs").join(revision);
        let parent = name.parent().unwrap_or(&repo);
        std::fs::create_dir_all(parent).map_err(|e| unwritable(parent, e))?;
        Part::write(&name, listing.sha.as_bytes()).map_err(|e| unwritable(&name, e))?;
    }
    Ok(())
}

/// The files that a backend may read, config.json, by which a snapshot is found, last.
fn wanted<'a>(listing: &'a Listing, id: &str) -> Result<Vec<&'a str>> {
    let names: Vec<&str> = listing.siblings.iter().map(|s| s.rfilename.as_str()).collect();
    let whole = names.contains(&"model.safetensors");
    let is_part = |name: &str| name.starts_with("model-") && name.ends_with(".safetensors");
    let mut files: Vec<&str> =
        names.iter().copied().filter(|name| !name.contains(['/', '\\']) && !name.starts_with('.')).collect();
    files.retain(|name| match name.rsplit_once('.').map(|(_, end)| end) {
        Some("safetensors") => {
            if whole {
                *name == "model.safetensors"
            } else {
                is_part(name)
            }
        }
        Some("json") => !(whole && name.ends_with(".safetensors.index.json")),
        Some("spm" | "model" | "txt") => true,
        _ => false,
    });
    if !files.contains(&"config.json") {
        let what = format!("{id} has no config.json: it is not a model that transformers could load");
        return Err(Error::new(ErrorKind::ModelIncompatible, what));
    }
    if !files.iter().any(|name| name.ends_with(".safetensors")) {
        let hint = match names.iter().any(|name| name.starts_with("pytorch_model")) {
            true => {
                "its weights are in pytorch_model.bin, which is not read: name a revision with safetensors (refs/pr/N), or save it as such"
            }
            false => "it has no weights",
        };
        return Err(Error::new(ErrorKind::ModelIncompatible, format!("{id} cannot be used: {hint}")));
    }
    files.sort_by_key(|name| (*name == "config.json", *name));
    Ok(files)
}

impl Client<'_> {
    fn url(&self, commit: &str, file: &str) -> String {
        format!("{}/{}/resolve/{commit}/{}", self.server.endpoint, self.id, encode(file))
    }

    fn listing(&self, revision: &str) -> Result<Listing> {
        let endpoint = &self.server.endpoint;
        let url = format!("{endpoint}/api/models/{}/revision/{}", self.id, encode(revision));
        let body = self.again(|| {
            let mut response = self.follow(&url, None)?;
            read(response.body_mut(), MAX_LIST).map_err(|e| self.failed(&url, e))
        })?;
        let listing: Listing = serde_json::from_slice(&body).map_err(|e| {
            let what = format!("{url} does not tell what {} consists of: is {endpoint} a hub?", self.id);
            Error::new(ErrorKind::Network, what).with_source(e)
        })?;
        match is_hex(&listing.sha, &[40]) {
            true => Ok(listing),
            false => Err(self.nonsense(&url, "the commit", &listing.sha)),
        }
    }

    /// Asks for a file without reading it.
    fn describe(&self, commit: &str, file: &str) -> Result<Remote> {
        let url = self.url(commit, file);
        self.again(|| {
            let mut at = url.clone();
            for _ in 0..5 {
                let response = self.send(self.agent.head(&at), &at, None)?;
                let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
                // Large files lie elsewhere, but the hub itself tells what they are.
                let etag = header("x-linked-etag").or_else(|| header("etag"));
                let elsewhere = response.status().is_redirection();
                let size = header("x-linked-size").or_else(|| header("content-length").filter(|_| !elsewhere));
                match (size.and_then(|n| n.parse().ok()), etag, header("location").filter(|_| elsewhere)) {
                    (Some(size), Some(etag), _) => {
                        let etag = etag.trim_start_matches("W/").trim_matches('"').to_owned();
                        return match is_hex(&etag, &[40, 64]) {
                            true => Ok(Remote { etag, size }),
                            false => Err(self.nonsense(&at, "the hash", &etag)),
                        };
                    }
                    (_, _, Some(location)) => at = join(&at, &location),
                    (_, _, None) => return Err(self.nonsense(&at, "hash and size", "")),
                }
            }
            Err(self.nonsense(&url, "the place", "redirected too often"))
        })
    }

    /// The file in `blobs/`, fetched unless it is there.
    fn blob(&self, url: &str, file: &str, remote: &Remote, blob: &Path, reading: &Reading) -> Result<()> {
        if blob.is_file() {
            reading.fetched(remote.size);
            return Ok(());
        }
        let incomplete = blob.with_extension("incomplete");
        let open = || OpenOptions::new().read(true).append(true).create(true).open(&incomplete);
        let mut part = open().map_err(|e| unwritable(&incomplete, e))?;
        self.lock(&part, &incomplete)?;
        let result = (|| {
            // Somebody else may have brought it while this one waited.
            if blob.is_file() {
                reading.fetched(remote.size);
                return Ok(());
            }
            self.parts(url, &mut part, remote, reading)?;
            part.sync_all().map_err(|e| unwritable(&incomplete, e))?;
            if !remote.fits(&mut part).map_err(|e| unwritable(&incomplete, e))? {
                part.set_len(0).map_err(|e| unwritable(&incomplete, e))?;
                let what = format!("{file} of {} came with other bytes than its hash says: try again", self.id);
                return Err(Error::new(ErrorKind::Network, what));
            }
            std::fs::rename(&incomplete, blob).map_err(|e| unwritable(blob, e))
        })();
        // A child of this process may have the file open, too: closing it would not do.
        let _ = part.unlock();
        result
    }

    /// Fetches from where `part` ends to the end of the file.
    fn parts(&self, url: &str, part: &mut File, remote: &Remote, reading: &Reading) -> Result<()> {
        let unwritable = |e| unwritable(Path::new(url), e);
        let mut at = part.metadata().map_err(unwritable)?.len();
        if at > remote.size {
            part.set_len(0).map_err(unwritable)?;
            at = 0;
        }
        reading.fetched(at);
        while at < remote.size {
            let last = (at + PART).min(remote.size) - 1;
            let bytes = self.again(|| {
                let mut response = self.follow(url, Some((at, last)))?;
                // A server that knows no parts sends everything.
                let (skip, most) = match response.status() {
                    StatusCode::PARTIAL_CONTENT => (0, last + 1 - at),
                    _ => (at, remote.size),
                };
                let bytes = read(response.body_mut(), most).map_err(|e| self.failed(url, e))?;
                let bytes = bytes.get(skip as usize..).unwrap_or_default().to_vec();
                match bytes.is_empty() {
                    true => Err(self.failed(url, std::io::Error::from(std::io::ErrorKind::UnexpectedEof))),
                    false => Ok(bytes),
                }
            })?;
            part.write_all(&bytes).map_err(unwritable)?;
            at += bytes.len() as u64;
            reading.fetched(bytes.len() as u64);
        }
        Ok(())
    }

    /// One process at a time appends to a file.
    fn lock(&self, part: &File, path: &Path) -> Result<()> {
        let (mut seen, mut since) = (0, Instant::now());
        loop {
            match part.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::Error(e)) => return Err(unwritable(path, e)),
                Err(TryLockError::WouldBlock) => {}
            }
            let now = part.metadata().map_or(0, |m| m.len());
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
            if since.elapsed() > STALLED {
                let what = format!("another process has begun to fetch {} and does not go on: end it, or try again", self.id);
                return Err(Error::new(ErrorKind::Busy, what));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Asks, following to where the answer is. Only the hub itself is told the token.
    fn follow(&self, url: &str, range: Option<(u64, u64)>) -> Result<Response<Body>> {
        let mut at = url.to_owned();
        for _ in 0..5 {
            let response = self.send(self.agent.get(&at), &at, range)?;
            match response.headers().get("location").and_then(|l| l.to_str().ok()) {
                Some(location) if response.status().is_redirection() => at = join(&at, location),
                _ => return Ok(response),
            }
        }
        Err(self.nonsense(url, "the place", "redirected too often"))
    }

    fn send(&self, mut request: Request, url: &str, range: Option<(u64, u64)>) -> Result<Response<Body>> {
        let own = url.strip_prefix(self.server.endpoint.as_str()).is_some_and(|rest| rest.starts_with('/'));
        if let Some(token) = self.server.token.as_ref().filter(|_| own) {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some((from, to)) = range {
            request = request.header("range", format!("bytes={from}-{to}"));
        }
        let response = request.header("accept-encoding", "identity").call().map_err(|e| self.failed(url, e))?;
        let id = self.id;
        let e = |kind, what: String| Err(Error::new(kind, what));
        match response.status() {
            s if s.is_success() || s.is_redirection() => Ok(response),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let what =
                    format!("the hub does not show {id} to you: is it spelled right? Accept its terms there, and set HF_TOKEN");
                e(ErrorKind::ModelNotFound, what)
            }
            StatusCode::NOT_FOUND => {
                e(ErrorKind::ModelNotFound, format!("the hub has no {url}: check the model's name and revision"))
            }
            s => e(ErrorKind::Network, format!("{url} answers {s}: try again later")),
        }
    }

    /// Tries again what a network may get wrong once.
    fn again<T>(&self, mut work: impl FnMut() -> Result<T>) -> Result<T> {
        let mut wait = self.server.timeout.min(Duration::from_secs(1)) / 4;
        for _ in 1..TRIES {
            match work() {
                Err(e) if e.kind() == ErrorKind::Network => tracing::warn!("{}", e.report()),
                done => return done,
            }
            std::thread::sleep(wait);
            wait *= 2;
        }
        work()
    }

    fn failed(&self, url: &str, e: impl std::error::Error + Send + Sync + 'static) -> Error {
        let what = format!("{url} could not be fetched: check the network, or fetch {} elsewhere", self.id);
        Error::new(ErrorKind::Network, what).with_source(e)
    }

    fn nonsense(&self, url: &str, what: &str, found: &str) -> Error {
        Error::new(ErrorKind::Network, format!("{url} does not tell {what} as a hub does ({found:?})"))
    }
}

impl Remote {
    /// Whether the file is the one that the hash belongs to: SHA-256 of large ones, git's own hash of the others.
    fn fits(&self, file: &mut File) -> std::io::Result<bool> {
        fn hash<D: Digest>(mut digest: D, file: &mut File) -> std::io::Result<String> {
            let mut block = vec![0; 1 << 20];
            loop {
                match file.read(&mut block)? {
                    0 => return Ok(digest.finalize().iter().map(|b| format!("{b:02x}")).collect()),
                    n => digest.update(&block[..n]),
                }
            }
        }
        file.seek(SeekFrom::Start(0))?;
        let found = match self.etag.len() {
            64 => hash(Sha256::new(), file)?,
            _ => hash(Sha1::new().chain_update(format!("blob {}\0", self.size)), file)?,
        };
        Ok(found == self.etag)
    }
}

fn is_hex(text: &str, lengths: &[usize]) -> bool {
    lengths.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// A part of a path in a URL. A revision's slashes are part of its name.
fn encode(part: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    part.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// Where `location` is, seen from `url`.
fn join(url: &str, location: &str) -> String {
    match (location.starts_with('/'), url.find("://")) {
        (true, Some(scheme)) => {
            let host = url[scheme + 3..].find('/').map_or(url.len(), |n| scheme + 3 + n);
            format!("{}{location}", &url[..host])
        }
        _ => location.to_owned(),
    }
}

fn read(body: &mut Body, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    body.as_reader().take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Makes the snapshot's name for a blob.
fn link(etag: &str, blob: &Path, name: &Path) -> Result<()> {
    if name.exists() {
        return Ok(());
    }
    #[cfg(unix)]
    let made = std::os::unix::fs::symlink(Path::new("../../blobs").join(etag), name).map(|()| {
        let _ = blob;
    });
    #[cfg(not(unix))]
    let made = std::fs::copy(blob, name).map(|_| {
        let _ = etag;
    });
    match made {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(unwritable(name, e)),
        _ => Ok(()),
    }
}

fn unwritable(path: &Path, e: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot write {}", path.display())).with_source(e)
}
