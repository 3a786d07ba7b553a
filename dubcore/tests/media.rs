//! Reading and writing media: every container and codec against the signal that was encoded, and hostile files.
//!
//! The clips are made by `tests/generate/media.sh`.

use std::f64::consts::TAU;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dubcore::media::{self, Input, Limits, MonoStream, Reader, WavFormat, WavWriter};
use dubcore::{Audio, Error, ErrorKind, Job, resampled_len};

const RATE: u32 = 44_100;
const FRAMES: usize = 44_541;

/// The signal of the clips, as 16-bit samples: a sweep and a tone, fading in.
fn signal() -> Vec<i16> {
    let value = |i: usize| {
        let t = i as f64 / f64::from(RATE);
        let s = 0.4 * (TAU * (200.0 * t + 900.0 * t * t)).sin() + 0.2 * (TAU * 440.0 * t).sin();
        ((t / 0.02).min(1.0) * s * 32_767.0 + 0.5).floor() as i16
    };
    (0..FRAMES).map(value).collect()
}

/// The left channel, the right channel of the stereo clips being half of it; as f32.
fn left() -> Vec<f32> {
    signal().into_iter().map(|v| f32::from(v) / 32_768.0).collect()
}

fn clip(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/media").join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(clip(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Everything a reader gives.
struct All {
    codec: &'static str,
    rate: u32,
    channels: usize,
    hint: Option<u64>,
    samples: Vec<f32>,
}

fn read_all(input: impl Into<Input>) -> Result<All, Error> {
    let mut reader = Reader::open(&input.into(), &Limits::default())?;
    let (codec, rate, channels, hint) = (reader.codec(), reader.rate(), reader.channels(), reader.frames_hint());
    let mut samples = Vec::new();
    loop {
        let before = samples.len();
        let frames = reader.read(&mut samples)?;
        assert_eq!(samples.len() - before, frames * channels);
        if frames == 0 {
            break;
        }
    }
    assert_eq!(reader.frames() as usize * channels, samples.len());
    Ok(All { codec, rate, channels, hint, samples })
}

fn refused(input: impl Into<Input>, kind: ErrorKind, words: &[&str]) {
    let e = read_all(input).err().unwrap_or_else(|| panic!("was read, but {words:?} expected"));
    assert_eq!(e.kind(), kind, "{e:?}");
    for word in words {
        assert!(e.report().contains(word), "{word:?} is not in {:?}", e.report());
    }
}

/// How many frames `got` is late against `want`, by the largest correlation within half a second.
fn delay(got: &[f32], want: &[f32]) -> i64 {
    let score = |shift: i64| {
        let at = |i: usize| usize::try_from(i as i64 + shift).ok().and_then(|i| got.get(i)).copied().unwrap_or(0.0);
        // Every third sample, for speed; the signal is far below the rate this leaves.
        (0..want.len()).step_by(3).map(|i| f64::from(want[i]) * f64::from(at(i))).sum::<f64>()
    };
    // First coarsely, at steps well below the period of the highest tone, then exactly.
    let coarse = (-4096..=16_384).step_by(4).max_by(|&a, &b| score(a).total_cmp(&score(b))).unwrap();
    (coarse - 4..=coarse + 4).max_by(|&a, &b| score(a).total_cmp(&score(b))).unwrap()
}

/// Signal to noise in dB, `got` being late by `delay`.
fn snr(got: &[f32], want: &[f32], delay: i64) -> f64 {
    let (mut signal, mut noise) = (0.0, 1e-12);
    for (i, &w) in want.iter().enumerate() {
        let g = usize::try_from(i as i64 + delay).ok().and_then(|i| got.get(i)).copied().unwrap_or(0.0);
        signal += f64::from(w).powi(2);
        noise += f64::from(w - g).powi(2);
    }
    10.0 * (signal / noise).log10()
}

/// What is expected of a clip.
struct Clip {
    name: &'static str,
    codec: &'static str,
    channels: usize,
    /// Frames that the sound is late in the file's own time, and how exactly.
    late: i64,
    within: i64,
    /// Frames beyond the signal's, at most.
    longer: usize,
    snr: f64,
}

const fn of(name: &'static str, codec: &'static str, channels: usize) -> Clip {
    Clip { name, codec, channels, late: 0, within: 0, longer: 0, snr: 15.0 }
}

/// Every clip that must be read. Where sound is late, the file says so: ffmpeg moves a Matroska file's time line up by the
/// encoder's run-up (1024 frames of AAC, 3 ms of Vorbis) instead of noting it, and ADTS has no place to note it.
fn clips() -> Vec<Clip> {
    vec![
        of("tone.mp3", "mp3", 2),
        // No tag: nothing tells the run-up, 1105 frames of LAME.
        Clip { late: 1105, longer: 2 * 1152, ..of("bare.mp3", "mp3", 1) },
        Clip { snr: 150.0, ..of("tone.flac", "flac", 1) },
        of("tone.ogg", "vorbis", 2),
        of("tone.m4a", "aac", 2),
        of("tone.mp4", "aac", 1),
        of("tone.mov", "aac", 1),
        // Fragments without an edit list, as ffmpeg streams them: nothing tells the run-up.
        Clip { late: 1024, longer: 2048, ..of("fragmented.mp4", "aac", 1) },
        Clip { late: 11_025, within: 45, longer: 11_070, ..of("late.mp4", "aac", 1) },
        Clip { late: 11_025, within: 45, longer: 11_070 + 1024, ..of("late.mkv", "vorbis", 1) },
        Clip { late: 1024, longer: 2048, ..of("aac.mkv", "aac", 1) },
        Clip { late: 132, within: 45, longer: 1024, ..of("vorbis.mkv", "vorbis", 1) },
        Clip { snr: 150.0, ..of("flac.mkv", "flac", 1) },
        Clip { late: 1105, within: 1152, longer: 2 * 1152, ..of("mp3.mkv", "mp3", 1) },
        Clip { late: 132, within: 45, longer: 1024, ..of("tone.webm", "vorbis", 1) },
        Clip { late: 1024, longer: 2048, ..of("tone.aac", "aac", 1) },
    ]
}

#[test]
fn every_clip_is_read_and_in_its_place() {
    let want = left();
    let mut wrong = Vec::new();
    for clip in clips() {
        let all = match read_all(self::clip(clip.name)) {
            Ok(all) => all,
            Err(e) => {
                wrong.push(format!("{}: {e:?}", clip.name));
                continue;
            }
        };
        let first: Vec<f32> = all.samples.iter().copied().step_by(all.channels).collect();
        let late = delay(&first, &want);
        let snr = snr(&first, &want, late);
        let longer = first.len() as i64 - FRAMES as i64;
        let line = format!(
            "{:15} {} {} Hz, {} channels, late {late}, longer {longer}, hint {:?}, {snr:.1} dB",
            clip.name, all.codec, all.rate, all.channels, all.hint
        );
        println!("{line}");
        let right = (all.codec, all.rate, all.channels) == (clip.codec, RATE, clip.channels)
            && (late - clip.late).abs() <= clip.within
            && (0..=clip.longer as i64).contains(&longer)
            && snr >= clip.snr
            && (all.channels == 1 || self::snr(&right_doubled(&all.samples), &want, late) > 10.0);
        if !right {
            wrong.push(line);
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn right_doubled(stereo: &[f32]) -> Vec<f32> {
    stereo.iter().skip(1).step_by(2).map(|s| s * 2.0).collect()
}

#[test]
fn flac_is_exact() {
    for name in ["tone.flac", "flac.mkv"] {
        assert_eq!(read_all(clip(name)).unwrap().samples, left(), "{name}");
    }
}

#[test]
fn bytes_paths_and_wrong_names_are_the_same() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["tone.mp3", "tone.m4a", "tone.ogg", "tone.aac"] {
        let want = read_all(clip(name)).unwrap().samples;
        assert_eq!(read_all(bytes(name)).unwrap().samples, want, "{name}");
        let misnamed = dir.path().join("really.wav");
        std::fs::copy(clip(name), &misnamed).unwrap();
        assert_eq!(read_all(misnamed).unwrap().samples, want, "{name}");
    }
}

#[test]
fn what_is_not_read_is_named() {
    use ErrorKind::UnsupportedMedia as U;
    refused(clip("ac3.mkv"), U, &["AC-3"]);
    refused(clip("ac3.mp4"), U, &["AC-3"]);
    refused(clip("silent.mp4"), U, &["no sound track"]);
    refused(b"".to_vec(), U, &["not a media file", "empty"]);
    refused(b"Once upon a time there was no sound.\n".repeat(9_000), U, &["not a media file", "wav, mp3"]);
    refused(vec![0; 100_000], U, &["not a media file"]);
    refused(b"RIFF\x10\0\0\0AVI LIST....".to_vec(), U, &["AVI"]);
    // UTF-16 begins with what might be a frame of MPEG audio.
    refused(b"\xff\xfeO\0n\0c\0e\0 \0u\0p\0o\0n\0".repeat(200), U, &["not a media file"]);
}

#[test]
fn files_that_cannot_be_opened() {
    let dir = tempfile::tempdir().unwrap();
    refused(dir.path().join("gone.wav"), ErrorKind::Io, &["gone.wav"]);
    refused(dir.path(), ErrorKind::Io, &["not a regular file"]);
}

#[test]
fn limits_are_kept_and_named() {
    let open = |limits: Limits, name: &str| Reader::open(&clip(name).into(), &limits).map(drop).unwrap_err();
    let short = Limits::default().max_duration(Duration::from_millis(500));
    for (limits, name, words) in [
        (short.clone(), "tone.flac", "max_duration"),
        (Limits::default().max_channels(1), "tone.mp3", "max_channels"),
        (Limits::default().max_bytes(1000), "tone.ogg", "max_bytes"),
    ] {
        let e = open(limits, name);
        assert_eq!(e.kind(), ErrorKind::LimitExceeded, "{e:?}");
        assert!(e.to_string().contains(words), "{e}");
    }
    // ADTS does not tell its length: refused when it is reached, and from then on.
    let mut reader = Reader::open(&clip("tone.aac").into(), &short).unwrap();
    let mut out = Vec::new();
    let e = loop {
        match reader.read(&mut out) {
            Ok(0) => panic!("not refused"),
            Ok(_) => {}
            Err(e) => break e,
        }
    };
    assert_eq!(e.kind(), ErrorKind::LimitExceeded);
    assert!(out.len() <= 22_050);
    assert_eq!(reader.read(&mut out).unwrap_err().to_string(), e.to_string());
    let audio = Audio::new(vec![0.0; 1000], 1000).unwrap();
    assert_eq!(media::decode(&audio.into(), &short, &Job::new()).unwrap_err().kind(), ErrorKind::LimitExceeded);
}

#[test]
fn decode_is_the_mean_of_the_channels_and_heeds_the_job() {
    let all = read_all(clip("tone.mp3")).unwrap();
    let mono = media::decode(&clip("tone.mp3").into(), &Limits::default(), &Job::new()).unwrap();
    assert_eq!(mono.rate(), RATE);
    for (m, frame) in mono.samples().iter().zip(all.samples.chunks(2)) {
        assert!((m - (frame[0] + frame[1]) / 2.0).abs() < 1e-6);
    }
    let job = Job::new();
    media::decode(&clip("tone.flac").into(), &Limits::default(), &job).unwrap();
    assert_eq!(job.progress().fraction, 1.0);
    let job = Job::new();
    job.cancel();
    let e = media::decode(&clip("tone.flac").into(), &Limits::default(), &job).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Cancelled);
}

#[test]
fn streaming_is_decoding_and_resampling() {
    let audio = Audio::new(left(), RATE).unwrap();
    let cut = |n: usize| Input::from(Audio::new(left()[..n].to_vec(), RATE).unwrap());
    let inputs = [
        Input::from(clip("tone.flac")),
        Input::from(clip("tone.mp3")),
        Input::from(clip("tone.m4a")),
        Input::from(audio),
        cut(0),
        cut(1),
        cut(1023),
        cut(1024),
        cut(1025),
        cut(2048),
    ];
    for input in inputs {
        let whole = media::decode(&input, &Limits::default(), &Job::new()).unwrap();
        for rate in [RATE, 16_000, 48_000, 22_050, 8_000, 11_025, 44_101] {
            let want = whole.resample(rate).unwrap();
            let mut stream = MonoStream::open(&input, &Limits::default(), rate).unwrap();
            let mut got = Vec::new();
            while stream.read(&mut got).unwrap() > 0 {}
            assert_eq!(stream.read(&mut got).unwrap(), 0);
            assert_eq!(got.len(), want.len(), "{input:?} at {rate}");
            assert_eq!(got.len() as u64, resampled_len(stream.source_frames(), RATE, rate));
            let worst = got.iter().zip(want.samples()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst <= 1e-6, "{input:?} at {rate}: off by {worst}");
        }
    }
    assert_eq!(MonoStream::open(&cut(9), &Limits::default(), 7).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

// ---- WAV ----

/// A WAV file by hand: `tag` 1 integers, 3 floats, 6 A-law, 7 mu-law.
fn wav(tag: u16, bits: u16, channels: u16, data: &[u8]) -> Vec<u8> {
    let block = channels * bits / 8;
    let mut out = b"RIFF".to_vec();
    // The compressed ones have a longer header.
    let extra: &[u8] = if tag > 3 { &[0, 0] } else { &[] };
    out.extend(((36 + extra.len() + data.len()) as u32).to_le_bytes());
    out.extend(b"WAVEfmt ");
    out.extend((16 + extra.len() as u32).to_le_bytes());
    out.extend(tag.to_le_bytes());
    out.extend(channels.to_le_bytes());
    out.extend(RATE.to_le_bytes());
    out.extend((RATE * u32::from(block)).to_le_bytes());
    out.extend(block.to_le_bytes());
    out.extend(bits.to_le_bytes());
    out.extend(extra);
    out.extend(b"data");
    out.extend((data.len() as u32).to_le_bytes());
    out.extend(data);
    out
}

#[test]
fn every_width_of_wav() {
    let want = &left()[..5000];
    let encode = |f: &dyn Fn(f32) -> Vec<u8>| want.iter().flat_map(|&s| f(s)).collect::<Vec<u8>>();
    let cases = [
        (1, 8, 1.0 / 128.0, encode(&|s| vec![(s * 128.0 + 128.0).floor() as u8])),
        (1, 16, 0.0, encode(&|s| ((s * 32_768.0) as i16).to_le_bytes().to_vec())),
        (1, 24, 0.0, encode(&|s| ((s * 8_388_608.0) as i32).to_le_bytes()[..3].to_vec())),
        (1, 32, 0.0, encode(&|s| ((f64::from(s) * 2_147_483_648.0) as i32).to_le_bytes().to_vec())),
        (3, 32, 0.0, encode(&|s| s.to_le_bytes().to_vec())),
        (3, 64, 0.0, encode(&|s| f64::from(s).to_le_bytes().to_vec())),
    ];
    for (tag, bits, within, data) in cases {
        let all = read_all(wav(tag, bits, 1, &data)).unwrap_or_else(|e| panic!("{tag} {bits}: {e:?}"));
        assert_eq!((all.rate, all.channels, all.hint), (RATE, 1, Some(5000)), "{bits}");
        assert_eq!(all.samples.len(), want.len());
        for (got, want) in all.samples.iter().zip(want) {
            assert!((got - want).abs() <= within, "{tag} {bits}: {got} for {want}");
        }
    }
    for tag in [6, 7] {
        assert_eq!(read_all(wav(tag, 8, 2, &[0x55; 100])).unwrap().samples.len(), 100);
    }
}

#[test]
fn a_wav_without_sound_is_empty() {
    let all = read_all(wav(1, 16, 2, &[])).unwrap();
    assert_eq!((all.samples.len(), all.channels), (0, 2));
}

#[test]
fn a_wav_from_a_pipe_has_no_declared_length() {
    let mut file = wav(1, 16, 1, &[1; 2000]);
    file[4..8].fill(0xff);
    file[40..44].fill(0xff);
    assert_eq!(read_all(file).unwrap().samples.len(), 1000);
}

#[test]
fn floats_that_are_not_finite_are_refused() {
    for bad in [f32::NAN, f32::INFINITY] {
        let mut samples = vec![0.0f32; 3000];
        samples[2500] = bad;
        let data: Vec<u8> = samples.iter().flat_map(|s| s.to_le_bytes()).collect();
        refused(wav(3, 32, 1, &data), ErrorKind::CorruptMedia, &["frame 2500"]);
    }
}

#[test]
fn what_is_written_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let samples = [0.0, 0.5, -0.5, 1.0, -1.0, 1.5, -1.5, 0.1, 1.0 / 32_768.0, 0.4 / 32_768.0];
    for channels in [1, 2, 5] {
        for format in [WavFormat::I16, WavFormat::F32] {
            let path = dir.path().join("out.wav");
            let mut file = WavWriter::create(&path, channels, 48_000, format).unwrap();
            let mut memory = WavWriter::in_memory(channels, 48_000, format).unwrap();
            for part in samples.chunks(5 * channels).filter(|p| p.len() % channels == 0) {
                file.write(part).unwrap();
                memory.write(part).unwrap();
            }
            assert_eq!(file.frames(), 10 / channels as u64);
            assert!(dir.path().join("out.wav.part").exists());
            file.finish().unwrap();
            assert!(!dir.path().join("out.wav.part").exists());
            let memory: Vec<u8> = memory.finish().unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), memory);
            let all = read_all(path).unwrap();
            assert_eq!((all.rate, all.channels), (48_000, channels));
            for (got, want) in all.samples.iter().zip(samples) {
                let want = match format {
                    WavFormat::F32 => want,
                    _ => (want * 32_768.0).round().clamp(-32_768.0, 32_767.0) / 32_768.0,
                };
                assert_eq!(*got, want, "{format:?}");
            }
        }
    }
    let audio = Audio::new(left(), RATE).unwrap();
    let path = dir.path().join("audio.wav");
    media::write_wav(&path, &audio, WavFormat::I16).unwrap();
    assert_eq!(media::decode(&path.into(), &Limits::default(), &Job::new()).unwrap().samples(), left());
}

#[test]
fn an_unfinished_file_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.wav");
    std::fs::write(&path, "before").unwrap();
    let mut writer = WavWriter::create(&path, 1, 8000, WavFormat::I16).unwrap();
    writer.write(&[0.5; 100_000]).unwrap();
    drop(writer);
    assert_eq!(std::fs::read(&path).unwrap(), b"before");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn two_writers_of_one_target_do_not_meet() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.wav");
    let mut a = WavWriter::create(&path, 1, 8000, WavFormat::F32).unwrap();
    let mut b = WavWriter::create(&path, 1, 8000, WavFormat::F32).unwrap();
    a.write(&[0.25; 10]).unwrap();
    b.write(&[0.75; 20]).unwrap();
    a.finish().unwrap();
    assert_eq!(read_all(path.as_path()).unwrap().samples, [0.25; 10]);
    b.finish().unwrap();
    assert_eq!(read_all(path.as_path()).unwrap().samples, [0.75; 20]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn wrong_writes_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let kind = |e: Error| e.kind();
    let mut writer = WavWriter::in_memory(2, 8000, WavFormat::I16).unwrap();
    assert_eq!(kind(writer.write(&[0.0; 3]).unwrap_err()), ErrorKind::InvalidArgument);
    assert_eq!(kind(writer.write(&[0.0, f32::NAN]).unwrap_err()), ErrorKind::InvalidArgument);
    assert_eq!(kind(WavWriter::in_memory(0, 8000, WavFormat::I16).unwrap_err()), ErrorKind::InvalidArgument);
    assert_eq!(kind(WavWriter::in_memory(1, 7, WavFormat::I16).unwrap_err()), ErrorKind::InvalidArgument);
    let gone = dir.path().join("gone/out.wav");
    let e = WavWriter::create(&gone, 1, 8000, WavFormat::I16).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Io);
    assert!(e.to_string().contains("out.wav"));
    // The target's name is taken by a folder: found out at the end, and cleaned up.
    let folder = dir.path().join("folder");
    std::fs::create_dir(&folder).unwrap();
    let e = WavWriter::create(&folder, 1, 8000, WavFormat::I16).unwrap().finish().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Io);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

