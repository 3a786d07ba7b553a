//! Models that are fetched, from a server on this machine that speaks the hub's protocol: well, badly, and with malice.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dubcore::{ErrorKind, Factory, HubOptions, Job, KeepAll, LoadOptions, ModelRef};
use sha1::Sha1;
use sha2::{Digest, Sha256};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What was asked for.
#[derive(Clone, Debug)]
struct Request {
    method: String,
    path: String,
    authorization: Option<String>,
    /// The first and the last byte.
    range: Option<(usize, usize)>,
}

/// An answer: status, headers, the length that is announced, and the bytes that come.
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    length: usize,
    body: Vec<u8>,
}

impl Reply {
    fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self { status, headers: Vec::new(), length: body.len(), body }
    }

    fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// What a server does otherwise than a good one, given how often it was asked before for the same.
type Twist = dyn Fn(&Request, usize) -> Option<Reply> + Send + Sync;

struct Hub {
    address: SocketAddr,
    /// Where large files lie: another server, as far as a client can tell.
    store: SocketAddr,
    files: BTreeMap<String, Vec<u8>>,
    seen: Mutex<Vec<Request>>,
    twist: Box<Twist>,
    stopped: AtomicBool,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl Hub {
    fn start(
        files: BTreeMap<String, Vec<u8>>,
        twist: impl Fn(&Request, usize) -> Option<Reply> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let (hub, store) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let (address, store_address) = (hub.local_addr().unwrap(), store.local_addr().unwrap());
        let this = Arc::new(Self {
            address,
            store: store_address,
            files,
            seen: Mutex::default(),
            twist: Box::new(twist),
            stopped: AtomicBool::new(false),
        });
        for listener in [hub, store] {
            let this = this.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    if this.stopped.load(Ordering::SeqCst) {
                        return;
                    }
                    let this = this.clone();
                    std::thread::spawn(move || this.serve(stream.unwrap()));
                }
            });
        }
        this
    }

    fn good(files: BTreeMap<String, Vec<u8>>) -> Arc<Self> {
        Self::start(files, |_, _| None)
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        for address in [self.address, self.store] {
            let _ = TcpStream::connect(address);
        }
    }

    /// Requests until the client is gone.
    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        loop {
            let mut lines = Vec::new();
            loop {
                let mut line = String::new();
                match reader.read_line(&mut line) {
                    Ok(n) if n > 0 => {}
                    _ => return,
                }
                let line = line.trim_end().to_string();
                if line.is_empty() {
                    break;
                }
                lines.push(line);
            }
            let header = |name: &str| {
                let found = lines.iter().skip(1).filter_map(|l| l.split_once(':'));
                found.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim().to_string()).next()
            };
            let mut words = lines[0].split(' ');
            let (method, path) = (words.next().unwrap().to_string(), words.next().unwrap().to_string());
            let range = header("range").map(|r| {
                let (from, to) = r.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
                (from.parse().unwrap(), to.parse().unwrap())
            });
            let request = Request { method, path, authorization: header("authorization"), range };
            let before = {
                let mut seen = self.seen.lock().unwrap();
                let same = |r: &&Request| (&r.method, &r.path, r.range) == (&request.method, &request.path, request.range);
                let before = seen.iter().filter(same).count();
                seen.push(request.clone());
                before
            };
            let reply = (self.twist)(&request, before).unwrap_or_else(|| self.answer(&request));
            let mut head = format!("HTTP/1.1 {} X\r\ncontent-length: {}\r\n", reply.status, reply.length);
            for (name, value) in &reply.headers {
                head += &format!("{name}: {value}\r\n");
            }
            let body = if request.method == "HEAD" { &[][..] } else { &reply.body };
            if stream.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| stream.write_all(body)).is_err() {
                return;
            }
            // What was announced and does not come is a connection that breaks.
            if request.method != "HEAD" && reply.length != reply.body.len() {
                return;
            }
        }
    }

    /// As the hub does: small files at once, large ones elsewhere.
    fn answer(&self, request: &Request) -> Reply {
        if request.path.starts_with("/api/models/owner/tiny/revision/") {
            let siblings: Vec<_> = self.files.keys().map(|f| serde_json::json!({ "rfilename": f })).collect();
            return Reply::new(200, serde_json::json!({ "sha": COMMIT, "siblings": siblings }).to_string());
        }
        let name = request.path.rsplit('/').next().unwrap();
        let Some(bytes) = self.files.get(name) else { return Reply::new(404, "no such thing") };
        let whole = request.range.is_none_or(|(from, to)| (from, to) == (0, bytes.len() - 1));
        let part = request.range.map_or(&bytes[..], |(from, to)| &bytes[from..=to]);
        let status = if whole && request.range.is_none() { 200 } else { 206 };
        if name.ends_with(".safetensors") {
            let place = format!("http://{}/store/{name}", self.store);
            return match request.path.starts_with("/store/") {
                true => Reply::new(status, part),
                false => Reply::new(302, "")
                    .header("location", place)
                    .header("x-linked-etag", format!("\"{}\"", hex(&Sha256::digest(bytes))))
                    .header("x-linked-size", bytes.len().to_string()),
            };
        }
        let git = Sha1::new().chain_update(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize();
        Reply { length: part.len(), ..Reply::new(status, part) }.header("etag", format!("W/\"{}\"", hex(&git)))
    }

    fn seen(&self, of: impl Fn(&Request) -> bool) -> Vec<Request> {
        self.seen.lock().unwrap().iter().filter(|r| of(r)).cloned().collect()
    }

    fn options(&self, cache: &Path) -> HubOptions {
        let endpoint = format!("http://{}", self.address);
        let quick = Duration::from_millis(500);
        HubOptions::default()
            .cache(cache.to_path_buf())
            .endpoint(endpoint)
            .token("secret".to_string())
            .timeout(quick)
            .downloads(true)
    }

    fn factory(&self, cache: &Path) -> Factory {
        Factory::builder().policy(KeepAll).hub(self.options(cache)).build().unwrap()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A voice and what else lies beside models on the hub.
fn tiny() -> BTreeMap<String, Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vits/deterministic");
    let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap());
    let mut files: BTreeMap<_, _> =
        entries.map(|e| (e.file_name().into_string().unwrap(), std::fs::read(e.path()).unwrap())).collect();
    files.retain(|name, _| !name.starts_with("expected."));
    for other in ["pytorch_model.bin", "README.md", ".gitattributes", "tf_model.h5"] {
        files.insert(other.into(), b"something else".to_vec());
    }
    files
}

