//! How much memory a hostile file may cost: whatever sizes it declares, no more than a share of its own size and what any
//! file costs. Every call to the allocator is counted, so this program holds one test.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};
use std::time::Duration;

use common::*;
use dubcore::media::{Input, Limits, Reader};
use dubcore::{ErrorKind, Factory, Job, LoadOptions, ModelRef};

struct Meter;

#[global_allocator]
static METER: Meter = Meter;

static HELD: AtomicIsize = AtomicIsize::new(0);
static PEAK: AtomicIsize = AtomicIsize::new(0);

fn take(bytes: usize) {
    PEAK.fetch_max(HELD.fetch_add(bytes as isize, Relaxed) + bytes as isize, Relaxed);
}

// SAFETY: every call is passed on unchanged to the system's allocator; the counters do not touch the memory.
unsafe impl GlobalAlloc for Meter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size() as isize, Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

/// The most memory held during `work`, beyond what was held before.
fn cost(work: impl FnOnce()) -> usize {
    let before = HELD.load(Relaxed);
    PEAK.store(before, Relaxed);
    work();
    (PEAK.load(Relaxed) - before).max(0) as usize
}

const MB: usize = 1 << 20;

fn read(bytes: Vec<u8>) {
    let limits = Limits::default().max_duration(Duration::from_secs(10));
    if let Ok(mut reader) = Reader::open(&Input::from(bytes), &limits) {
        let mut block = Vec::new();
        while reader.read(&mut block).is_ok_and(|frames| frames > 0) {
            block.clear();
        }
    }
}

/// One small file of each kind that is read: what the fuzzers begin with.
fn seeds() -> Vec<(String, Vec<u8>)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/media");
    let names = names(&folder);
    assert!(names.len() >= 30, "{names:?}");
    names.into_iter().map(|name| (name.clone(), std::fs::read(folder.join(name)).unwrap())).collect()
}

#[test]
fn what_a_file_declares_costs_nothing() {
    // A backtrace costs memory too, and the decoder's panics are caught.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.location().is_some_and(|at| at.file().contains("symphonia")) {
            usual(panic);
        }
    }));
    within(600, || {
        let mut worst = (0, String::new());
        for (name, whole) in seeds() {
            let honest = cost(|| read(whole.clone()));
            // Whatever is a size somewhere, as large as it goes, in either byte order.
            for at in (4..whole.len().min(700)).step_by(rounds(3, 1)) {
                for huge in [&[0xff; 4][..], &[0x7f, 0xff, 0xff, 0xff], &[0xff, 0xff, 0xff, 0x7f], &[0x01, 0xff], &[0xff; 8]] {
                    let mut bytes = whole.clone();
                    let end = (at + huge.len()).min(bytes.len());
                    bytes[at..end].copy_from_slice(&huge[..end - at]);
                    let used = cost(|| read(bytes));
                    if used > worst.0 {
                        worst = (used, format!("{name} with {huge:x?} at {at}, against {honest} as it is"));
                    }
                }
            }
        }
        println!("at most {} bytes: {}", worst.0, worst.1);
        assert!(worst.0 < 16 * MB, "{} bytes: {}", worst.0, worst.1);

        let bomb = ogg(&vorbis_bomb());
        assert!(bomb.len() < 64 << 10);
        let used = cost(|| {
            let e = Reader::open(&Input::from(bomb.clone()), &Limits::default()).err().unwrap();
            assert!(e.kind() == ErrorKind::CorruptMedia && e.to_string().contains("memory"), "{e:?}");
        });
        assert!(used < 16 * MB, "{used} bytes for the tables of a Vorbis stream");

        // A table of positions of 17 GB, and a list of pieces of 96 MB.
        for (d_model, vocab_size, what) in [(1 << 16, 2, "max_position_embeddings"), (32, 1 << 22, "model.shared.weight")] {
            let model = marian_bomb(d_model, vocab_size);
            let used = cost(|| {
                let factory = Factory::builder().build().unwrap();
                let reference = ModelRef::directory(model.path());
                let e = factory.translator(&reference, &LoadOptions::default(), &Job::new()).err().unwrap();
                assert!(e.kind() == ErrorKind::ModelCorrupt && e.to_string().contains(what), "{e:?}");
            });
            assert!(used < 16 * MB, "{used} bytes for a translator that is refused: {what}");
        }
    });
}