// ---- Hostile files ----

fn every_format() -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> = clips().iter().map(|c| (c.name.to_owned(), bytes(c.name))).collect();
    let pcm: Vec<u8> = signal()[..6000].iter().flat_map(|s| s.to_le_bytes()).collect();
    all.push(("i16.wav".into(), wav(1, 16, 2, &pcm)));
    all.push(("f32.wav".into(), wav(3, 32, 1, &pcm)));
    all.push(("opus.webm".into(), bytes("opus.webm")));
    all.push(("silent.mp4".into(), bytes("silent.mp4")));
    all
}

/// Reads `data`, whatever it is; only the kinds of error that the documentation lists are allowed.
fn survive(what: &str, data: &[u8]) -> Result<All, Error> {
    let begun = Instant::now();
    let result = read_all(Input::Bytes(Arc::from(data)));
    assert!(begun.elapsed() < Duration::from_secs(5), "{what} took {:?}", begun.elapsed());
    match result {
        Ok(all) => {
            assert!(all.samples.iter().all(|s| s.is_finite()), "{what}");
            Ok(all)
        }
        Err(e) => {
            use ErrorKind::{CorruptMedia, LimitExceeded, UnsupportedMedia};
            assert!([CorruptMedia, LimitExceeded, UnsupportedMedia].contains(&e.kind()), "{what}: {e:?}");
            Err(e)
        }
    }
}

