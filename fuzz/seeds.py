#!/usr/bin/env python3
"""Makes the inputs that the fuzzers begin with: one small one of each kind. Needs ffmpeg.

    python3 fuzz/seeds.py

What ffmpeg writes changes with its version, so the files are kept, and made again only where kinds are added.
"""

import json
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
FIXTURES = HERE.parent / "dubcore" / "tests" / "fixtures"

# Name, rate, and what else ffmpeg is told. The name's ending chooses the container.
MEDIA = [
    ("s16.wav", 8000, "-c:a pcm_s16le"),
    ("u8.wav", 8000, "-c:a pcm_u8 -ac 2"),
    ("s24.wav", 8000, "-c:a pcm_s24le"),
    ("f32.wav", 8000, "-c:a pcm_f32le"),
    ("f64.wav", 8000, "-c:a pcm_f64le"),
    ("alaw.wav", 8000, "-c:a pcm_alaw"),
    ("mulaw.wav", 8000, "-c:a pcm_mulaw"),
    ("wide.wav", 8000, "-c:a pcm_s16le -ac 6"),
    ("plain.mp3", 16000, "-c:a libmp3lame -b:a 16k"),
    ("stereo.mp3", 16000, "-c:a libmp3lame -b:a 32k -ac 2 -joint_stereo 1"),
    ("bare.mp3", 16000, "-c:a libmp3lame -b:a 16k -write_xing 0 -id3v2_version 0"),
    ("plain.flac", 8000, "-c:a flac"),
    ("stereo.flac", 8000, "-c:a flac -ac 2 -sample_fmt s32"),
    ("vorbis.ogg", 16000, "-c:a libvorbis -b:a 32k"),
    ("flac.ogg", 8000, "-c:a flac"),
    ("opus.ogg", 48000, "-c:a libopus -b:a 12k"),
    ("aac.m4a", 16000, "-c:a aac -b:a 24k"),
    ("stereo.mp4", 16000, "-c:a aac -b:a 32k -ac 2"),
    ("fragmented.mp4", 16000, "-c:a aac -b:a 24k -movflags frag_keyframe+empty_moov -frag_duration 64000"),
    ("flac.mp4", 8000, "-c:a flac -strict -2"),
    ("mp3.mp4", 16000, "-c:a libmp3lame -b:a 16k"),
    ("opus.mp4", 48000, "-c:a libopus -b:a 12k"),
    ("alac.m4a", 8000, "-c:a alac"),
    ("pcm.mov", 8000, "-c:a pcm_s16be"),
    ("aac.mkv", 16000, "-c:a aac -b:a 24k"),
    ("mp3.mkv", 16000, "-c:a libmp3lame -b:a 16k"),
    ("flac.mkv", 8000, "-c:a flac"),
    ("pcm.mkv", 8000, "-c:a pcm_s16le"),
    ("vorbis.webm", 16000, "-c:a libvorbis -b:a 32k"),
    ("opus.webm", 48000, "-c:a libopus -b:a 12k"),
    ("plain.aac", 16000, "-c:a aac -b:a 24k"),
]


def without_padding(flac):
    """ffmpeg leaves room for tags, which would be most of the file."""
    blocks, at, last = [], 4, False
    while not last:
        last, kind, size = flac[at] >= 128, flac[at] & 127, int.from_bytes(flac[at + 1 : at + 4], "big")
        if kind != 1:
            blocks.append((kind, flac[at + 1 : at + 4 + size]))
        at += 4 + size
    heads = [kind | (128 if i + 1 == len(blocks) else 0) for i, (kind, _) in enumerate(blocks)]
    return b"fLaC" + b"".join(bytes([h]) + body for h, (_, body) in zip(heads, blocks)) + flac[at:]


def media(out):
    source = "anoisesrc=d=0.2:a=0.2:s=1:r=48000,volume='if(lt(t,0.1),1,0.2)':eval=frame"
    for name, rate, how in MEDIA:
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / name
            command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", source, "-ac", "1", "-ar", str(rate)]
            command += ["-fflags", "+bitexact", "-flags:a", "+bitexact", "-map_metadata", "-1", *how.split()]
            seconds = "0.05" if "wav" in name or "pcm" in name or "flac" in name or "alac" in name else "0.2"
            subprocess.run([*command, "-t", seconds, str(path)], check=True)
            data = path.read_bytes()
            (out / name).write_bytes(without_padding(data) if name.endswith(".flac") else data)
    # A tag before the sound, as most music has one.
    tag = b"ID3\x04\x00\x00" + bytes([0, 0, 0, 21]) + b"TIT2\x00\x00\x00\x0b\x00\x00\x03dubcore 12"
    (out / "tagged.mp3").write_bytes(tag + (out / "bare.mp3").read_bytes())


