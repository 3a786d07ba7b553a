"""What `benches/peers/run.py` does by itself, without any of the peers: the table, whisper.cpp's file format, the turns."""

import argparse
import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benches" / "peers"))

import contenders  # noqa: E402
import ggml  # noqa: E402
import run  # noqa: E402
import table  # noqa: E402

REST = {"threads": 2, "load": 0.5, "peak": 3e8, "same": ""}


def rows():
    return [
        table.row("encoder", "dubcore", "f32", [0.2, 0.1, 0.3], **REST),
        table.row("encoder", "dubcore", "int8", [0.05], **REST),
        table.row("encoder", "onnxruntime", "f32", [0.3, 0.4, 0.2], **REST),
        table.row("encoder", "transformers", "f32", [0.5], **REST),
        table.row("encoder", "transformers", "bf16", [0.4], **REST),
        table.row("encoder", "whisper.cpp", "q8_0", [0.1], **REST),
        table.row("decoder", "transformers", "f32", [0.004], **REST),
    ]


def test_a_ratio_is_to_dubcore_of_the_same_arithmetic_or_there_is_none():
    ratios = [r["ratio"] for r in table.with_ratios(rows())]
    assert ratios == [None, None, pytest.approx(1.5), pytest.approx(2.5), None, pytest.approx(2.0), None]
    best = [(ours["arithmetic"], peer["contender"]) for ours, peer in table.fastest(rows())]
    assert best == [("f32", "onnxruntime"), ("int8", "whisper.cpp")]


def test_the_table_has_medians_and_names_a_task_once():
    text = table.markdown(rows(), ["a note"])
    assert "| encoder | dubcore f32 | 200 ms |  | 100 ms to 300 ms | 2 | 500 ms | 300 MB |  |\n" in text
    assert "|  | onnxruntime f32 | 300 ms | 1.50 |" in text
    assert "| decoder | transformers f32 | 4.00 ms |  |" in text
    assert "- encoder, int8: 2.00 times as fast as the fastest peer, whisper.cpp q8_0\n" in text
    assert text.count("| encoder |") == 1 and text.endswith("- a note\n")
    assert [table.time(s) for s in (2.5, 0.25, 0.0123, 0.00123, 0.00002)] == ["2.50 s", "250 ms", "12.3 ms", "1.23 ms", "20 µs"]


def test_only_what_was_measured_is_replaced():
    text = f"a\n{run.BEGIN}old\n{run.END}b\n"
    new = table.replaced(text, run.BEGIN, run.END, "new\n")
    assert new == f"a\n{run.BEGIN}\nnew\n\n{run.END}b\n"
    with pytest.raises(ValueError, match="no lines"):
        table.replaced("a", run.BEGIN, run.END, "new")
    assert all(mark in run.PLACE.read_text() for mark in (run.BEGIN, run.END)), "the place for --write"


def checkpoint(folder):
    """A Whisper of a few numbers, in Hugging Face layout."""
    draw = np.random.default_rng(1)
    shapes = {
        "model.encoder.conv1.weight": (64, 4, 3),
        "model.encoder.conv1.bias": (64,),
        "model.encoder.embed_positions.weight": (10, 64),
        "model.encoder.layers.0.self_attn.k_proj.weight": (64, 64),
        "model.encoder.layers.0.self_attn_layer_norm.weight": (64,),
        "model.encoder.layer_norm.bias": (64,),
        "model.decoder.embed_tokens.weight": (7, 64),
        "model.decoder.layers.0.encoder_attn.out_proj.bias": (64,),
        "model.decoder.layers.0.fc2.weight": (64, 128),
    }
    tensors = {name: draw.normal(size=shape).astype("<f4") for name, shape in shapes.items()}
    header, at = {}, 0
    for name, array in tensors.items():
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    head = json.dumps(header).encode()
    data = b"".join(array.tobytes() for array in tensors.values())
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + data)
    sizes = {"d_model": 64, "encoder_layers": 1, "encoder_attention_heads": 4, "decoder_layers": 2, "decoder_attention_heads": 8}
    more = {"vocab_size": 7, "max_source_positions": 10, "max_target_positions": 12, "num_mel_bins": 4, "eos_token_id": 3}
    (folder / "config.json").write_text(json.dumps(sizes | more))
    vocabulary = {"a": 0, "Ġthe": 1, "Ã±": 2, "filler": 3}
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}}))
    return tensors