#[test]
fn truncated_files_are_told_or_shorter() {
    for (name, data) in every_format() {
        let whole = survive(&name, &data).map(|all| all.samples.len()).unwrap_or(0);
        let mut read = 0;
        for i in 0..60 {
            let len = data.len() * i / 60;
            if let Ok(all) = survive(&format!("{name} cut at {len}"), &data[..len]) {
                assert!(all.samples.len() <= whole, "{name} cut at {len} is longer than the whole");
                read += 1;
            }
        }
        // What declares its length must not pass as whole.
        let declares = ["flac", "mp4", "m4a", "mov", "mkv", "webm", "wav"].iter().any(|end| name.ends_with(end));
        assert!(!declares || read == 0, "{name}: {read} of 60 cuts passed as whole");
    }
}

#[test]
fn a_cut_file_says_how_much_is_there() {
    let data = bytes("tone.m4a");
    refused(data[..9000].to_vec(), ErrorKind::CorruptMedia, &["cut off", "9000"]);
    let file = wav(1, 16, 1, &[0; 2000]);
    refused(file[..1000].to_vec(), ErrorKind::CorruptMedia, &["1000 of at least 2044 bytes"]);
    refused(bytes("tone.flac")[..20_000].to_vec(), ErrorKind::CorruptMedia, &["of 44541 declared frames"]);
    refused(bytes("aac.mkv")[..5000].to_vec(), ErrorKind::CorruptMedia, &["cut off", "5000"]);
    refused(bytes("tone.mp3")[..5000].to_vec(), ErrorKind::CorruptMedia, &["of 44541 declared frames"]);
}

