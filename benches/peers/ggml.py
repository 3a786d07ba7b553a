"""Whisper's weights in the file format of whisper.cpp, from a checkpoint in Hugging Face layout.

The file holds, all little endian: a magic number, eleven sizes, the mel filters, the words of the vocabulary, and tensors one
behind the other, each with its dimensions (the innermost first), its type and its name (as in OpenAI's own checkpoints).
Matrices are stored as 16-bit floats, or in blocks of 32 bytes with a 16-bit scale (q8_0); all else as whisper.cpp wants it.
"""

import json
import struct

import numpy as np

MAGIC = 0x67676D6C
SIZES = "n_vocab n_audio_ctx n_audio_state n_audio_head n_audio_layer n_text_ctx n_text_state n_text_head n_text_layer n_mels ftype".split()
# The number of a type in a tensor's head, and of a file whose matrices are of it; that of blocks counts their version, 2.
F32, F16, Q8_0 = 0, 1, 8
FILES = {"f16": 1, "q8_0": 2007}
BLOCK = 32
# Floats that are read.
FLOATS = {"F32": "<f4", "F16": "<f2"}

# Hugging Face's names and OpenAI's.
NAMES = [
    ("model.", ""),
    ("layers.", "blocks."),
    ("encoder.layer_norm.", "encoder.ln_post."),
    ("decoder.layer_norm.", "decoder.ln."),
    ("encoder.embed_positions.weight", "encoder.positional_embedding"),
    ("decoder.embed_positions.weight", "decoder.positional_embedding"),
    ("embed_tokens.", "token_embedding."),
    ("self_attn_layer_norm.", "attn_ln."),
    ("encoder_attn_layer_norm.", "cross_attn_ln."),
    ("self_attn.", "attn."),
    ("encoder_attn.", "cross_attn."),
    ("q_proj.", "query."),
    ("k_proj.", "key."),
    ("v_proj.", "value."),
    ("out_proj.", "out."),
    ("fc1.", "mlp.0."),
    ("fc2.", "mlp.2."),
    ("final_layer_norm.", "mlp_ln."),
]


def safetensors(path, mode="r"):
    """Names and arrays of a file of floats. The arrays are mapped: with the mode "r+", what is set is written."""
    with open(path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    data = np.memmap(path, np.uint8, mode, 8 + size)
    for name, tensor in header.items():
        if tensor["dtype"] not in FLOATS:
            raise ValueError(f"{name} of {path} is {tensor['dtype']}: only {' and '.join(FLOATS)} are read")
        begin, end = tensor["data_offsets"]
        yield name, data[begin:end].view(FLOATS[tensor["dtype"]]).reshape(tensor["shape"])


def renamed(name):
    for ours, theirs in NAMES:
        name = name.replace(ours, theirs)
    return name


def words(tokenizer, count):
    """The bytes of the first `count` tokens of a byte-level tokenizer.json, whose alphabet stands for all bytes."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [b for b in range(256) if b not in shown]
    byte = {chr(b): b for b in shown} | {chr(256 + i): b for i, b in enumerate(hidden)}
    names = {id: token for token, id in tokenizer["model"]["vocab"].items()}
    return [bytes(byte[c] for c in names[i]) for i in range(count)]


def blocks(array):
    """q8_0: of each 32 numbers a scale, so that the largest becomes 127, and whole numbers."""
    rows = array.astype("<f4").reshape(-1, BLOCK)
    scales = (np.abs(rows).max(axis=1, keepdims=True) / 127).astype("<f2")
    safe = np.where(scales == 0, 1, scales).astype("<f4")
    out = np.empty(len(rows), [("scale", "<f2"), ("values", "i1", BLOCK)])
    out["scale"], out["values"] = scales[:, 0], np.clip(np.rint(rows / safe), -127, 127)
    return out


def encoded(name, array, kind):
    """A tensor's dimensions, type and bytes."""
    if name in ("encoder.conv1.bias", "encoder.conv2.bias"):
        array = array.reshape(-1, 1)
    elif array.ndim == 2 and kind == "q8_0" and not name.endswith("positional_embedding"):
        return array.shape, Q8_0, blocks(array).tobytes()
    elif array.ndim >= 2 and not name.endswith("positional_embedding"):
        return array.shape, F16, array.astype("<f2").tobytes()
    return array.shape, F32, array.astype("<f4").tobytes()


def write(path, sizes, filters, vocabulary, tensors, kind):
    """`sizes` by their names, `filters` [mels, bins], `vocabulary` as bytes, `tensors` of names and arrays."""
    with open(path, "wb") as out:
        out.write(struct.pack("<12i", MAGIC, *[sizes[name] for name in SIZES[:-1]], FILES[kind]))
        out.write(struct.pack("<2i", *filters.shape) + filters.astype("<f4").tobytes())
        out.write(struct.pack("<i", len(vocabulary)))
        for word in vocabulary:
            out.write(struct.pack("<i", len(word)) + word)
        for name, array in tensors:
            shape, number, data = encoded(name, array, kind)
            label = name.encode()
            out.write(struct.pack("<3i", len(shape), len(label), number))
            out.write(struct.pack(f"<{len(shape)}i", *reversed(shape)) + label + data)


def read(path):
    """What `write` wrote, as far as the tensors: sizes, filters, words, and where the tensors begin."""
    with open(path, "rb") as file:
        magic, *sizes = struct.unpack("<12i", file.read(48))
        if magic != MAGIC:
            raise ValueError(f"{path} is no file of whisper.cpp's")
        mels, bins = struct.unpack("<2i", file.read(8))
        filters = np.frombuffer(file.read(4 * mels * bins), "<f4").reshape(mels, bins)
        (count,) = struct.unpack("<i", file.read(4))
        vocabulary = [file.read(struct.unpack("<i", file.read(4))[0]) for _ in range(count)]
        return dict(zip(SIZES, sizes)), filters, vocabulary, file.tell()


def convert(folder, path, filters, kind):
    """Writes the checkpoint in `folder` to `path`, as `f16` or `q8_0`."""
    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    side = lambda s: (config["d_model"], config[f"{s}_attention_heads"], config[f"{s}_layers"])
    numbers = [config["vocab_size"], config["max_source_positions"], *side("encoder"), config["max_target_positions"], *side("decoder")]
    sizes = dict(zip(SIZES, [*numbers, config["num_mel_bins"]]))
    # The special tokens behind the words are whisper.cpp's own knowledge.
    vocabulary = words(tokenizer, config["eos_token_id"])
    tensors = ((renamed(name), array.astype(np.float32)) for name, array in safetensors(folder / "model.safetensors") if name != "proj_out.weight")
    write(path, sizes, filters, vocabulary, tensors, kind)