def stored(path, at):
    """The tensors behind the head of a file of whisper.cpp's, as 32-bit floats."""
    data, out = path.read_bytes(), {}
    while at < len(data):
        count, length, kind = struct.unpack_from("<3i", data, at)
        shape = struct.unpack_from(f"<{count}i", data, at + 12)[::-1]
        at += 12 + 4 * count
        name, at = data[at : at + length].decode(), at + length
        number = {ggml.F32: "<f4", ggml.F16: "<f2", ggml.Q8_0: [("scale", "<f2"), ("values", "i1", 32)]}[kind]
        size = int(np.prod(shape))
        found = np.frombuffer(data, number, size // 32 if kind == ggml.Q8_0 else size, at)
        at += found.nbytes
        if kind == ggml.Q8_0:
            found = found["scale"][:, None].astype("<f4") * found["values"]
        out[name] = (kind, found.astype("<f4").reshape(shape))
    assert at == len(data)
    return out


@pytest.mark.parametrize("kind", ["f16", "q8_0"])
def test_a_file_of_whisper_cpp_holds_what_went_in(tmp_path, kind):
    tensors = checkpoint(tmp_path)
    filters, path = np.arange(20, dtype="<f4").reshape(4, 5), tmp_path / "model.bin"
    ggml.convert(tmp_path, path, filters, kind)
    sizes, read, vocabulary, at = ggml.read(path)
    assert list(sizes.values()) == [7, 10, 64, 4, 1, 12, 64, 8, 2, 4, {"f16": 1, "q8_0": 2007}[kind]]
    assert np.array_equal(read, filters)
    assert vocabulary == [b"a", b" the", "ñ".encode()]
    found = stored(path, at)
    assert list(found) == [
        "encoder.conv1.weight",
        "encoder.conv1.bias",
        "encoder.positional_embedding",
        "encoder.blocks.0.attn.key.weight",
        "encoder.blocks.0.attn_ln.weight",
        "encoder.ln_post.bias",
        "decoder.token_embedding.weight",
        "decoder.blocks.0.cross_attn.out.bias",
        "decoder.blocks.0.mlp.2.weight",
    ]
    matrix = ggml.Q8_0 if kind == "q8_0" else ggml.F16
    want = [ggml.F16, ggml.F32, ggml.F32, matrix, ggml.F32, ggml.F32, matrix, ggml.F32, matrix]
    assert [number for number, _ in found.values()] == want
    assert found["encoder.conv1.bias"][1].shape == (64, 1)
    for (number, array), given in zip(found.values(), tensors.values()):
        # Half a step of the largest number's 127th part; a 16-bit float has 11 bits.
        near = {ggml.F32: 0, ggml.F16: 2**-11 * np.abs(given).max(), ggml.Q8_0: 0.51 / 127 * np.abs(given).max()}[number]
        assert np.abs(array.reshape(given.shape) - given).max() <= near


def test_other_files_are_refused(tmp_path):
    (tmp_path / "a.bin").write_bytes(bytes(48))
    with pytest.raises(ValueError, match="no file of whisper.cpp"):
        ggml.read(tmp_path / "a.bin")
    assert not ggml.blocks(np.zeros((1, 32), "<f4"))["values"].any()


def test_requests_share_the_threads():
    assert contenders.shared({"threads": 8, "requests": 4}) == (4, 2)
    assert contenders.shared({"threads": 2, "requests": 8}) == (2, 1)
    assert contenders.shared({"threads": 3}) == (1, 3)
    seconds, count = contenders.at_once(4, lambda: 16)
    assert count == 64 and seconds > 0
    assert contenders.by_token(lambda n: [0] * n, 64)[1] == 64


# Speaks the protocol, and says that it runs in f32 whatever it is asked.
STAND_IN = """#!{python}
import json, sys
print('{{"ready": true}}', flush=True)
for line in sys.stdin:
    said = {{
        "load": {{"seconds": 0.1, "arithmetic": "f32"}},
        "run": {{"seconds": 0.2, "count": 3}},
        "answer": {{"tokens": [[1, 2, 3]]}},
    }}[json.loads(line)["do"]]
    print(json.dumps({reply}), flush=True)
"""


def arguments(folder, reply="said"):
    program = folder / "stand-in"
    program.write_text(STAND_IN.format(python=sys.executable, reply=reply))
    program.chmod(0o755)
    return argparse.Namespace(program=program, folder=folder, threads=2, rounds=2, isa=None, only=["dubcore", "onnxruntime"])


TASK = ("encoder", "whisper-base", "encoder", {}, ["dubcore"])


def test_a_contender_is_stopped_while_it_has_no_turn(tmp_path):
    racer = run.Contender("dubcore", "f32", arguments(tmp_path), tmp_path)
    try:
        racer.hear()
        assert racer.turn() == (0.2, 3)
        status = Path(f"/proc/{racer.process.pid}/status").read_text()
        assert "State:\tT (stopped)" in status
        assert racer.peak() > 1e6
    finally:
        racer.end()


def test_an_arithmetic_that_the_engine_did_not_take_is_left_out_and_told(tmp_path):
    notes = []
    found = run.measure(TASK, arguments(tmp_path), tmp_path, lambda text, failed=False: notes.append((text, failed)))
    assert [(r["arithmetic"], r["seconds"], r["turns"]) for r in found] == [("f32", 0.2, 2)]
    assert [text.split(",")[0] for text, _ in notes] == [f"encoder: dubcore was asked for {kind}" for kind in ("bf16", "int8")]
    assert not any(failed for _, failed in notes)


def test_a_contender_that_fails_is_told_and_the_others_go_on(tmp_path):
    notes = []
    args = arguments(tmp_path, reply='{"error": "no such model"} if "bf16" in line else {**said, "arithmetic": "int8" if "int8" in line else "f32"}')
    found = run.measure(TASK, args, tmp_path, lambda text, failed=False: notes.append((text, failed)))
    assert [r["arithmetic"] for r in found] == ["f32", "int8"]
    assert notes == [("encoder: dubcore bf16 failed: no such model", True)]
    assert found[1]["same"] == "3 of 3 tokens"


def test_every_task_is_known_to_those_that_have_it(tmp_path):
    (tmp_path / "sentences.json").write_text("[]")
    (tmp_path / "voice.json").write_text("{}")
    (tmp_path / "latents.f32").write_bytes(bytes(4 * 192))
    tasks = list(run.tasks(tmp_path))
    assert len(tasks) == 12
    for name, _, what, _, libraries in tasks:
        assert libraries[0] == "dubcore", name
        for library in libraries[1:]:
            assert hasattr(contenders.LIBRARIES[library], what.replace("-", "_")), (name, library)
