"""Whisper in plain PyTorch, with the parameter names of transformers: the training needs windows of any length and few launches."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class Attention(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.heads = heads
        self.k_proj = nn.Linear(d, d, bias=False)
        self.v_proj, self.q_proj, self.out_proj = nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, d)

    def _heads(self, x):
        return x.view(x.size(0), x.size(1), self.heads, -1).transpose(1, 2)

    def forward(self, x, memory=None, causal=False, cache=None):
        """Over `memory` or over x itself. `cache`, a dict, keeps keys and values between calls."""
        if cache is not None and memory is not None and "k" in cache:
            k, v = cache["k"], cache["v"]
        else:
            source = x if memory is None else memory
            k, v = self._heads(self.k_proj(source)), self._heads(self.v_proj(source))
            if cache is not None:
                if memory is None and "k" in cache:
                    k, v = torch.cat([cache["k"], k], 2), torch.cat([cache["v"], v], 2)
                cache["k"], cache["v"] = k, v
        y = F.scaled_dot_product_attention(self._heads(self.q_proj(x)), k, v, is_causal=causal)
        return self.out_proj(y.transpose(1, 2).reshape(x.shape))


class Layer(nn.Module):
    def __init__(self, d, heads, cross, dropout):
        super().__init__()
        self.self_attn, self.self_attn_layer_norm = Attention(d, heads), nn.LayerNorm(d)
        if cross:
            self.encoder_attn, self.encoder_attn_layer_norm = Attention(d, heads), nn.LayerNorm(d)
        self.fc1, self.fc2, self.final_layer_norm = nn.Linear(d, 4 * d), nn.Linear(4 * d, d), nn.LayerNorm(d)
        self.dropout = dropout

    def _drop(self, x):
        return F.dropout(x, self.dropout, self.training)

    def forward(self, x, memory=None, causal=False, cache=None):
        own, cross = (None, None) if cache is None else (cache.setdefault("own", {}), cache.setdefault("cross", {}))
        x = x + self._drop(self.self_attn(self.self_attn_layer_norm(x), causal=causal, cache=own))
        if memory is not None:
            x = x + self._drop(self.encoder_attn(self.encoder_attn_layer_norm(x), memory, cache=cross))
        return x + self._drop(self.fc2(F.gelu(self.fc1(self.final_layer_norm(x)))))


class Encoder(nn.Module):
    def __init__(self, d, heads, layers, bands, frames, dropout):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv1d(bands, d, 3, padding=1), nn.Conv1d(d, d, 3, 2, padding=1)
        self.embed_positions = nn.Embedding(frames, d)
        self.embed_positions.weight.requires_grad_(False)
        self.layers = nn.ModuleList(Layer(d, heads, False, dropout) for _ in range(layers))
        self.layer_norm = nn.LayerNorm(d)

    def forward(self, x):
        """[batch, frames, bands] -> [batch, frames / 2, d]"""
        x = F.gelu(self.conv2(F.gelu(self.conv1(x.transpose(1, 2))))).transpose(1, 2)
        x = x + self.embed_positions.weight[: x.size(1)].to(x.dtype)
        for layer in self.layers:
            x = layer(x)
        return self.layer_norm(x)


class Decoder(nn.Module):
    def __init__(self, d, heads, layers, vocabulary, positions, dropout):
        super().__init__()
        self.embed_tokens, self.embed_positions = nn.Embedding(vocabulary, d), nn.Embedding(positions, d)
        self.layers = nn.ModuleList(Layer(d, heads, True, dropout) for _ in range(layers))
        self.layer_norm = nn.LayerNorm(d)

    def forward(self, ids, memory, at=0, caches=None):
        x = self.embed_tokens(ids) + self.embed_positions.weight[at : at + ids.size(1)]
        for i, layer in enumerate(self.layers):
            x = layer(x, memory, causal=ids.size(1) > 1, cache=None if caches is None else caches[i])
        return self.layer_norm(x)


class Whisper(nn.Module):
    def __init__(self, config, dropout=0.0):
        super().__init__()
        c = config
        self.encoder = Encoder(c["d_model"], c["encoder_attention_heads"], c["encoder_layers"], c["num_mel_bins"], c["max_source_positions"], dropout)
        self.decoder = Decoder(c["d_model"], c["decoder_attention_heads"], c["decoder_layers"], c["vocab_size"], c["max_target_positions"], dropout)

    def logits(self, hidden):
        return F.linear(hidden, self.decoder.embed_tokens.weight)

    @torch.no_grad()
    def greedy(self, mels, prefix, end, most=60):
        """Token ids after the prefix, one list per window."""
        memory = self.encoder(mels)
        caches = [{} for _ in self.decoder.layers]
        ids = torch.tensor(prefix, device=mels.device).repeat(len(mels), 1)
        done, out, at = torch.zeros(len(mels), dtype=torch.bool, device=mels.device), [], 0
        for _ in range(most):
            last = self.logits(self.decoder(ids, memory, at, caches)[:, -1]).argmax(-1)
            at += ids.size(1)
            last = torch.where(done, end, last)
            out.append(last)
            done = done | (last == end)
            ids = last[:, None]
            if done.all():
                break
        return [[t for t in row if t != end] for row in torch.stack(out, 1).tolist()]


def deepen(weights, layers):
    """Encoder weights for more layers: new ones, which pass their input on unchanged at first, spread among the old."""
    old = 1 + max(int(k.split(".")[2]) for k in weights if k.startswith("encoder.layers."))
    new = layers - old
    if new <= 0:
        return weights
    # a new layer follows every (old / new)-th one and starts as its copy with silent outputs
    after = {round((i + 1) * old / new) - 1 for i in range(new)}
    assert len(after) == new, "at most twice as many layers at a time"
    out = {k: v for k, v in weights.items() if not k.startswith("encoder.layers.")}
    at = 0
    for i in range(old):
        part = {k.split(".", 3)[3]: v for k, v in weights.items() if k.startswith(f"encoder.layers.{i}.")}
        out |= {f"encoder.layers.{at}.{k}": v for k, v in part.items()}
        at += 1
        if i in after:
            silent = {k: torch.zeros_like(v) if k.startswith(("self_attn.out_proj", "fc2")) else v.clone() for k, v in part.items()}
            out |= {f"encoder.layers.{at}.{k}": v for k, v in silent.items()}
            at += 1
    return out