fn model() -> ModelRef {
    "owner/tiny".parse().unwrap()
}

fn load(factory: &Factory) -> dubcore::Result<()> {
    factory.preload(&[model()], &LoadOptions::default(), &Job::new()).remove(0)
}

fn is_file(r: &Request) -> bool {
    r.method == "GET" && !r.path.starts_with("/api/")
}

#[test]
fn a_model_is_fetched_once_for_all_clients_of_the_hub() {
    let (hub, cache) = (Hub::good(tiny()), tempfile::tempdir().unwrap());
    let factory = hub.factory(cache.path());
    assert!(factory.health().security.downloads);
    let voice = factory.tts(&model(), &LoadOptions::default(), &Job::new()).unwrap();
    assert_eq!(voice.info().model, "owner/tiny");
    let said = voice.synthesize(&["ab"], &dubcore::TtsOptions::default(), &Job::new()).remove(0).unwrap();
    assert!(!said.audio.is_empty());

    // The folder is as the other clients make it.
    let repo = cache.path().join("models--owner--tiny");
    assert_eq!(std::fs::read_to_string(repo.join("refs/main")).unwrap(), COMMIT);
    let snapshot = repo.join("snapshots").join(COMMIT);
    let weights = std::fs::read_link(snapshot.join("model.safetensors")).unwrap();
    let hash = hex(&Sha256::digest(&hub.files["model.safetensors"]));
    assert_eq!(weights, Path::new("../../blobs").join(hash));
    for (name, bytes) in &hub.files {
        let wanted = [".json", ".safetensors"].iter().any(|end| name.ends_with(end));
        let found = std::fs::read(snapshot.join(name)).ok();
        assert_eq!(found.as_ref(), Some(bytes).filter(|_| wanted), "{name}");
    }
    assert!(std::fs::read_dir(repo.join("blobs")).unwrap().all(|f| f.unwrap().path().extension().is_none()), "nothing is left");

    // Now it is there, with a network or without.
    let asked = hub.seen(|_| true).len();
    load(&hub.factory(cache.path())).unwrap();
    let offline = Factory::builder().hub(hub.options(cache.path()).downloads(false)).build().unwrap();
    load(&offline).unwrap();
    assert!(!offline.health().security.downloads);
    assert_eq!(hub.seen(|_| true).len(), asked);
    let by_commit: ModelRef = format!("owner/tiny@{COMMIT}").parse().unwrap();
    offline.preload(&[by_commit], &LoadOptions::default(), &Job::new()).remove(0).unwrap();

    // The token is the hub's alone.
    let told = |r: &Request| r.authorization.as_deref() == Some("Bearer secret");
    assert!(hub.seen(|r| !r.path.starts_with("/store/")).iter().all(told));
    let elsewhere = hub.seen(|r| r.path.starts_with("/store/"));
    assert!(!elsewhere.is_empty() && elsewhere.iter().all(|r| r.authorization.is_none()));
}

