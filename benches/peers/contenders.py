"""A contender: a process that loads one library's model and does a task as often as `run.py` tells it.

    python contenders.py LIBRARY

A line of JSON in, a line of JSON out, as in benches/src/serve.rs, which is dubcore's part: `load`, `run` and `answer`; the first
line out says that it is ready. A task is a function that loads and returns what runs it once; `run` gives the seconds and how much came out.
"""

import concurrent.futures
import ctypes
import json
import os
import sys
import sysconfig
import threading
import time
from pathlib import Path

import numpy as np

# The prompt of English without timestamps, by the numbers of the multilingual checkpoints.
PROMPT = [50258, 50259, 50359, 50363]


def floats(path):
    return np.fromfile(path, "<f4")


def timed(work):
    began = time.perf_counter()
    count = work()
    return time.perf_counter() - began, count


def at_once(requests, work):
    """The same request from several threads, until the last is served."""
    if requests == 1:
        return timed(work)
    start = threading.Barrier(requests + 1)

    def ask():
        start.wait()
        return work()

    with concurrent.futures.ThreadPoolExecutor(requests) as pool:
        asked = [pool.submit(ask) for _ in range(requests)]
        start.wait()
        return timed(lambda: sum(a.result() for a in asked))


def by_token(decode, tokens):
    """What a token takes more: `decode` does so many of them and gives them back."""
    (all, found), (first, _) = timed(lambda: decode(tokens)), timed(lambda: decode(1))
    return (all - first) / (len(found) - 1), len(found)


def shared(request):
    """How many requests are worked on at a time, and by how many threads each: all threads are used and none twice."""
    workers = min(request.get("requests", 1), request["threads"])
    return workers, request["threads"] // workers


class Task:
    """`run` gives (seconds, count); `answer` tokens, or values, or nothing; `about` what else is to be known."""

    def __init__(self, run, answer=lambda: None, about=""):
        self.run, self.answer, self.about = run, answer, about


class CTranslate2:
    """faster-whisper where it has the task, else CTranslate2 by itself."""

    def __init__(self):
        import ctranslate2
        import faster_whisper
        from faster_whisper.feature_extractor import FeatureExtractor

        self.library, self.hearing, self.extractor = ctranslate2, faster_whisper, FeatureExtractor

    def whisper(self, r):
        workers, threads = shared(r)
        kind = {"f32": "float32", "int8": "int8"}[r["arithmetic"]]
        folder = f"{r['folder']}/ct2-whisper-base-{r['arithmetic']}"
        return self.hearing.WhisperModel(folder, device="cpu", compute_type=kind, cpu_threads=threads, num_workers=workers)

    def log_mel(self, r):
        extract, sound = self.extractor(), floats(r["sound"])
        # It pads by a hop, which is a frame more.
        return Task(lambda: timed(lambda: len(extract(sound)) and 1), lambda: extract(sound)[:, :3000].T)

    def features(self, model, sound):
        return self.library.StorageView.from_array(np.ascontiguousarray(model.feature_extractor(sound)[None, :, :3000]))

    def encoder(self, r):
        model = self.whisper(r)
        features = self.features(model, floats(r["sound"]))
        encode = lambda: model.model.encode(features)
        return Task(lambda: timed(lambda: encode() and 1), lambda: np.array(encode()))

    def decode(self, model, encoded, tokens):
        # It takes half of `max_length`, or what the prompt leaves.
        options = {"beam_size": 1, "suppress_blank": False, "max_length": max(2 * tokens, len(PROMPT))}
        return model.model.generate(encoded, [PROMPT], **options)[0].sequences_ids[0]

    def decoder(self, r):
        model = self.whisper(r)
        encoded = model.model.encode(self.features(model, floats(r["sound"])))
        decode = lambda tokens: self.decode(model, encoded, tokens)
        return Task(lambda: by_token(decode, r["tokens"]), lambda: [decode(r["tokens"])])

    def window(self, r):
        """The steps of `WhisperModel.transcribe`, which cannot be told how many tokens to write."""
        model, sound = self.whisper(r), floats(r["sound"])

        def hear():
            encoded = model.model.encode(self.features(model, sound))
            return len(model.hf_tokenizer.decode(self.decode(model, encoded, r["tokens"])).split())

        return Task(lambda: at_once(r.get("requests", 1), hear))

    def translate(self, r):
        kind = {"f32": "float32", "int8": "int8"}[r["arithmetic"]]
        folder = f"{r['folder']}/ct2-opus-mt-en-es-{r['arithmetic']}"
        model = self.library.Translator(folder, device="cpu", compute_type=kind, intra_threads=r["threads"])
        options = {"beam_size": r["beams"], "max_decoding_length": r["tokens"], "min_decoding_length": r["tokens"]}
        pieces = [s["pieces"] for s in r["sentences"]]
        translate = lambda: [f.hypotheses[0] for f in model.translate_batch(pieces, **options)]
        return Task(lambda: timed(lambda: sum(map(len, translate()))), lambda: [spelled(f) for f in translate()])


