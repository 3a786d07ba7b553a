"""VITS with random weights: both duration predictors, one and several speakers, both spellings of weight norm.

The noise that the reference would draw is drawn here and stored, so that the noisy paths can be compared too. Weights are
scaled after a first run so that durations vary, stay off the integers where ceil() jumps, and the sound has some level.
"""

import itertools
import json
import math
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from safetensors.torch import load_file, save_file
from transformers import VitsConfig, VitsModel, VitsTokenizer

from common import MARGIN, case_dir, randomise, rounded, write_json, write_tensors

NOISE, NOISE_DURATION, RATE = 0.667, 0.8, 1.3
TEXT, SHORT = "hola, mi niño: ¿qué tal?", "sí, ya voy"
TEXTS = [
    TEXT,
    "HOLA MUNDO, ÁRBOL Y ÑU",
    "Tengo 12 años… «¡qué bien!» — dijo Kevin",
    "  dos   espacios\ty\nuna línea  ",
    "e\u0301l vio el ﬁn 火 😀",
    "guion_bajo",
    "",
    "!!!",
]
SHARED = dict(
    hidden_size=24, num_hidden_layers=2, num_attention_heads=2, ffn_dim=40, flow_size=16, spectrogram_bins=5,
    posterior_encoder_num_wavenet_layers=1, prior_encoder_num_flows=2, prior_encoder_num_wavenet_layers=2,
    duration_predictor_num_flows=3, duration_predictor_filter_channels=24, depth_separable_num_layers=2,
    upsample_initial_channel=24, sampling_rate=16_000, noise_scale=NOISE, noise_scale_duration=NOISE_DURATION,
)


@dataclass
class Case:
    name: str
    dtype: torch.dtype
    config: dict
    legacy: bool = False
    batch: bool = False
    tokenizer: dict = field(default_factory=dict)


CASES = [
    Case("deterministic", torch.float32, dict(
        use_stochastic_duration_prediction=False, window_size=4, upsample_rates=[4, 4], upsample_kernel_sizes=[8, 8],
        resblock_kernel_sizes=[3, 7], resblock_dilation_sizes=[[1, 3], [1, 2, 5]], wavenet_dilation_rate=2,
    ), legacy=True, batch=True),
    Case("stochastic", torch.float16, dict(
        window_size=2, upsample_rates=[4, 2, 2], upsample_kernel_sizes=[8, 4, 4], resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1, 3, 5]], prior_encoder_num_wavenet_layers=3, hidden_act="gelu",
    ), tokenizer={"normalize": False}),
    Case("deterministic-speakers", torch.bfloat16, dict(
        use_stochastic_duration_prediction=False, num_speakers=4, speaker_embedding_size=8, window_size=3,
        upsample_rates=[5, 3], upsample_kernel_sizes=[11, 5], resblock_kernel_sizes=[3, 5], ffn_kernel_size=5,
        resblock_dilation_sizes=[[1, 3], [1, 3]], leaky_relu_slope=0.2, use_bias=False, wavenet_kernel_size=3,
    ), tokenizer={"add_blank": False}),
    Case("stochastic-speakers", torch.float32, dict(
        num_speakers=4, speaker_embedding_size=8, window_size=4, num_attention_heads=4, upsample_rates=[8, 2],
        upsample_kernel_sizes=[16, 4], resblock_kernel_sizes=[3, 5], resblock_dilation_sizes=[[1, 3], [1, 3]],
        depth_separable_num_layers=3, duration_predictor_flow_bins=6, duration_predictor_tail_bound=4.0,
    ), batch=True),
]


def build_tokenizer(case, path):
    # An upper-case letter in the vocabulary is kept as it is, while the others are lowered first.
    characters = ["_", *" abcdefghijklmnopqrstuvwxyzáéíóúüñ.,:?!¿¡'-K", "<unk>"]
    (path / "vocab.json").write_text(json.dumps({c: i for i, c in enumerate(characters)}, ensure_ascii=False, indent=0))
    (path / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "VitsTokenizer", "add_blank": True, "normalize": True, "is_uroman": False, "phonemize": False,
        "language": "spa", "pad_token": "_", "unk_token": "<unk>", **case.tokenizer,
    }, indent=1))
    return VitsTokenizer.from_pretrained(path), len(characters)