#[test]
fn revisions_are_asked_for_by_name() {
    let (hub, cache) = (Hub::good(tiny()), tempfile::tempdir().unwrap());
    let model: ModelRef = "owner/tiny@refs/pr/7".parse().unwrap();
    hub.factory(cache.path()).preload(&[model], &LoadOptions::default(), &Job::new()).remove(0).unwrap();
    assert_eq!(hub.seen(|r| r.path.ends_with("/revision/refs%2Fpr%2F7")).len(), 1);
    assert_eq!(std::fs::read_to_string(cache.path().join("models--owner--tiny/refs/refs/pr/7")).unwrap(), COMMIT);
}

#[test]
fn what_another_client_began_is_completed() {
    let (hub, cache) = (Hub::good(tiny()), tempfile::tempdir().unwrap());
    let repo = cache.path().join("models--owner--tiny");
    let snapshot = repo.join("snapshots").join(COMMIT);
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(repo.join("refs")).unwrap();
    std::fs::write(repo.join("refs/main"), COMMIT).unwrap();
    std::fs::write(snapshot.join("config.json"), &hub.files["config.json"]).unwrap();
    let offline = Factory::builder().hub(hub.options(cache.path()).downloads(false)).build().unwrap();
    let e = load(&offline).unwrap_err();
    assert!(e.kind() == ErrorKind::ModelNotFound, "{e:?}");
    load(&hub.factory(cache.path())).unwrap();
    load(&offline).unwrap();
}

#[test]
fn a_token_is_not_shown() {
    let shown = format!("{:?}", HubOptions::default().token("hf_secret".to_string()));
    assert!(shown.contains("token") && !shown.contains("hf_secret"), "{shown}");
}