class Transformers:
    """PyTorch's eager mode."""

    def __init__(self):
        import torch
        import transformers

        transformers.logging.set_verbosity_error()
        torch.set_grad_enabled(False)
        self.torch, self.transformers = torch, transformers

    def model(self, kind, name, r):
        _, threads = shared(r)
        self.torch.set_num_threads(threads)
        self.number = {"f32": self.torch.float32, "bf16": self.torch.bfloat16}[r["arithmetic"]]
        return kind.from_pretrained(f"{r['folder']}/{name}", dtype=self.number).eval()

    def whisper(self, r):
        model = self.model(self.transformers.WhisperForConditionalGeneration, "whisper-base", r)
        return model, self.extractor(r), floats(r["sound"])

    def extractor(self, r):
        extract = self.transformers.WhisperFeatureExtractor.from_pretrained(f"{r['folder']}/whisper-base")
        return lambda sound: extract(sound, sampling_rate=16_000, return_tensors="pt").input_features

    def log_mel(self, r):
        self.torch.set_num_threads(r["threads"])
        extract, sound = self.extractor(r), floats(r["sound"])
        return Task(lambda: timed(lambda: len(extract(sound))), lambda: extract(sound)[0].T.numpy())

    def encoder(self, r):
        model, extract, sound = self.whisper(r)
        features = extract(sound).to(self.number)
        encode = lambda: model.model.encoder(features).last_hidden_state
        return Task(lambda: timed(lambda: len(encode())), lambda: encode().float().numpy())

    def generate(self, model, tokens, **given):
        found = model.generate(
            **given, language="en", task="transcribe", return_timestamps=False, max_new_tokens=tokens, do_sample=False, num_beams=1
        )[0].tolist()
        return found[-tokens:]

    def decoder(self, r):
        model, extract, sound = self.whisper(r)
        encoded = model.model.encoder(extract(sound).to(self.number))
        decode = lambda tokens: self.generate(model, tokens, encoder_outputs=encoded)
        return Task(lambda: by_token(decode, r["tokens"]), lambda: [decode(r["tokens"])])

    def window(self, r):
        from tokenizers import Tokenizer

        model, extract, sound = self.whisper(r)
        tokenizer = Tokenizer.from_file(f"{r['folder']}/whisper-base/tokenizer.json")

        def hear():
            # A new thread has PyTorch's own idea of how many more it may have.
            self.torch.set_grad_enabled(False)
            tokens = self.generate(model, r["tokens"], input_features=extract(sound).to(self.number))
            return len(tokenizer.decode(tokens).split())

        return Task(lambda: at_once(r.get("requests", 1), hear))

    def translate(self, r):
        model = self.model(self.transformers.MarianMTModel, "opus-mt-en-es", r)
        given = self.torch.tensor([s["ids"] for s in r["sentences"]])
        names = {id: piece for piece, id in json.loads(Path(r["folder"], "opus-mt-en-es", "vocab.json").read_text()).items()}
        options = {"num_beams": r["beams"], "do_sample": False, "max_new_tokens": r["tokens"], "max_length": None}
        mask = self.torch.ones_like(given)
        translate = lambda: model.generate(given, attention_mask=mask, **options)[:, 1:].tolist()
        answer = lambda: [spelled([names[id] for id in f]) for f in translate()]
        return Task(lambda: timed(lambda: sum(map(len, translate()))), answer)

    def vocoder(self, r):
        model = self.model(self.transformers.VitsModel, "mms-tts-spa", r).decoder
        frames = self.torch.from_numpy(floats(r["latents"])).reshape(1, r["frames"], -1).transpose(1, 2).contiguous().to(self.number)
        return Task(lambda: timed(lambda: model(frames).numel()), lambda: model(frames).float().numpy())

    def voice(self, r):
        model = self.model(self.transformers.VitsModel, "mms-tts-spa", r)
        model.noise_scale = model.noise_scale_duration = 0.0
        ids = self.torch.tensor([r["ids"]])
        return Task(lambda: timed(lambda: model(ids).waveform.numel()), lambda: model(ids).waveform.float().numpy())


class OnnxRuntime:
    """The graph that PyTorch exports."""

    def __init__(self):
        import onnxruntime

        self.library = onnxruntime

    def session(self, name, r):
        options = self.library.SessionOptions()
        options.intra_op_num_threads = r["threads"]
        return self.library.InferenceSession(f"{r['folder']}/{name}.onnx", options, providers=["CPUExecutionProvider"])

    def of(self, name, given, r, count=lambda found: found.size):
        session = self.session(name, r)
        run = lambda: session.run(None, {"x": given})[0]
        return Task(lambda: timed(lambda: count(run())), run)

    def encoder(self, r):
        from faster_whisper.feature_extractor import FeatureExtractor

        features = FeatureExtractor()(floats(r["sound"]))[None, :, :3000]
        return self.of("encoder", np.ascontiguousarray(features, np.float32), r, len)

    def vocoder(self, r):
        return self.of("vocoder", np.ascontiguousarray(floats(r["latents"]).reshape(1, r["frames"], -1).transpose(0, 2, 1)), r)

    def voice(self, r):
        return self.of("voice", np.array([r["ids"]]), r)