/// A generator good enough to choose bytes with.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
}

#[test]
fn flipped_bytes_do_no_harm() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for (name, data) in every_format() {
        for round in 0..200 {
            let mut bad = data.clone();
            // Headers break more than payload does, so half of the rounds stay in the first KiB.
            let area = if round % 2 == 0 { bad.len().min(1024) } else { bad.len() };
            for _ in 0..1 + round % 7 {
                let at = dice.roll(area);
                bad[at] = match round % 3 {
                    0 => bad[at] ^ 1 << dice.roll(8),
                    1 => dice.roll(256) as u8,
                    _ => [0, 0xff, 0x7f, 0x80][dice.roll(4)],
                };
            }
            let _ = survive(&format!("{name} round {round}"), &bad);
        }
    }
}

#[test]
fn a_panic_in_the_decoder_is_corrupt_media() {
    // Found by mutation: symphonia 0.6.1 divides by zero on these two bytes, in release builds too.
    let mut file = bytes("vorbis.mkv");
    (file[3522], file[4113]) = (0, 0x80);
    refused(file, ErrorKind::CorruptMedia, &["makes the decoder fail"]);
}

#[test]
fn damage_in_the_middle_is_told() {
    let mut file = bytes("tone.flac");
    file[8000..12_000].fill(0x55);
    refused(file, ErrorKind::CorruptMedia, &["frames"]);
    let mut file = bytes("tone.m4a");
    file[2000..12_000].fill(0xa5);
    refused(file, ErrorKind::CorruptMedia, &["damaged"]);
}

#[test]
fn readers_and_writers_move_between_threads() {
    fn moves<T: Send + Sync>(_: &T) {}
    moves(&Reader::open(&clip("tone.mp3").into(), &Limits::default()).unwrap());
    moves(&MonoStream::open(&clip("tone.mp3").into(), &Limits::default(), 16_000).unwrap());
    let writer: WavWriter<Cursor<Vec<u8>>> = WavWriter::in_memory(1, 8000, WavFormat::I16).unwrap();
    moves(&writer);
}
