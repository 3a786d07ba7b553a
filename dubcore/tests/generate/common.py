"""What the fixture groups share: random weights, synthetic sound, files, and the margins of a decision.

A fixture is only worth committing if a correct implementation reproduces its token sequences exactly, although its sums
round differently. So every choice a decoder makes must be decided by more than MARGIN; the classes below measure that,
and the groups search over seeds until it holds.
"""

import json
import math
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import GenerationMixin, LogitsProcessor, logging

TESTS = Path(__file__).resolve().parent.parent
FIXTURES = TESTS / "fixtures"
MICRO = TESTS.parent.parent / "models" / "micro"
RATE = 16_000
MARGIN = 1e-3

logging.set_verbosity_error()
logging.disable_progress_bar()
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
torch.set_grad_enabled(False)


def case_dir(group, *names):
    path = FIXTURES.joinpath(group, *names)
    path.mkdir(parents=True, exist_ok=True)
    return path


def write_tensors(path, tensors):
    # Clones, because views into one storage cannot be saved.
    save_file({name: torch.as_tensor(t).detach().clone().contiguous() for name, t in tensors.items()}, path)


def write_json(path, record):
    """One key a line: a changed expectation shows as a short diff."""
    lines = (f"  {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in record.items())
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def randomise(model, seed, gain=1.0, embedding=0.5, bias=0.1, **overrides):
    """Fills every parameter so that no layer is close to the identity and no bias or norm is left at its default.

    `overrides` maps a part of a parameter's name to its own standard deviation.
    """
    rng = torch.Generator().manual_seed(seed)
    for name, p in sorted(model.named_parameters()):
        noise = torch.randn(p.shape, generator=rng)
        own = next((std for part, std in overrides.items() if part in name), None)
        if own is not None:
            p.copy_(noise * own)
        elif "norm" in name:
            p.copy_(noise * 0.2 + (1.0 if name.endswith("weight") else 0.0))
        elif p.dim() < 2:
            p.copy_(noise * bias)
        elif "embed" in name or "lm_head" in name or "shared" in name:
            p.copy_(noise * embedding)
        else:
            p.copy_(noise * gain / math.sqrt(p[0].numel()))
    return model


def rounded(model, dtype):
    """The f32 model whose weights are what a file of this dtype will hold."""
    return model.to(dtype).float().eval()


def lookahead(values, floor=-1e8):
    """Smallest gap between neighbours in rows sorted downwards, leaving out what is masked."""
    gaps = (values[..., :-1] - values[..., 1:])[values[..., 1:] > floor]
    return gaps.min().item() if gaps.numel() else math.inf


class GreedyMargin(LogitsProcessor):
    """Appended behind all other processors, it sees what argmax sees."""

    def __init__(self, end):
        self.end, self.least = end, math.inf

    def __call__(self, input_ids, scores):
        # The first token may be the end token itself: some models start from it.
        running = [i for i, row in enumerate(input_ids.tolist()) if self.end not in row[1:]]
        if running:
            self.least = min(self.least, lookahead(scores[running].topk(2).values))
        return scores


class BeamMargin:
    """The narrowest of all comparisons a beam search makes for rows that are still open."""

    def __init__(self):
        self.least, self.open = math.inf, None

    def note(self, gap):
        self.least = min(self.least, gap)


@contextmanager
def beam_margin():
    watch = BeamMargin()
    names = ("_get_top_k_continuations", "_update_finished_beams", "_check_early_stop_heuristic")
    originals = {name: GenerationMixin.__dict__[name] for name in names}
    top_k, update = originals[names[0]], originals[names[1]]
    heuristic = originals[names[2]].__func__

    def watched_top_k(self, *, accumulated_log_probs, num_beams, **rest):
        # Order inside the beam decides nothing; what is in it does, and what ends a hypothesis in its upper half.
        vocab = accumulated_log_probs.shape[-1] // num_beams
        best, index = accumulated_log_probs.topk(4 * num_beams)
        ends = index % vocab == self.config.eos_token_id
        for row in range(len(best)) if watch.open is None else watch.open.nonzero()[:, 0].tolist():
            alive = best[row][~ends[row]]
            watch.note(lookahead(alive[num_beams - 1 : num_beams + 1]))
            if ends[row, : 2 * num_beams].any():
                watch.note(lookahead(best[row, num_beams - 1 : num_beams + 1]))
        return top_k(self, accumulated_log_probs=accumulated_log_probs, num_beams=num_beams, **rest)

    def watched_update(self, **kwargs):
        result = update(self, **kwargs)
        watch.note(lookahead(result[1]))
        return result

    def watched_heuristic(**k):
        length = k["cur_len"] - k["decoder_prompt_len"]
        best = k["running_beam_scores"][:, :1] / length ** k["length_penalty"]
        worst = k["beam_scores"].min(dim=1, keepdim=True)[0]
        full = k["is_sent_finished"].all(dim=1, keepdim=True) & k["is_early_stop_heuristic_unsatisfied"]
        if full.any():
            watch.note((best - worst).abs()[full].min().item())
        unsatisfied = heuristic(**k)
        watch.open = unsatisfied[:, 0]
        return unsatisfied

    GenerationMixin._get_top_k_continuations = watched_top_k
    GenerationMixin._update_finished_beams = watched_update
    GenerationMixin._check_early_stop_heuristic = staticmethod(watched_heuristic)
    try:
        yield watch
    finally:
        for name, original in originals.items():
            setattr(GenerationMixin, name, original)


def until(row, stop):
    """A row up to and with its first stop token."""
    row = list(row)
    return row[: row.index(stop) + 1] if stop in row else row


def chirp(seconds, low, high, level=0.4):
    t = np.arange(int(seconds * RATE)) / RATE
    phase = 2 * np.pi * (low * t + (high - low) * t * t / (2 * seconds))
    return (level * (np.sin(phase) + 0.4 * np.sin(2 * phase) + 0.2 * np.sin(3 * phase)) / 1.6).astype(np.float32)


def tones(seconds, pitches, level=0.4):
    t = np.arange(int(seconds * RATE)) / RATE
    swell = 0.6 + 0.4 * np.sin(2 * np.pi * 3.0 * t)
    return (level * swell * sum(np.sin(2 * np.pi * p * t) for p in pitches) / len(pitches)).astype(np.float32)


def bursts(seconds, seed, level=0.3):
    t = np.arange(int(seconds * RATE)) / RATE
    noise = np.random.default_rng(seed).standard_normal(len(t))
    return (level * noise * (np.sin(2 * np.pi * 5.0 * t) > 0)).clip(-1, 1).astype(np.float32)
