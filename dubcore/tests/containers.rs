//! Every container and codec against ffmpeg: the files are made by ffmpeg while the test runs, and what is decoded here is
//! compared with what ffmpeg decodes. Lossless sound must be the same to the bit; lossy sound must differ by less than a
//! thousandth (60 dB), begin within a millisecond of ffmpeg's and end within one frame of the codec.

mod ffmpeg;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dubcore::media::{self, Input, Limits, MonoStream, Reader};
use dubcore::{Error, ErrorKind, Job};
use ffmpeg::{Folder, delay, snr};

/// The bar for lossy codecs, in dB.
const LOSSY: f64 = 60.0;

/// Everything a reader gives.
struct Decoded {
    codec: &'static str,
    rate: u32,
    channels: usize,
    samples: Vec<f32>,
}

impl Decoded {
    fn frames(&self) -> usize {
        self.samples.len() / self.channels
    }
}

fn read(input: impl Into<Input>) -> Result<Decoded, Error> {
    let mut reader = Reader::open(&input.into(), &Limits::default())?;
    let mut samples = Vec::new();
    while reader.read(&mut samples)? > 0 {}
    Ok(Decoded { codec: reader.codec(), rate: reader.rate(), channels: reader.channels(), samples })
}

/// A file that ffmpeg makes, and what is expected of it.
struct Case {
    file: &'static str,
    /// The signal that goes in: `mono`, `stereo` or `surround`.
    signal: &'static str,
    encode: &'static str,
    /// Options of ffmpeg's decoding.
    decode: &'static str,
    codec: &'static str,
    /// `None`: the same to the bit.
    bar: Option<f64>,
    /// Frames that the length may differ by.
    frame: i64,
    /// Frames that ours is late against ffmpeg's.
    late: i64,
}

const fn exact(file: &'static str, signal: &'static str, codec: &'static str, encode: &'static str) -> Case {
    Case { file, signal, encode, decode: "", codec, bar: None, frame: 0, late: 0 }
}

const fn lossy(file: &'static str, signal: &'static str, codec: &'static str, frame: i64, encode: &'static str) -> Case {
    Case { file, signal, encode, decode: "", codec, bar: Some(LOSSY), frame, late: 0 }
}

/// Compared with libopus: ffmpeg's own decoder resamples what SILK gives in another way than RFC 6716's reference, and is
/// 20 dB off from both it and us.
const fn opus(file: &'static str, signal: &'static str, encode: &'static str) -> Case {
    Case { decode: "-c:a libopus", ..lossy(file, signal, "opus", 960, encode) }
}

/// AAC is encoded without noise substitution, where each decoder is meant to make up noise of its own.
macro_rules! aac {
    ($rest:literal) => {
        concat!("-c:a aac -aac_pns 0 ", $rest)
    };
}

