"""Puts trained weights into a model folder in Hugging Face layout.

    python export.py --weights stt.safetensors --from ../micro/stt-en --out DIR

Everything but the weights and the numbers of layers is the old folder's.
"""

import argparse
import json
import os
import shutil

from safetensors.torch import load_file, save_file

import around


def layers(weights, side):
    """How many layers the encoder or the decoder has."""
    return 1 + max(int(k.split(".")[3]) for k in weights if k.startswith(f"model.{side}.layers."))


def publish(weights, source, out):
    """The folder `source` with other weights, and without its card."""
    os.makedirs(out, exist_ok=True)
    for name in os.listdir(source):
        if name not in ("model.safetensors", "README.md"):
            shutil.copy(f"{source}/{name}", f"{out}/{name}")
    save_file(around.halves(weights), f"{out}/model.safetensors", metadata={"format": "pt"})
    for name in os.listdir(out):
        os.chmod(f"{out}/{name}", 0o644)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--weights", required=True)
    a.add_argument("--from", dest="source", required=True)
    a.add_argument("--out", required=True)
    a = a.parse_args()
    weights = load_file(a.weights)
    publish(weights, a.source, a.out)
    config = json.load(open(f"{a.out}/config.json"))
    config |= {"encoder_layers": layers(weights, "encoder"), "num_hidden_layers": layers(weights, "encoder"), "decoder_layers": layers(weights, "decoder")}
    json.dump(config, open(f"{a.out}/config.json", "w"), indent=1)
    if config["model_type"] == "whisper":
        generation = json.load(open(f"{a.out}/generation_config.json"))
        generation["alignment_heads"] = [[config["decoder_layers"] - 1, h] for h in range(config["decoder_attention_heads"])]
        json.dump(generation, open(f"{a.out}/generation_config.json", "w"), indent=1)
    print(f"{sum(v.numel() for v in weights.values()) / 1e6:.2f} M numbers, {os.path.getsize(a.out + '/model.safetensors') / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