def safetensors(tensors, metadata=None):
    """A file of `{name: (dtype, shape, bytes)}`."""
    header, data = {}, b""
    if metadata:
        header["__metadata__"] = metadata
    for name, (dtype, shape, values) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text)) + text + data


def weights(out):
    one, half = struct.pack("<f", 1.5), b"\x00\x3c"
    files = {
        "f32": {"a.w": ("F32", [2, 2], one * 4), "a.b": ("F32", [2], one * 2)},
        "f16": {"w": ("F16", [3], half * 3)},
        "bf16": {"w": ("BF16", [1, 2, 1], half * 2)},
        "i64": {"w": ("I64", [1], b"\1" + b"\0" * 7)},
        "scalar": {"w": ("F32", [], one)},
        "none": {},
        "empty": {"w": ("F32", [0, 7], b"")},
        "nan": {"w": ("F32", [1], b"\xff" * 4)},
    }
    for name, tensors in files.items():
        (out / name).write_bytes(safetensors(tensors, {"format": "pt"} if name == "f32" else None))


# As in targets/config.rs.
MODELS = ["whisper/a", "marian/untied-swish", "marian/shared-relu", "vits/stochastic-speakers", "vits/deterministic"]


def config(out):
    for number, model in enumerate(MODELS):
        names = ["config.json", "generation_config.json", "preprocessor_config.json", "tokenizer_config.json"]
        files = [name for name in names if (FIXTURES / model / name).exists()]
        for i, name in enumerate(files):
            text = json.dumps(json.loads((FIXTURES / model / name).read_text()), separators=(",", ":"))
            stem = f"{model.replace('/', '-')}-{name.removesuffix('.json')}"
            (out / stem).write_bytes(bytes([number, 2 * i]) + text.encode())
        (out / f"{model.replace('/', '-')}-changed").write_bytes(bytes([number, 1, 0, 7, 23, 1, 2, 1, 0, 30, 24]))


def tokenizer(out):
    whisper = json.loads((FIXTURES / "whisper/a/tokenizer.json").read_text())
    vocab = whisper["model"]["vocab"]
    kept = {token: i for token, i in vocab.items() if i < 300 and i % 12 == 0 or len(token) > 1 and i < 262}
    whisper["model"].update(vocab=kept, merges=[])
    whisper["added_tokens"] = whisper["added_tokens"][:3]
    whisper["post_processor"] = None
    plain = json.dumps(whisper, separators=(",", ":"), ensure_ascii=False)
    write = lambda name, kind, data: (out / name).write_bytes(bytes([kind]) + data)
    write("whisper", 0, plain.encode())
    others = {
        "unigram": {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.5]], "byte_fallback": True},
        "wordpiece": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                      "max_input_chars_per_word": 100, "vocab": {"[UNK]": 0, "a": 1}},
        "wordlevel": {"type": "WordLevel", "unk_token": "u", "vocab": {"u": 0, "a": 1}},
        "bpe": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]], "byte_fallback": True},
    }
    decoders = [
        {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"Regex": "a+"}, "content": " "},
                                          {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        {"type": "WordPiece", "prefix": "##", "cleanup": True},
        {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True},
        {"type": "BPEDecoder", "suffix": "</w>"},
    ]
    for (name, model), decoder in zip(others.items(), decoders):
        text = {"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": None,
                "post_processor": None, "decoder": decoder, "model": model}
        write(name, 0, json.dumps(text, separators=(",", ":"), ensure_ascii=False).encode())
    write("source-spm", 1, (FIXTURES / "marian/shared-relu/source.spm").read_bytes())
    write("target-spm", 1, (FIXTURES / "marian/shared-relu/target.spm").read_bytes())
    write("marian-vocab", 2, (FIXTURES / "marian/shared-relu/vocab.json").read_bytes())
    write("marian-tiny", 2, b'{"<unk>":1,"</s>":0,">>spa<<":3,"\xe2\x96\x81a":2}')
    write("vits-vocab", 3, (FIXTURES / "vits/deterministic/vocab.json").read_bytes())
    write("vits-settings", 4, (FIXTURES / "vits/deterministic/tokenizer_config.json").read_bytes())
    for i, text in enumerate([
        "El 3 de mayo de 1999 costó 1.234,56 € (un 12,5 % más): ¡qué número!",
        "0 1 15 21 100 101 1000 1001 999999 1000000 10^6 -7 +8 3/4 1º 2ª 12:30 http://a.es/b?c=1 n.º 5 kg 20 °C & @ # *",
        "½ ² ﬁ ç ß Œ Ω 字 é é \u00ad\u200b 😀 — “x” ‘y’ … \t\r\n MCMXCIX S.A. EE. UU.",
    ]):
        write(f"text-{i}", 5, text.encode())