/// Runs all of `cases`, prints what was measured, and fails with what was not as expected.
fn check(cases: &[Case]) {
    let folder = Folder::new();
    let mut wrong = Vec::new();
    for case in cases {
        match measure(&folder, case) {
            Ok((line, true)) => println!("{line}"),
            Ok((line, false)) | Err(line) => {
                println!("{line}  <-- WRONG");
                wrong.push(line);
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn measure(folder: &Folder, case: &Case) -> Result<(String, bool), String> {
    let path = folder.encode(case.signal, case.encode, case.file);
    let want = folder.decode(case.decode, &path, "0:a:0");
    let got = read(path.as_path()).map_err(|e| format!("{}: {e:?}", case.file))?;
    let (frames, wanted) = (got.frames() as i64, (want.len() / got.channels) as i64);
    let about = format!("{:24} {:10} {:6} Hz x{}", case.file, got.codec, got.rate, got.channels);
    if case.bar.is_none() {
        let same = got.samples == want && got.codec == case.codec;
        let first = got.samples.iter().zip(&want).position(|(a, b)| a != b);
        return Ok((format!("{about}  exact {same} ({frames} of {wanted} frames, first difference {first:?})"), same));
    }
    let late = delay(&got.samples, &want, got.channels, got.rate);
    let snr = snr(&got.samples, &want, late * got.channels as i64);
    let longer = frames - wanted;
    let line = format!("{about}  {snr:6.1} dB, late {late}, longer {longer}");
    let right = got.codec == case.codec
        && case.bar.is_some_and(|bar| snr >= bar)
        && (late - case.late).abs() * 1000 <= i64::from(got.rate)
        && longer.abs() <= case.frame;
    Ok((line, right))
}

#[test]
fn pcm_and_its_relatives_are_exact() {
    check(&[
        exact("u8.wav", "mono", "pcm_u8", "-c:a pcm_u8"),
        exact("s16.wav", "mono", "pcm_s16le", "-c:a pcm_s16le"),
        exact("s24.wav", "mono", "pcm_s24le", "-c:a pcm_s24le"),
        exact("s32.wav", "mono", "pcm_s32le", "-c:a pcm_s32le"),
        exact("f32.wav", "mono", "pcm_f32le", "-c:a pcm_f32le"),
        exact("f64.wav", "mono", "pcm_f64le", "-c:a pcm_f64le"),
        exact("alaw.wav", "mono", "pcm_alaw", "-c:a pcm_alaw"),
        exact("mulaw.wav", "mono", "pcm_mulaw", "-c:a pcm_mulaw"),
        exact("two.wav", "stereo", "pcm_s16le", "-c:a pcm_s16le"),
        // What ffmpeg writes as WAVE_FORMAT_EXTENSIBLE.
        exact("extensible.wav", "surround", "pcm_s16le", "-c:a pcm_s16le"),
        exact("extensible24.wav", "surround", "pcm_s24le", "-c:a pcm_s24le"),
        exact("extensiblef.wav", "surround", "pcm_f32le", "-c:a pcm_f32le"),
        exact("fast.wav", "stereo", "pcm_s24le", "-c:a pcm_s24le -ar 96000"),
        exact("slow.wav", "mono", "pcm_s16le", "-c:a pcm_s16le -ar 8000"),
        exact("wide.wav", "stereo", "pcm_s24le", "-c:a pcm_s24le -rf64 always"),
        exact("ima.wav", "stereo", "adpcm_ima_wav", "-c:a adpcm_ima_wav"),
        exact("ms.wav", "stereo", "adpcm_ms", "-c:a adpcm_ms"),
        exact("s16.aiff", "stereo", "pcm_s16be", "-c:a pcm_s16be"),
        exact("s24.aiff", "mono", "pcm_s24be", "-c:a pcm_s24be"),
        exact("s32.aiff", "mono", "pcm_s32be", "-c:a pcm_s32be"),
        exact("f32.aiff", "mono", "pcm_f32be", "-c:a pcm_f32be"),
        exact("alaw.aiff", "mono", "pcm_alaw", "-c:a pcm_alaw"),
        exact("swapped.aiff", "mono", "pcm_s16le", "-c:a pcm_s16le"),
        exact("s16.caf", "stereo", "pcm_s16be", "-c:a pcm_s16be"),
        exact("s24.caf", "stereo", "pcm_s24le", "-c:a pcm_s24le"),
        exact("f32.caf", "mono", "pcm_f32le", "-c:a pcm_f32le"),
        exact("s16.mkv", "stereo", "pcm_s16le", "-c:a pcm_s16le"),
        exact("s24.mkv", "stereo", "pcm_s24le", "-c:a pcm_s24le"),
        exact("f32.mkv", "mono", "pcm_f32le", "-c:a pcm_f32le"),
        exact("s16.mov", "stereo", "pcm_s16le", "-c:a pcm_s16le"),
        exact("s16be.mov", "stereo", "pcm_s16be", "-c:a pcm_s16be"),
        exact("s24.mov", "stereo", "pcm_s24le", "-c:a pcm_s24le"),
        exact("f32.mov", "mono", "pcm_f32le", "-c:a pcm_f32le"),
    ]);
}

#[test]
fn lossless_codecs_are_exact() {
    check(&[
        exact("s16.flac", "stereo", "flac", "-c:a flac -sample_fmt s16"),
        exact("s24.flac", "mono", "flac", "-c:a flac -sample_fmt s32 -bits_per_raw_sample 24"),
        exact("surround.flac", "surround", "flac", "-c:a flac -sample_fmt s16"),
        exact("flac.oga", "stereo", "flac", "-c:a flac -sample_fmt s16 -f ogg"),
        exact("flac.mkv", "stereo", "flac", "-c:a flac -sample_fmt s16"),
        exact("flac24.mkv", "surround", "flac", "-c:a flac -sample_fmt s32 -bits_per_raw_sample 24"),
        exact("flac.mp4", "stereo", "flac", "-c:a flac -sample_fmt s16 -strict -2"),
        exact("alac.m4a", "stereo", "alac", "-c:a alac -sample_fmt s16p"),
        exact("alac24.m4a", "mono", "alac", "-c:a alac -sample_fmt s32p"),
        exact("alac.mkv", "stereo", "alac", "-c:a alac -sample_fmt s16p"),
        exact("alac.caf", "stereo", "alac", "-c:a alac -sample_fmt s16p"),
    ]);
}

#[test]
fn aac_is_what_ffmpeg_decodes() {
    check(&[
        lossy("aac.m4a", "stereo", "aac", 1024, aac!("-b:a 128k")),
        lossy("low.m4a", "mono", "aac", 1024, aac!("-b:a 32k -ar 22050")),
        lossy("aac44.mp4", "stereo", "aac", 1024, aac!("-b:a 96k -ar 44100")),
        lossy("aac.mov", "mono", "aac", 1024, aac!("-b:a 64k")),
        lossy("aac.mkv", "stereo", "aac", 1024, aac!("-b:a 96k")),
        lossy("pipe.mp4", "stereo", "aac", 1024, aac!("-b:a 96k -movflags frag_keyframe+empty_moov")),
        // In fragments ffmpeg passes over the edit that cuts the run-up off; here it is heeded. See also the lengths below.
        Case {
            late: -1024,
            ..lossy("edits.mp4", "mono", "aac", 1024, aac!("-b:a 64k -movflags frag_keyframe+delay_moov -frag_duration 500000"))
        },
        Case {
            late: -1024,
            ..lossy("dash.mp4", "mono", "aac", 1024, aac!("-b:a 64k -movflags dash+delay_moov -frag_duration 500000"))
        },
        // Nothing in the file tells the run-up, here and in ffmpeg.
        lossy("raw.aac", "mono", "aac", 1024, aac!("-b:a 64k -f adts")),
    ]);
}

#[test]
fn mp3_is_what_ffmpeg_decodes() {
    check(&[
        lossy("cbr.mp3", "stereo", "mp3", 1152, "-c:a libmp3lame -b:a 128k -ar 44100"),
        lossy("mono.mp3", "mono", "mp3", 1152, "-c:a libmp3lame -b:a 64k -ar 44100"),
        lossy("vbr.mp3", "stereo", "mp3", 1152, "-c:a libmp3lame -q:a 4 -ar 44100"),
        lossy("vbr48.mp3", "mono", "mp3", 1152, "-c:a libmp3lame -q:a 6 -ar 48000"),
        lossy("simple.mp3", "stereo", "mp3", 1152, "-c:a libmp3lame -b:a 128k -joint_stereo 0"),
        lossy("half.mp3", "mono", "mp3", 576, "-c:a libmp3lame -b:a 48k -ar 22050"),
        lossy("half16.mp3", "stereo", "mp3", 576, "-c:a libmp3lame -q:a 5 -ar 16000"),
        lossy("quarter.mp3", "mono", "mp3", 576, "-c:a libmp3lame -b:a 24k -ar 11025"),
        lossy("bare.mp3", "mono", "mp3", 1152, "-c:a libmp3lame -b:a 64k -write_xing 0 -id3v2_version 0"),
        lossy("mp3.mkv", "stereo", "mp3", 1152, "-c:a libmp3lame -b:a 128k -ar 44100"),
        lossy("mp3.mp4", "stereo", "mp3", 1152, "-c:a libmp3lame -b:a 128k -ar 44100"),
        lossy("layer2.mp2", "stereo", "mp2", 1152, "-c:a mp2 -b:a 192k"),
        lossy("layer2.mkv", "mono", "mp2", 1152, "-c:a mp2 -b:a 96k"),
    ]);
}

#[test]
fn vorbis_is_what_ffmpeg_decodes() {
    check(&[
        lossy("vorbis.ogg", "stereo", "vorbis", 1024, "-c:a libvorbis -q:a 5"),
        lossy("low.ogg", "mono", "vorbis", 1024, "-c:a libvorbis -q:a 0 -ar 22050"),
        // In Matroska ffmpeg lets the first sound begin at 3 ms, and leaves that time out of the samples it prints.
        Case { late: 144, ..lossy("vorbis.webm", "stereo", "vorbis", 1024, "-c:a libvorbis -q:a 3") },
        Case { late: 132, ..lossy("vorbis.mkv", "mono", "vorbis", 1024, "-c:a libvorbis -q:a 3 -ar 44100") },
    ]);
}

#[test]
fn opus_is_what_libopus_decodes() {
    check(&[
        opus("music.opus", "stereo", "-c:a libopus -b:a 96k"),
        opus("mono.opus", "mono", "-c:a libopus -b:a 64k"),
        opus("silk.opus", "mono", "-c:a libopus -b:a 12k -application voip"),
        opus("hybrid.opus", "mono", "-c:a libopus -b:a 28k -application voip"),
        opus("short.opus", "stereo", "-c:a libopus -b:a 96k -frame_duration 2.5 -application lowdelay"),
        Case { frame: 2880, ..opus("long.opus", "mono", "-c:a libopus -b:a 24k -frame_duration 60") },
        opus("surround.opus", "surround", "-c:a libopus -b:a 256k"),
        opus("opus.webm", "stereo", "-c:a libopus -b:a 64k"),
        opus("voice.webm", "mono", "-c:a libopus -b:a 20k -application voip"),
        opus("opus.mkv", "surround", "-c:a libopus -b:a 192k"),
        opus("opus.mp4", "stereo", "-c:a libopus -b:a 64k"),
        opus("fragments.mp4", "mono", "-c:a libopus -b:a 48k -movflags frag_keyframe+delay_moov -frag_duration 500000"),
    ]);
}

#[test]
fn lengths_are_those_of_the_signal_where_the_file_tells() {
    let folder = Folder::new();
    let cases = [
        ("a.m4a", aac!("-b:a 96k")),
        ("a.mp3", "-c:a libmp3lame -b:a 128k"),
        ("a.ogg", "-c:a libvorbis -q:a 4"),
        ("a.opus", "-c:a libopus -b:a 64k"),
        ("a.webm", "-c:a libopus -b:a 64k"),
        ("b.mkv", "-c:a libopus -b:a 64k"),
        ("b.mp4", "-c:a libopus -b:a 64k"),
        ("b.flac", "-c:a flac"),
    ];
    for (file, encode) in cases {
        let got = read(folder.encode("stereo", encode, file)).unwrap();
        assert_eq!(got.frames(), ffmpeg::FRAMES, "{file}");
        // In its place, too: against the signal that went in, lossy as it is.
        assert_eq!(delay(&got.samples, &folder.signal("stereo"), 2, got.rate), 0, "{file}");
    }
    // Fragments do not tell where the sound ends, but an edit tells where it begins.
    let got = read(folder.encode("mono", aac!("-b:a 64k -movflags frag_keyframe+delay_moov"), "edits.mp4")).unwrap();
    assert_eq!(delay(&got.samples, &folder.signal("mono"), 1, got.rate), 0);
}

#[test]
fn itunes_note_is_heeded_where_there_is_no_edit_list() {
    let folder = Folder::new();
    let whole = read(folder.encode("mono", aac!("-b:a 64k"), "edits.m4a")).unwrap();
    let bare = folder.encode("mono", aac!("-b:a 64k -use_editlist 0"), "bare.m4a");
    let late = delay(&read(bare.as_path()).unwrap().samples, &whole.samples, 1, whole.rate);
    assert_eq!(late, 1024, "the encoder's run-up is in the file and nothing tells it");
    // The sample table comes last, so that the tag can be put behind it.
    let note = format!(" 00000000 {late:08X} 00000000 {:016X}", ffmpeg::FRAMES);
    let atom = |kind: &[u8], body: &[u8]| [&(body.len() as u32 + 8).to_be_bytes()[..], kind, body].concat();
    let tag = [
        atom(b"mean", b"\0\0\0\0com.apple.iTunes"),
        atom(b"name", b"\0\0\0\0iTunSMPB"),
        atom(b"data", &[b"\0\0\0\x01\0\0\0\0", note.as_bytes()].concat()),
    ];
    let meta = atom(b"meta", &[&[0; 4][..], &atom(b"ilst", &atom(b"----", &tag.concat()))].concat());
    let udta = atom(b"udta", &meta);
    let mut file = std::fs::read(&bare).unwrap();
    let moov = file.windows(4).rposition(|w| w == b"moov").unwrap() - 4;
    let size = u32::from_be_bytes(file[moov..moov + 4].try_into().unwrap());
    assert_eq!(moov + size as usize, file.len());
    // ffmpeg's own tags go, or there would be two of the kind.
    if let Some(old) = file.windows(4).rposition(|w| w == b"udta").filter(|&at| at > moov) {
        file[old..old + 4].copy_from_slice(b"free");
    }
    file[moov..moov + 4].copy_from_slice(&(size + udta.len() as u32).to_be_bytes());
    file.extend(udta);
    let noted = read(file).unwrap();
    assert_eq!(noted.frames(), ffmpeg::FRAMES);
    assert!(snr(&noted.samples, &whole.samples, 0) > 100.0);
}

#[test]
fn late_sound_is_preceded_by_silence() {
    let folder = Folder::new();
    let signal = folder.signal("mono");
    // ffmpeg takes the run-up of Opus, 6.5 ms, off the time stamps of Matroska a second time when the sound is late.
    let cases = [
        ("late.mp4", aac!("-b:a 64k"), 12_000),
        ("late.mov", "-c:a pcm_s16le", 12_000),
        ("late.mkv", "-c:a flac", 12_000),
        ("late.webm", "-c:a libopus -b:a 64k", 12_000 - 312),
        ("opus.mp4", "-c:a libopus -b:a 64k", 12_000),
        ("edits.mp4", aac!("-b:a 64k -movflags frag_keyframe+delay_moov"), 12_000),
    ];
    for (file, encode, want) in cases {
        let path = folder.path(file);
        let video = if file.ends_with("webm") { "-c:v libvpx" } else { "-c:v mpeg4" };
        folder.run(&format!(
            "-f lavfi -i color=c=black:s=32x32:r=10:d=3 -itsoffset 0.25 -i mono.wav -map 0:v -map 1:a {video} {encode} {file}"
        ));
        let got = read(path).unwrap();
        let late = delay(&got.samples, &signal, 1, got.rate);
        assert!((late - want).abs() <= 48, "{file} is late by {late}");
        assert!(got.samples[..10_000].iter().all(|s| s.abs() < 1e-3), "{file}");
    }
    // Fragments begin where their headers say. ffmpeg does not write sound that is late that way, so it is put in.
    folder.run(concat!(
        "-f lavfi -i color=c=black:s=32x32:r=10:d=3 -i mono.wav -map 0:v -map 1:a -c:v mpeg4 ",
        "-c:a aac -b:a 64k -movflags frag_keyframe+empty_moov fragments.mp4"
    ));
    let mut file = bytes(&folder.path("fragments.mp4"));
    let times: Vec<usize> = (0..file.len() - 4).filter(|&at| file[at..].starts_with(b"tfdt")).collect();
    // That of the sound is the second, behind the picture's, and has eight bytes behind its version.
    file[times[1] + 8..times[1] + 16].copy_from_slice(&12_000_u64.to_be_bytes());
    let late = delay(&read(file.clone()).unwrap().samples, &signal, 1, ffmpeg::RATE);
    // The encoder's run-up is still in front, as nothing tells it.
    assert_eq!(late, 12_000 + 1024);
    // A stream that was joined after hours is not preceded by hours of silence.
    file[times[0] + 8..times[0] + 16].copy_from_slice(&(10 * 3600 * 10 * 1024_u64).to_be_bytes());
    file[times[1] + 8..times[1] + 16].copy_from_slice(&(10 * 3600 * 48_000_u64 + 12_000).to_be_bytes());
    assert_eq!(delay(&read(file).unwrap().samples, &signal, 1, ffmpeg::RATE), 12_000 + 1024);
}

/// Where pictures come at odd times, the sound keeps its own.
#[test]
fn sound_beside_pictures_of_variable_rate() {
    let folder = Folder::new();
    let alone = read(folder.encode("stereo", "-c:a libopus -b:a 96k", "alone.webm")).unwrap();
    for file in ["vfr.mp4", "vfr.mkv"] {
        folder.run(&format!(
            "-f lavfi -i testsrc=s=64x64:r=30:d=3,select='not(mod(n\\,2))+not(mod(n\\,7))' -i stereo.wav -map 0:v -map 1:a \
             -vsync vfr -c:v mpeg4 -c:a libopus -b:a 96k {file}"
        ));
        let got = read(folder.path(file)).unwrap();
        assert_eq!(got.samples, alone.samples, "{file}");
    }
}

#[test]
fn cover_art_and_tags_change_nothing() {
    let folder = Folder::new();
    // Noise does not compress: a picture of some megabytes.
    folder.run("-f lavfi -i nullsrc=s=1200x1200:d=1:r=1,geq=random(1)*255:random(2)*255:random(3)*255 -frames:v 1 cover.png");
    assert!(std::fs::metadata(folder.path("cover.png")).unwrap().len() > 1 << 20);
    for (file, encode) in
        [("mp3", "-c:a libmp3lame -b:a 128k -id3v2_version 3"), ("flac", "-c:a flac -sample_fmt s16"), ("m4a", aac!("-b:a 96k"))]
    {
        let plain = read(folder.encode("stereo", encode, &format!("plain.{file}"))).unwrap();
        folder.run(&format!(
            "-i stereo.wav -i cover.png -map 0:a -map 1:v -c:v copy -disposition:v:0 attached_pic -metadata title=Tone \
             -metadata comment=none {encode} covered.{file}"
        ));
        assert!(std::fs::metadata(folder.path(&format!("covered.{file}"))).unwrap().len() > 1 << 20);
        assert_eq!(read(folder.path(&format!("covered.{file}"))).unwrap().samples, plain.samples, "{file}");
    }
}

#[test]
fn one_of_several_sound_tracks() {
    let folder = Folder::new();
    for (file, second) in [("two.mp4", "-c:a:1 alac"), ("two.mkv", "-c:a:1 flac"), ("two.mov", "-c:a:1 pcm_s16le")] {
        folder.run(&format!(
            "-f lavfi -i color=c=black:s=32x32:r=10:d=3 -i mono.wav -i stereo.wav -map 0:v -map 1:a -map 2:a -c:v mpeg4 \
             -c:a:0 aac -b:a:0 64k {second} -metadata:s:a:0 language=eng -metadata:s:a:1 language=spa {file}"
        ));
        let path = folder.path(file);
        let track = |index| read(Input::from(path.as_path()).track(index));
        assert_eq!((track(0).unwrap().channels, track(1).unwrap().channels), (1, 2), "{file}");
        assert_eq!(read(path.as_path()).unwrap().channels, 1, "{file}: the first");
        // In Matroska ffmpeg moves all tracks up by the run-up of AAC, and leaves that out of the samples it prints.
        let (second, want) = (track(1).unwrap(), folder.decode("", &path, "0:a:1"));
        let late = delay(&second.samples, &want, 2, second.rate);
        assert!((0..=1056).contains(&late), "{file}: {late}");
        assert!(snr(&second.samples, &want, late * 2) > 90.0, "{file}");
        let e = track(2).err().unwrap();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{e:?}");
        // QuickTime has its own numbers for languages.
        let list: &[&str] = match file {
            "two.mov" => &["0 (AAC)", "1 (pcm_s16le)"],
            "two.mkv" => &["0 (AAC, eng)", "1 (FLAC, spa)"],
            _ => &["0 (AAC, eng)", "1 (ALAC, spa)"],
        };
        for words in list.iter().chain(&["no sound track 2"]) {
            assert!(e.to_string().contains(words), "{e}");
        }
        assert!(matches!(Input::from(path.as_path()).track(9).track(1), Input::Track { index: 1, .. }));
        // The other readers take it as well.
        let input = Input::from(path.as_path()).track(1);
        assert_eq!(MonoStream::open(&input, &Limits::default(), 16_000).unwrap().source_channels(), 2);
        assert!(!media::decode(&input, &Limits::default(), &Job::new()).unwrap().is_empty());
    }
    // The one that is marked, where one is.
    for file in ["marked.mkv", "marked.mp4"] {
        folder.run(&format!(
            "-i mono.wav -i stereo.wav -map 0:a -map 1:a -c:a aac -disposition:a:0 0 -disposition:a:1 default {file}"
        ));
        assert_eq!(read(folder.path(file)).unwrap().channels, 2, "{file}");
        assert_eq!(read(Input::from(folder.path(file)).track(0)).unwrap().channels, 1, "{file}");
    }
    // A track of a codec that is not decoded can be passed by, and is named.
    folder.run("-i mono.wav -i stereo.wav -map 0:a -map 1:a -c:a:0 ac3 -c:a:1 aac mixed.mkv");
    let path = folder.path("mixed.mkv");
    assert_eq!(read(Input::from(path.as_path()).track(1)).unwrap().channels, 2);
    refused(Input::from(path).track(0), ErrorKind::UnsupportedMedia, &["AC-3"]);
    // Sound that is decoded already, and files of one track, have a track 0.
    let path = folder.path("mono.wav");
    assert!(read(Input::from(path.as_path()).track(0)).is_ok());
    refused(Input::from(path).track(1), ErrorKind::InvalidArgument, &["no sound track 1"]);
    let audio = dubcore::Audio::new(vec![0.0; 100], 8000).unwrap();
    assert!(read(Input::from(audio.clone()).track(0)).is_ok());
    refused(Input::from(audio).track(1), ErrorKind::InvalidArgument, &["track 1"]);
}

#[test]
fn surround_is_mixed_down_as_ffmpeg_does() {
    let folder = Folder::new();
    for (file, encode) in
        [("mix.flac", "-c:a flac -sample_fmt s16"), ("mix.wav", "-c:a pcm_s16le"), ("mix.opus", "-c:a libopus -b:a 256k")]
    {
        let path = folder.encode("surround", encode, file);
        let got = media::decode(&path.as_path().into(), &Limits::default(), &Job::new()).unwrap();
        // Through 16 bits, for which ffmpeg scales its matrix to a sum of 1; that rounding is the difference.
        let mono = "0:a:0 -af aformat=sample_fmts=s16,aformat=sample_fmts=s16:channel_layouts=mono";
        let options = if file.ends_with("opus") { "-c:a libopus" } else { "" };
        let snr = snr(got.samples(), &folder.decode(options, &path, mono), 0);
        println!("{file}: {snr:.1} dB");
        assert!(snr > LOSSY, "{file}: {snr:.1} dB");
    }
}

fn refused(input: impl Into<Input>, kind: ErrorKind, words: &[&str]) {
    let e = read(input).err().unwrap_or_else(|| panic!("was read, but {words:?} expected"));
    assert_eq!(e.kind(), kind, "{e:?}");
    for word in words {
        assert!(e.report().contains(word), "{word:?} is not in {:?}", e.report());
    }
}

#[test]
fn what_is_not_decoded_is_named() {
    let folder = Folder::new();
    let cases = [
        ("raw.ac3", "-c:a ac3", "AC-3"),
        ("raw.eac3", "-c:a eac3", "E-AC-3"),
        ("raw.dts", "-c:a dca -strict -2", "DTS"),
        ("ac3.mp4", "-c:a ac3", "AC-3"),
        ("eac3.mp4", "-c:a eac3", "E-AC-3"),
        ("dts.mkv", "-c:a dca -strict -2", "DTS"),
        ("truehd.mkv", "-c:a truehd -strict -2", "TrueHD"),
        ("wavpack.mkv", "-c:a wavpack", "WavPack"),
        ("tta.mkv", "-c:a tta", "True Audio"),
        ("stream.ts", "-c:a aac", "MPEG transport stream"),
        ("stream.m2ts", "-c:a ac3 -mpegts_m2ts_mode 1 -f mpegts", "MPEG transport stream"),
        ("stream.mpg", "-c:a mp2", "MPEG program stream"),
        ("file.avi", "-c:a mp3", "AVI"),
        ("file.wma", "-c:a wmav2", "Windows Media"),
        ("file.flv", "-c:a mp3 -ar 44100", "Flash"),
        ("file.w64", "-c:a pcm_s16le", "Wave64"),
        ("file.au", "-c:a pcm_s16be", "Sun audio"),
        ("file.wv", "-c:a wavpack", "WavPack"),
        ("file.tta", "-c:a tta", "True Audio"),
        ("speex.ogg", "-c:a libspeex -ar 16000", "Speex"),
    ];
    for (file, encode, name) in cases {
        let path = folder.encode("stereo", encode, file);
        refused(path, ErrorKind::UnsupportedMedia, &[file, name]);
    }
    for (file, encode, name) in
        [("surround.m4a", "-c:a aac", "AAC with 6 channels"), ("surround.ogg", "-c:a libvorbis", "Vorbis with 6 channels")]
    {
        refused(folder.encode("surround", encode, file), ErrorKind::UnsupportedMedia, &[name]);
    }
    for file in ["family.opus", "family.mkv"] {
        let path = folder.encode("stereo", "-c:a libopus -mapping_family 255", file);
        refused(path, ErrorKind::UnsupportedMedia, &["Opus with channel mapping family 255"]);
    }
}

#[test]
fn the_content_decides_not_the_name() {
    let folder = Folder::new();
    for (file, encode) in
        [("x.opus", "-c:a libopus"), ("x.caf", "-c:a alac"), ("x.aiff", "-c:a pcm_s16be"), ("x.mkv", "-c:a aac")]
    {
        let path = folder.encode("mono", encode, file);
        let misnamed = path.with_extension("mp3");
        std::fs::copy(&path, &misnamed).unwrap();
        assert_eq!(read(misnamed).unwrap().samples, read(path).unwrap().samples, "{file}");
    }
}

// ---- Hostile files ----

/// Reads `data`, whatever it is; it takes neither long nor much memory.
fn survive(what: &str, data: Vec<u8>) -> Result<Decoded, Error> {
    let begun = Instant::now();
    let result = read(data);
    assert!(begun.elapsed() < Duration::from_secs(5), "{what} took {:?}", begun.elapsed());
    assert!(peak_bytes() < 1 << 30, "{what}: {} MB", peak_bytes() >> 20);
    match result {
        Ok(got) => {
            assert!(got.samples.iter().all(|s| s.is_finite()), "{what}");
            Ok(got)
        }
        Err(e) => {
            use ErrorKind::{CorruptMedia, LimitExceeded, UnsupportedMedia};
            assert!([CorruptMedia, LimitExceeded, UnsupportedMedia].contains(&e.kind()), "{what}: {e:?}");
            Err(e)
        }
    }
}

/// The most memory the process ever held.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[test]
fn cover_art_that_claims_gigabytes() {
    let folder = Folder::new();
    let mp3 = bytes(&folder.encode("mono", "-c:a libmp3lame -b:a 64k -id3v2_version 0", "a.mp3"));
    for claimed in [0xffff_ffff_u32, 0x7f7f_7f7f, 1 << 30] {
        // A tag of 100 bytes whose picture claims more; then a tag that claims to be as long as it can.
        let picture = [b"APIC", &claimed.to_be_bytes()[..], &[0; 90]].concat();
        let short = [b"ID3\x03\0\0", &[0, 0, 0, 100][..], &picture[..98], &[0, 0], &mp3].concat();
        let _ = survive("a picture beyond its tag", short);
        let long = [b"ID3\x04\0\0", &[0x7f; 4][..], &picture, &mp3].concat();
        survive("a tag beyond the file", long).err().expect("a tag that hides all sound is not sound");
    }
    let flac = bytes(&folder.encode("mono", "-c:a flac", "a.flac"));
    // A picture block in front of the others, its own length 24 bits, the lengths inside as large as can be.
    for (block, inner) in [(40_u32, u32::MAX), (0xff_ffff, 16)] {
        let picture = [&[0x06][..], &block.to_be_bytes()[1..], &3_u32.to_be_bytes(), &inner.to_be_bytes(), &[0; 32]].concat();
        // The first block must be the stream's information, of 38 bytes with its header.
        let file = [&flac[..42], &picture, &flac[42..]].concat();
        let _ = survive("a picture block", file);
    }
    let mut m4a = bytes(&folder.encode("mono", "-c:a aac", "a.m4a"));
    let moov = m4a.windows(4).rposition(|w| w == b"moov").unwrap() - 4;
    let atom = |size: u32, kind: &[u8], body: &[u8]| [&size.to_be_bytes()[..], kind, body].concat();
    for claimed in [u32::MAX, 1 << 31, 9, 0, 1] {
        let data = atom(claimed, b"data", &[0; 24]);
        let covr = atom(data.len() as u32 + 8, b"covr", &data);
        let ilst = atom(covr.len() as u32 + 8, b"ilst", &covr);
        let meta = atom(ilst.len() as u32 + 12, b"meta", &[&[0; 4][..], &ilst].concat());
        let udta = atom(meta.len() as u32 + 8, b"udta", &meta);
        let size = (m4a.len() - moov + udta.len()) as u32;
        m4a[moov..moov + 4].copy_from_slice(&size.to_be_bytes());
        let _ = survive("a cover in an M4A", [m4a.clone(), udta].concat());
    }
}

#[test]
fn cut_and_flipped_files_of_the_new_kinds_do_no_harm() {
    let folder = Folder::new();
    let cases = [
        ("h.opus", "-c:a libopus -b:a 32k"),
        ("h6.opus", "-c:a libopus -b:a 96k -ac 6"),
        ("h.webm", "-c:a libopus -b:a 32k"),
        ("ho.mp4", "-c:a libopus -b:a 32k"),
        ("h.caf", "-c:a alac"),
        ("ha.m4a", "-c:a alac"),
        ("h.aiff", "-c:a pcm_s16be"),
        ("h.mp2", "-c:a mp2 -b:a 96k"),
        ("hi.wav", "-c:a adpcm_ima_wav"),
        ("hm.wav", "-c:a adpcm_ms"),
        ("hr.wav", "-c:a pcm_s16le -rf64 always"),
        ("hf.mp4", "-c:a aac -movflags frag_keyframe+empty_moov"),
    ];
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    for (file, encode) in cases {
        let data = bytes(&folder.encode("mono", &format!("-t 0.5 {encode}"), file));
        let whole = survive(file, data.clone()).unwrap().samples.len();
        for i in 0..40 {
            let len = data.len() * i / 40;
            if let Ok(got) = survive(&format!("{file} cut at {len}"), data[..len].to_vec()) {
                assert!(got.samples.len() <= whole, "{file} cut at {len} is longer than the whole");
            }
        }
        for round in 0..120 {
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
            let _ = survive(&format!("{file} round {round}"), bad);
        }
    }
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
fn an_rf64_file_ends_with_its_sound() {
    let folder = Folder::new();
    let path: PathBuf = folder.encode("stereo", "-c:a pcm_s16le -rf64 always", "plain.wav");
    let plain = read(path.as_path()).unwrap();
    let mut file = bytes(&path);
    // A chunk behind the sound is not sound.
    file.extend(b"LIST\x08\0\0\0INFOabcd");
    assert_eq!(read(file.clone()).unwrap().samples, plain.samples);
    // Its twin has another name.
    file[..4].copy_from_slice(b"BW64");
    assert_eq!(read(file.clone()).unwrap().samples, plain.samples);
    refused(file[..file.len() / 2].to_vec(), ErrorKind::CorruptMedia, &["cut off"]);
}