/// The packets of a Vorbis stream with 256 codebooks of 16 MB each, in a few bytes each.
fn vorbis_bomb() -> Vec<Vec<u8>> {
    let mut bits: Vec<bool> = Vec::new();
    let mut put = |value: u32, count: u32| bits.extend((0..count).map(|i| value >> i & 1 == 1));
    let entries = 1 << 17;
    put(255, 8);
    for _ in 0..256 {
        // Synchronisation, dimensions, entries, ordered: all of length 17; a lookup of one value of one bit.
        for (value, count) in [
            (0x56_4342, 24),
            (31, 16),
            (entries, 24),
            (1, 1),
            (16, 5),
            (entries, 18),
            (1, 4),
            (0, 32),
            (0, 32),
            (0, 4),
            (0, 1),
            (0, 1),
        ] {
            put(value, count);
        }
    }
    // One of each of what else a setup has, all zeros, and the bit that ends it.
    (0..319).for_each(|_| put(0, 1));
    put(1, 1);
    let packed: Vec<u8> = bits.chunks(8).map(|b| b.iter().rev().fold(0, |sum, bit| sum << 1 | u8::from(*bit))).collect();
    let mut identification = b"\x01vorbis\0\0\0\0\x01".to_vec();
    identification.extend(16_000u32.to_le_bytes());
    identification.extend([0; 12]);
    identification.extend([0xb8, 1]);
    vec![
        identification,
        b"\x03vorbis\0\0\0\0\0\0\0\0\x01".to_vec(),
        [b"\x05vorbis".to_vec(), packed].concat(),
        vec![0; 20],
        vec![0; 20],
    ]
}

/// An Ogg file of one stream, a page for each packet.
fn ogg(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    for (number, packet) in packets.iter().enumerate() {
        let mut page = b"OggS\0".to_vec();
        page.push(if number == 0 { 2 } else { 0 });
        page.extend([0; 8]);
        page.extend(1u32.to_le_bytes());
        page.extend((number as u32).to_le_bytes());
        page.extend([0; 4]);
        let laces: Vec<u8> = std::iter::repeat_n(255, packet.len() / 255).chain([(packet.len() % 255) as u8]).collect();
        page.push(u8::try_from(laces.len()).unwrap());
        page.extend(laces);
        page.extend(packet);
        let sum = page.iter().fold(0u32, |sum, byte| {
            (0..8).fold(sum ^ u32::from(*byte) << 24, |s, _| s << 1 ^ if s >> 31 == 1 { 0x04c1_1db7 } else { 0 })
        });
        page[22..26].copy_from_slice(&sum.to_le_bytes());
        file.extend(page);
    }
    file
}

/// A translator of 512 KB that claims to be larger.
fn marian_bomb(d_model: u32, vocab_size: u32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let fixture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/marian/shared-relu");
    for file in ["source.spm", "target.spm", "generation_config.json"] {
        std::fs::copy(fixture.join(file), folder.path().join(file)).unwrap();
    }
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(fixture.join("config.json")).unwrap()).unwrap();
    for (key, value) in [("d_model", d_model), ("vocab_size", vocab_size), ("max_position_embeddings", 1 << 16)] {
        config[key] = value.into();
    }
    let header = format!(r#"{{"model.shared.weight":{{"dtype":"F32","shape":[2,65536],"data_offsets":[0,{}]}}}}"#, 8 << 16);
    let weights = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; 8 << 16]].concat();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    std::fs::write(folder.path().join("vocab.json"), r#"{"</s>":0,"<unk>":1}"#).unwrap();
    std::fs::write(folder.path().join("model.safetensors"), weights).unwrap();
    folder
}