def srt(out):
    texts = {
        "plain": "1\n00:00:01,000 --> 00:00:02,500\nHello\nworld\n\n2\n00:00:02,500 --> 00:00:04,000\n<i>Two</i>\n",
        "untidy": "\ufeff\r\n0:00:01.5 --> 00:00:02,000 X1:1 X2:2\r\n<font color=\"red\">a</font> {\\an8}b\r\n\r\n00:03-->00:04\r\n1 < 2\r\n",
        "long": "1\n99:59:59,999 --> 100:00:00,000\n" + "字" * 60 + " " + "word " * 20 + "\n",
        "empty": "1\n00:00:01,000 --> 00:00:02,000\n\n",
        "wrong": "1\n00:00:04,000 --> 00:00:03,000\na\n",
    }
    for name, text in texts.items():
        (out / name).write_bytes(text.encode())


def words():
    """Dictionaries: what a fuzzer would hardly guess letter by letter."""
    keys = set()
    for model in MODELS:
        for path in (FIXTURES / model).glob("*config.json"):
            keys |= json.loads(path.read_text()).keys()
    values = ["null", "true", "false", "0", "-1", "1e308", "18446744073709551615", "4294967296", "65536", "[]", "{}", "\"\""]
    tokenizer = ["model", "type", "BPE", "Unigram", "WordPiece", "WordLevel", "vocab", "merges", "unk_token", "unk_id",
                 "byte_fallback", "dropout", "added_tokens", "special", "decoder", "decoders", "Sequence", "Replace", "Regex",
                 "pattern", "content", "Strip", "start", "stop", "ByteLevel", "Metaspace", "CTC", "Fuse", "ByteFallback",
                 "normalizer", "pre_tokenizer", "post_processor", "add_blank", "normalize", "is_uroman", "phonemize",
                 "language", "<unk>", "</s>", ">>spa<<"]
    media = ["RIFF", "WAVE", "fmt ", "data", "LIST", "INFO", "fLaC", "OggS", "ID3", "APETAGEX", "TAG", "Xing", "LAME", "ftyp",
             "moov", "mvhd", "trak", "tkhd", "edts", "elst", "mdia", "mdhd", "hdlr", "soun", "minf", "stbl", "stsd", "mp4a",
             "esds", "stts", "stsc", "stsz", "stco", "co64", "ctts", "stss", "moof", "traf", "tfhd", "trun", "tfdt", "mdat",
             "mvex", "trex", "udta", "meta", "ilst", "free", "wide", "Opus", "dOps", "alac", "dfLa", "OpusHead", "OpusTags",
             "vorbis", "A_AAC", "A_OPUS", "A_VORBIS", "A_FLAC", "A_PCM/INT/LIT", "A_MPEG/L3", "webm", "matroska"]
    binary = ["1a45dfa3", "18538067", "1654ae6b", "1f43b675", "1c53bb6b", "1254c367", "ae", "a3", "a0", "a1", "63a2", "ec",
              "01ffffffffffffff", "fffb", "fff1", "7fffffff", "ffffffff", "80000000", "feff", "fffe"]
    srt = [" --> ", "00:00:01,000", "00:59:59.999", "<i>", "</i>", "<font ", "{\\\\an8}", "\\xef\\xbb\\xbf", "\\x0d\\x0a"]
    out = HERE / "words"
    out.mkdir(exist_ok=True)
    quoted = lambda word: '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
    json_keys = lambda keys: [quoted(f'"{key}":') for key in sorted(keys)]
    (out / "config").write_text("\n".join(json_keys(keys) + [quoted(v) for v in values]) + "\n")
    (out / "tokenizer").write_text("\n".join([quoted(f'"{w}"') for w in tokenizer] + [quoted(v) for v in values]) + "\n")
    hexes = ['"' + "".join(f"\\x{b:02x}" for b in bytes.fromhex(h)) + '"' for h in binary]
    (out / "media").write_text("\n".join([quoted(w) for w in media] + hexes) + "\n")
    (out / "srt").write_text("\n".join('"' + w + '"' for w in srt) + "\n")


def main():
    words()
    for make in [media, weights, config, tokenizer, srt]:
        name = "safetensors" if make is weights else make.__name__
        out = HERE / "seeds" / name
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        make(out)
        print(f"{name}: {sum(1 for _ in out.iterdir())} files, {sum(p.stat().st_size for p in out.iterdir())} bytes")


if __name__ == "__main__":
    main()