@contextmanager
def drawn(seed):
    """Replaces the two draws of the reference, and keeps what they gave."""
    rng, kept = torch.Generator().manual_seed(seed), {}
    randn, randn_like = torch.randn, torch.randn_like

    def duration(*size):
        kept["noise_duration"] = randn(*size, generator=rng)
        return kept["noise_duration"]

    def prior(like):
        kept["noise_prior"] = randn(like.shape, generator=rng)
        return kept["noise_prior"]

    torch.randn, torch.randn_like = duration, prior
    try:
        yield kept
    finally:
        torch.randn, torch.randn_like = randn, randn_like


def speak(model, ids, noise=False, **options):
    """One run, with what happens inside, and how far the durations keep from where ceil() jumps."""
    model.noise_scale, model.noise_scale_duration = (NOISE, NOISE_DURATION) if noise else (0.0, 0.0)
    if model.config.num_speakers > 1:
        options.setdefault("speaker_id", 0)
    inside = {}
    hook = model.duration_predictor.register_forward_hook(lambda _m, _i, out: inside.update(log_duration=out))
    text = model.text_encoder.register_forward_hook(lambda _m, _i, out: inside.update(text=out))
    with drawn(11) as kept:
        out = model(ids, **options)
    hook.remove()
    text.remove()
    mask = options.get("attention_mask", torch.ones_like(ids))
    exact = torch.exp(inside["log_duration"][:, 0]) * mask / options.get("speaking_rate", 1.0)
    margin = (exact - exact.round()).abs()[mask.bool()].min().item()
    return {**inside, **kept, "durations": exact.ceil(), "margin": margin, "waveform": out.waveform,
            "spectrogram": out.spectrogram, "lengths": out.sequence_lengths}


def build_model(case, vocab, ids, seed):
    model = VitsModel(VitsConfig(vocab_size=vocab, pad_token_id=0, **{**SHARED, **case.config})).eval()
    randomise(model, seed, gain=1.2, embedding=0.3, emb_rel=0.5, translate=0.3, log_scale=0.2, original0=1.0,
              embed_speaker=1.0)
    predictor = model.duration_predictor
    if case.config.get("use_stochastic_duration_prediction", True):
        # The splines see these projections divided by the root of the width.
        for flow in list(predictor.flows)[1:]:
            flow.conv_proj.weight.mul_(6.0)
    # Durations spread around two frames, whatever the weights made of them.
    log = speak(model, ids)["log_duration"]
    shrink = log.std().item() / 0.6
    if case.config.get("use_stochastic_duration_prediction", True):
        affine = predictor.flows[0]
        scale, shift = affine.log_scale[0].exp().item(), affine.translate[0].item()
        mean = log.mean().item() * scale + shift
        affine.log_scale[0] += math.log(shrink)
        affine.translate[0] = mean - math.log(2.0) * scale * shrink
    else:
        predictor.proj.weight.div_(shrink)
        predictor.proj.bias.copy_((predictor.proj.bias - log.mean()) / shrink + math.log(2.0))
    level = torch.atanh(speak(model, ids)["waveform"].clamp(-0.999999, 0.999999)).square().mean().sqrt()
    model.decoder.conv_post.weight.mul_(0.4 / level)
    return rounded(model, case.dtype)


def runs(model, ids):
    """All that is compared; the same for the search and for the record."""
    found = {
        "silent": speak(model, ids),
        "noise": speak(model, ids, noise=True),
        "rate": speak(model, ids, speaking_rate=RATE),
    }
    if model.config.num_speakers > 1:
        found["speaker3"] = speak(model, ids, speaker_id=3)
    return found