#[test]
fn whoever_waits_sees_how_far_it_is() {
    let go = Arc::new(AtomicBool::new(false));
    let held = go.clone();
    let hub = Hub::start(tiny(), move |r, _| {
        while r.path.starts_with("/store/") && !held.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    });
    let cache = tempfile::tempdir().unwrap();
    let slow = hub.options(cache.path()).timeout(Duration::from_secs(30));
    let factory = Factory::builder().hub(slow).build().unwrap();
    let preload = factory.preload_in_background(&[model()], &LoadOptions::default(), Job::new()).unwrap();
    let began = Instant::now();
    let all: usize =
        hub.files.iter().filter(|(n, _)| [".json", ".safetensors"].iter().any(|e| n.ends_with(e))).map(|(_, b)| b.len()).sum();
    let weights = hub.files["model.safetensors"].len();
    // The weights come last but for config.json, by which the whole is found.
    let before: usize = hub
        .files
        .iter()
        .filter(|(n, _)| n.ends_with(".json") && *n < &"model".to_string() && *n != "config.json")
        .map(|(_, b)| b.len())
        .sum();
    loop {
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", factory.status().loading);
        if let Some(loading) = factory.status().loading.first().filter(|l| l.to_download > 0 && l.downloaded >= before as u64) {
            assert_eq!(loading.to_download, all as u64);
            assert!(loading.downloaded <= (all - weights) as u64);
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // One who cannot wait leaves; the load goes on.
    let hurried = Job::new().timeout(Duration::from_millis(50));
    let e = factory.tts(&model(), &LoadOptions::default(), &hurried).err().unwrap();
    assert_eq!(e.kind(), ErrorKind::DeadlineExceeded);
    go.store(true, Ordering::SeqCst);
    assert!(preload.wait(&Job::new()).unwrap().into_iter().all(|(_, loaded)| loaded.is_ok()));
}

#[test]
fn what_fails_now_and_then_is_asked_for_again() {
    // Every first request fails, in one way or another; the weights' connection breaks in the midst twice.
    let files = tiny();
    let half = files["model.safetensors"][..100_000].to_vec();
    let hub = Hub::start(files, move |r, before| match (r.path.starts_with("/store/"), before) {
        (true, 0 | 1) => Some(Reply { length: 300_000, ..Reply::new(206, half.clone()) }),
        (false, 0) if r.method == "GET" && !r.path.ends_with(".safetensors") => Some(Reply::new(503, "later")),
        (false, 0) if r.method == "HEAD" => Some(Reply::new(500, "")),
        _ => None,
    });
    let cache = tempfile::tempdir().unwrap();
    load(&hub.factory(cache.path())).unwrap();
    assert_eq!(hub.seen(|r| r.path.starts_with("/store/")).len(), 3);
}

#[test]
fn what_was_interrupted_goes_on_where_it_was() {
    let mut files = tiny();
    let big: Vec<u8> = (0..40_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    files.insert("model.safetensors".into(), big.clone());
    let broken = Arc::new(AtomicBool::new(true));
    let breaks = broken.clone();
    let hub = Hub::start(files, move |r, _| {
        let stop = r.path.starts_with("/store/") && r.range.is_some_and(|(from, _)| from > 0) && breaks.load(Ordering::SeqCst);
        stop.then(|| Reply::new(500, "down"))
    });
    let cache = tempfile::tempdir().unwrap();
    let factory = hub.factory(cache.path());
    let e = load(&factory).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Network, "{e:?}");
    assert!(e.kind().is_retryable() && e.to_string().contains("500"), "{e}");
    let first = |r: &Request| r.path.starts_with("/store/") && r.range.is_some_and(|(from, _)| from == 0);
    assert_eq!(hub.seen(first).len(), 1);

    broken.store(false, Ordering::SeqCst);
    // It comes whole, though it is no model.
    assert_eq!(load(&factory).unwrap_err().kind(), ErrorKind::ModelCorrupt);
    assert_eq!(hub.seen(first).len(), 1, "the first part is not asked for again");
    let found = std::fs::read(cache.path().join("models--owner--tiny/snapshots").join(COMMIT).join("model.safetensors")).unwrap();
    assert!(found == big);
}

#[test]
fn a_server_without_parts_will_do() {
    let files = tiny();
    let weights = files["model.safetensors"].clone();
    let hub = Hub::start(files, move |r, _| r.path.starts_with("/store/").then(|| Reply::new(200, weights.clone())));
    let cache = tempfile::tempdir().unwrap();
    load(&hub.factory(cache.path())).unwrap();
}

#[test]
fn bytes_that_are_not_those_of_the_hash_are_thrown_away() {
    let mut wrong = tiny()["model.safetensors"].clone();
    wrong[200_000] ^= 1;
    let hub = Hub::start(tiny(), move |r, before| {
        (r.path.starts_with("/store/") && before == 0).then(|| Reply::new(206, wrong.clone()))
    });
    let cache = tempfile::tempdir().unwrap();
    let factory = hub.factory(cache.path());
    let e = load(&factory).unwrap_err();
    assert!(e.kind() == ErrorKind::Network && e.to_string().contains("hash"), "{e:?}");
    assert!(!cache.path().join("models--owner--tiny/refs/main").exists(), "half a model has no name");
    load(&factory).unwrap();
}

#[test]
fn refusals_say_what_to_do() {
    let cases: [(u16, ErrorKind, &str); 4] = [
        (401, ErrorKind::ModelNotFound, "HF_TOKEN"),
        (403, ErrorKind::ModelNotFound, "terms"),
        (404, ErrorKind::ModelNotFound, "name and revision"),
        (500, ErrorKind::Network, "try again"),
    ];
    for (status, kind, hint) in cases {
        let hub = Hub::start(tiny(), move |_, _| Some(Reply::new(status, "")));
        let cache = tempfile::tempdir().unwrap();
        let e = load(&hub.factory(cache.path())).unwrap_err();
        assert!(e.kind() == kind && e.to_string().contains(hint), "{status}: {e:?}");
        assert_eq!(hub.seen(|_| true).len(), if kind == ErrorKind::Network { 4 } else { 1 }, "{status}");
    }
    let cache = tempfile::tempdir().unwrap();
    let without = |gone: &[&str]| {
        let mut files = tiny();
        gone.iter().for_each(|g| drop(files.remove(*g)));
        load(&Hub::good(files).factory(cache.path())).unwrap_err()
    };
    let e = without(&["model.safetensors"]);
    assert!(e.kind() == ErrorKind::ModelIncompatible && e.to_string().contains("pytorch_model.bin"), "{e:?}");
    let e = without(&["model.safetensors", "pytorch_model.bin"]);
    assert!(e.kind() == ErrorKind::ModelIncompatible && e.to_string().contains("no weights"), "{e:?}");
    assert_eq!(without(&["config.json"]).kind(), ErrorKind::ModelIncompatible);

    // Nobody there, and nobody who may be asked.
    let hub = Hub::good(tiny());
    let (there, nobody) = (hub.options(cache.path()), hub.options(cache.path()).endpoint("http://127.0.0.1:9".to_string()));
    let e = load(&Factory::builder().hub(nobody).build().unwrap()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Network, "{e:?}");
    let e = load(&Factory::builder().hub(there.downloads(false)).build().unwrap()).unwrap_err();
    assert!(e.kind() == ErrorKind::ModelNotFound && e.to_string().contains("HF_HUB_OFFLINE"), "{e:?}");
    for wrong in ["", "no url", "ftp://127.0.0.1/"] {
        let e =
            load(&Factory::builder().hub(hub.options(cache.path()).endpoint(wrong.to_string())).build().unwrap()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Network, "{wrong:?}: {e:?}");
    }
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    for silent in ["/api/", "/owner/", "/store/"] {
        let hub = Hub::start(tiny(), move |r, _| {
            if r.path.starts_with(silent) {
                std::thread::sleep(Duration::from_secs(30));
            }
            None
        });
        let cache = tempfile::tempdir().unwrap();
        let began = Instant::now();
        let e = load(&hub.factory(cache.path())).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Network, "{silent}: {e:?}");
        assert!(began.elapsed() < Duration::from_secs(15), "{silent}: {:?}", began.elapsed());
    }
}

#[test]
fn nothing_is_written_where_a_server_wants_it() {
    let listing = |sha: &str, names: &[&str]| {
        let siblings: Vec<_> = names.iter().map(|n| serde_json::json!({ "rfilename": n })).collect();
        Reply::new(200, serde_json::json!({ "sha": sha, "siblings": siblings }).to_string())
    };
    let outer = tempfile::tempdir().unwrap();
    let cache = outer.path().join("a/b/c");
    let everything = |folder: &Path| {
        let mut all = Vec::new();
        let mut open = vec![folder.to_path_buf()];
        while let Some(folder) = open.pop() {
            for entry in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap()) {
                if entry.file_type().unwrap().is_dir() {
                    open.push(entry.path());
                }
                all.push(entry.path());
            }
        }
        all
    };
    // Names that lead elsewhere are not fetched; what is good in the list is.
    let bad = ["../../../evil.json", "/tmp/evil.json", "..\\evil.json", "sub/evil.json", ".evil.json", "..json"];
    let hub = Hub::start(tiny(), move |r, _| {
        let names: Vec<&str> =
            bad.iter().copied().chain(["config.json", "vocab.json", "tokenizer_config.json", "model.safetensors"]).collect();
        r.path.starts_with("/api/").then(|| listing(COMMIT, &names))
    });
    load(&hub.factory(&cache)).unwrap();
    assert!(everything(outer.path()).iter().all(|p| !p.to_string_lossy().contains("evil")));
    drop(hub);
    // A commit, or a hash, that is a path.
    for sha in ["../../../evil", "", "0123", "0123456789ABCDEF0123456789abcdef01234567"] {
        let cache = tempfile::tempdir().unwrap();
        let hub = Hub::start(tiny(), move |r, _| {
            r.path.starts_with("/api/").then(|| listing(sha, &["config.json", "model.safetensors"]))
        });
        assert_eq!(load(&hub.factory(cache.path())).unwrap_err().kind(), ErrorKind::Network, "{sha}");
        assert_eq!(everything(cache.path()).len(), 0, "{sha}");
    }
    for etag in ["../../../../../evil", "\"/tmp/evil\"", "", "zz"] {
        let hub = Hub::start(tiny(), move |r, _| {
            (r.method == "HEAD").then(|| Reply::new(200, "").header("x-linked-etag", etag).header("x-linked-size", "10"))
        });
        let cache = outer.path().join("d");
        assert_eq!(load(&hub.factory(&cache)).unwrap_err().kind(), ErrorKind::Network, "{etag}");
        assert!(everything(outer.path()).iter().all(|p| !p.to_string_lossy().contains("evil")), "{etag}");
    }
    // An endless list, an endless file, redirects in a circle.
    let cache = tempfile::tempdir().unwrap();
    for twist in [
        (|r: &Request, _| r.path.starts_with("/api/").then(|| Reply::new(200, vec![b'['; 20 << 20])))
            as fn(&Request, usize) -> Option<Reply>,
        |r, _| r.path.starts_with("/store/").then(|| Reply::new(200, vec![0; 30 << 20])),
        |r, _| r.path.starts_with("/owner/").then(|| Reply::new(302, "").header("location", r.path.clone())),
    ] {
        let hub = Hub::start(tiny(), twist);
        assert_eq!(load(&hub.factory(cache.path())).unwrap_err().kind(), ErrorKind::Network);
    }
}

#[test]
fn several_that_want_it_fetch_it_once() {
    for _ in 0..5 {
        let (hub, cache) = (Hub::good(tiny()), tempfile::tempdir().unwrap());
        let patient = hub.options(cache.path()).timeout(Duration::from_secs(30));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                // Each as another process would: only the files are shared.
                let factory = Factory::builder().hub(patient.clone()).build().unwrap();
                scope.spawn(move || load(&factory).unwrap());
            }
        });
        // Where a large file is, each may ask; the file itself comes once, as do the small ones.
        let mut paths: Vec<String> = hub.seen(is_file).into_iter().map(|r| r.path).collect();
        paths.retain(|p| p.starts_with("/store/") || !p.ends_with(".safetensors"));
        let all = paths.len();
        paths.sort();
        paths.dedup();
        assert_eq!((all, paths.len()), (4, 4), "{paths:?}");
    }
}
