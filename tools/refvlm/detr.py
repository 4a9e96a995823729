"""The DETR decoder of the heads: post-norm layers with the tensor names of transformers' DetrDecoder.

Queries (R, Q, d) attend to each other and to a memory (B, K, d). `rows` (R,) names the memory entry of every query row,
so that several answers about one picture share its keys and values; without it R = B.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


class DetrAttention(nn.Module):
    """Attention with separate projections; returns the output and the weights (R, heads, Q, K)."""

    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.q_proj = nn.Linear(dim, dim)
        self.out_proj = nn.Linear(dim, dim)

    def split(self, x):
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def forward(self, query, key, value, rows=None):
        q = self.split(self.q_proj(query))
        k, v = self.split(self.k_proj(key)), self.split(self.v_proj(value))
        if rows is not None:
            k, v = k[rows], v[rows]
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        weights = scores.softmax(-1)
        y = (weights.to(v.dtype) @ v).transpose(1, 2).flatten(2)
        return self.out_proj(y), weights


class DetrLayer(nn.Module):
    """Self-attention, cross-attention and a ReLU feed-forward block, each followed by residual and LayerNorm."""

    def __init__(self, dim, heads, ffn):
        super().__init__()
        self.self_attn = DetrAttention(dim, heads)
        self.self_attn_layer_norm = nn.LayerNorm(dim)
        self.encoder_attn = DetrAttention(dim, heads)
        self.encoder_attn_layer_norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, ffn)
        self.fc2 = nn.Linear(ffn, dim)
        self.final_layer_norm = nn.LayerNorm(dim)

    def forward(self, x, query_pos, memory, memory_pos, rows=None):
        q = x + query_pos
        x = self.self_attn_layer_norm(x + self.self_attn(q, q, x)[0])
        y, weights = self.encoder_attn(x + query_pos, memory + memory_pos, memory, rows)
        x = self.encoder_attn_layer_norm(x + y)
        x = self.final_layer_norm(x + self.fc2(F.relu(self.fc1(x))))
        return x, weights


class DetrDecoder(nn.Module):
    """All layers and the final norm. With `auxiliary_loss` the final norm also follows every layer."""

    def __init__(self, config):
        super().__init__()
        dim = config["d_model"]
        self.auxiliary_loss = config.get("auxiliary_loss", False)
        self.layers = nn.ModuleList(
            DetrLayer(dim, config["decoder_attention_heads"], config["decoder_ffn_dim"])
            for _ in range(config["decoder_layers"])
        )
        self.layernorm = nn.LayerNorm(dim)

    def forward(self, x, query_pos, memory, memory_pos, rows=None):
        """Final states (R, Q, d) and the cross-attention weights of every layer."""
        weights = []
        for layer in self.layers:
            x, w = layer(x, query_pos, memory, memory_pos, rows)
            weights.append(w)
            if self.auxiliary_loss:
                x = self.layernorm(x)
        return self.layernorm(x), weights


class MlpHead(nn.Module):
    """Three linear layers with ReLU between, under the name `layers`."""

    def __init__(self, dim, hidden, out, depth=3):
        super().__init__()
        dims = [dim] + [hidden] * (depth - 1) + [out]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(dims, dims[1:]))

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


_SINE = {}


def sine_position(height, width, dim, dtype, device):
    """Sine embedding (1, height * width, dim): y half then x half, sin and cos interleaved, normalised to 2 pi."""
    key = (height, width, dim, dtype, str(device))
    if key not in _SINE:
        half = dim // 2

        def axis(n):
            line = torch.arange(1, n + 1, dtype=torch.float64) / (n + 1e-6) * 2 * math.pi
            power = 2 * (torch.arange(half, dtype=torch.float64) // 2) / half
            angle = line[:, None] / 10000**power
            return torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), 2).flatten(1)

        y, x = axis(height), axis(width)
        grid = torch.cat((y[:, None].expand(-1, width, -1), x[None].expand(height, -1, -1)), 2)
        _SINE[key] = grid.reshape(1, height * width, 2 * half).to(device, dtype)
    return _SINE[key]