class WhisperCpp:
    """By pywhispercpp, with flash attention; a context for each request that is worked on."""

    def __init__(self):
        # What was built here looks for its libraries where it was built, and not beside itself.
        for name in ("ggml-base", "ggml-cpu", "ggml", "whisper"):
            beside = Path(sysconfig.get_path("platlib"), f"lib{name}.so")
            if beside.exists():
                ctypes.CDLL(str(beside))
        import _pywhispercpp

        self.library = _pywhispercpp

    def contexts(self, count, r):
        options = self.library.whisper_context_default_params()
        options.use_gpu, options.flash_attn = False, True
        path = f"{r['folder']}/whisper-base-{r['arithmetic']}.bin"
        return [self.library.whisper_init_from_file_with_params(path, options) for _ in range(count)]

    def about(self):
        found = self.library.whisper_print_system_info().split("CPU :")[-1]
        return "with " + ", ".join(part.split("=")[0].strip() for part in found.split("|") if part.strip().endswith("= 1"))

    def log_mel(self, r):
        (context,), sound = self.contexts(1, r), floats(r["sound"])
        hear = lambda: self.library.whisper_pcm_to_mel(context, sound, len(sound), r["threads"]) or 1
        return Task(lambda: timed(hear), about=self.about())

    def heard(self, r):
        (context,), sound = self.contexts(1, r), floats(r["sound"])
        self.library.whisper_pcm_to_mel(context, sound, len(sound), r["threads"])
        return context

    def encoder(self, r):
        context = self.heard(r)
        return Task(lambda: timed(lambda: self.library.whisper_encode(context, 0, r["threads"]) or 1), about=self.about())

    def decoder(self, r):
        """Its step on tokens that are given: what it takes to choose one is left out."""
        context = self.heard(r)
        self.library.whisper_encode(context, 0, r["threads"])

        def decode(tokens):
            # The package hands over one token at a time.
            given = [*PROMPT, *range(1000, 999 + tokens)]
            for past, token in enumerate(given):
                self.library.whisper_decode(context, token, 1, past, r["threads"])
            return range(tokens)

        return Task(lambda: by_token(decode, r["tokens"]), about=f"tokens given, none chosen; {self.about()}")

    def window(self, r):
        library, sound = self.library, floats(r["sound"])
        workers, threads = shared(r)
        free = list(self.contexts(workers, r))
        idle = threading.Semaphore(workers)

        def options():
            found = library.whisper_full_default_params(library.whisper_sampling_strategy.WHISPER_SAMPLING_GREEDY)
            # It stops behind the token that is too many.
            wanted = dict(
                n_threads=threads, language="en", no_timestamps=True, single_segment=True, max_tokens=r["tokens"] - 1,
                temperature=0.0, temperature_inc=0.0, suppress_blank=False, no_context=True, print_progress=False,
                print_timestamps=False, greedy={"best_of": 1},
            )
            for name, value in wanted.items():
                setattr(found, name, value)
            return found

        def hear():
            with idle:
                context = free.pop()
                library.whisper_full(context, options(), sound, len(sound))
                segments = range(library.whisper_full_n_segments(context))
                tokens = [
                    library.whisper_full_get_token_id(context, s, t)
                    for s in segments
                    for t in range(library.whisper_full_n_tokens(context, s))
                ]
                free.append(context)
                return len(tokens)

        return Task(lambda: at_once(r.get("requests", 1), hear), about=self.about())


LIBRARIES = {"CTranslate2": CTranslate2, "transformers": Transformers, "onnxruntime": OnnxRuntime, "whisper.cpp": WhisperCpp}


def spelled(pieces):
    return [piece.replace("▁", "") for piece in pieces]


def main(name):
    # What a library prints must not come between the lines.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    say = lambda reply: print(json.dumps(reply), file=replies, flush=True)
    try:
        library = LIBRARIES[name]()
    except ImportError as e:
        say({"error": f"{e}: pip install -r benches/peers/requirements.txt"})
        return
    say({"ready": True})
    task = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "load":
                began = time.perf_counter()
                task = getattr(library, request["task"].replace("-", "_"))(request)
                reply = {"seconds": time.perf_counter() - began, "arithmetic": request["arithmetic"], "about": task.about}
            elif request["do"] == "run":
                reply = dict(zip(("seconds", "count"), task.run()))
            else:
                reply, found = {}, task.answer()
                if isinstance(found, list):
                    reply["tokens"] = found
                elif found is not None:
                    np.asarray(found, "<f4").tofile(request["file"])
                    reply["file"] = request["file"]
        except Exception as e:
            reply = {"error": f"{type(e).__name__}: {e}"}
        say(reply)


if __name__ == "__main__":
    main(sys.argv[1])