def search(case, vocab, ids, short):
    for seed in itertools.count():
        model = build_model(case, vocab, ids, seed)
        found = [*runs(model, ids).values(), speak(model, short)]
        durations = found[0]["durations"]
        level = found[0]["waveform"].std().item()
        if (
            min(f["margin"] for f in found) >= MARGIN and len(durations.unique()) >= 4
            and all(f["durations"].sum() < 160 for f in found) and 0.1 < level < 0.6
        ):
            return model, seed


def rename_weight_norm(path):
    """To the names of checkpoints from before torch's parametrizations."""
    names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    tensors = {}
    for name, tensor in load_file(path).items():
        for new, old in names.items():
            name = name.replace(new, old)
        tensors[name] = tensor
    save_file(tensors, path, metadata={"format": "pt"})


def write_case(case):
    path = case_dir("vits", case.name)
    tokenizer, vocab = build_tokenizer(case, path)
    ids, short = (torch.tensor([tokenizer(t).input_ids]) for t in (TEXT, SHORT))
    built, seed = search(case, vocab, ids, short)
    before = speak(built, ids)["waveform"]
    built.noise_scale, built.noise_scale_duration = NOISE, NOISE_DURATION
    built.to(case.dtype).save_pretrained(path)
    if case.legacy:
        rename_weight_norm(path / "model.safetensors")
    model = VitsModel.from_pretrained(path, dtype=torch.float32).eval()

    found = runs(model, ids)
    silent, noise = found["silent"], found["noise"]
    assert torch.allclose(silent["waveform"], before, atol=1e-5), "what was saved is not what was built"
    margins = {name: f["margin"] for name, f in found.items()}
    tensors = {
        "input_ids": ids,
        "text_hidden": silent["text"].last_hidden_state,
        "prior_means": silent["text"].prior_means,
        "prior_log_variances": silent["text"].prior_log_variances,
        "log_duration": silent["log_duration"],
        "durations": silent["durations"],
        "spectrogram_silent": silent["spectrogram"],
        "waveform_silent": silent["waveform"],
        "noise_prior": noise["noise_prior"],
        "durations_noise": noise["durations"],
        "waveform_noise": noise["waveform"],
        "durations_rate": found["rate"]["durations"],
        "waveform_rate": found["rate"]["waveform"],
    }
    if "noise_duration" in noise:
        tensors["noise_duration"] = noise["noise_duration"]
    if "speaker3" in found:
        tensors["durations_speaker3"] = found["speaker3"]["durations"]
        tensors["waveform_speaker3"] = found["speaker3"]["waveform"]
    if case.batch:
        batch = torch.nn.functional.pad(short, (0, ids.shape[1] - short.shape[1]))
        batch = torch.cat([ids, batch])
        mask = torch.ones_like(batch)
        mask[1, short.shape[1]:] = 0
        both, alone = speak(model, batch, attention_mask=mask), speak(model, short)
        margins["short"] = alone["margin"]
        assert torch.equal(both["durations"][1, : short.shape[1]], alone["durations"][0])
        tensors |= {
            "batch.input_ids": batch, "batch.attention_mask": mask, "batch.text_hidden": both["text"].last_hidden_state,
            "batch.durations": both["durations"], "batch.waveform_silent": both["waveform"],
            "batch.lengths": both["lengths"], "short.waveform_silent": alone["waveform"],
        }
    assert min(margins.values()) >= MARGIN, "choose another seed"
    write_tensors(path / "expected.safetensors", tensors)
    write_json(path / "expected.json", {
        "note": "Speaker 0 where nothing else is said. Silent means both noise scales 0. The end of batch.waveform_silent "
                "row 1 differs from short.waveform_silent, as the reference's vocoder runs on into the padding.",
        "seed": seed,
        "noise_scale": NOISE,
        "noise_scale_duration": NOISE_DURATION,
        "speaking_rate": RATE,
        "duration_margins": margins,
        "texts": [{"text": t, "input_ids": tokenizer(t).input_ids} for t in TEXTS],
    })


def generate(_micro):
    for case in CASES:
        write_case(case)
