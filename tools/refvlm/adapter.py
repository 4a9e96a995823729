"""The optional `vd_adapter`: a two-way transformer between REF and phrase tokens and the picture.

Behaves as meant rather than as the reference runs: the picture's tokens are the language model's hidden states at the
image positions (the reference reads zeros), each batch entry keeps its own rows.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


class MlpBlock(nn.Module):
    """lin1, activation, lin2."""

    def __init__(self, dim, hidden, act):
        super().__init__()
        self.lin1 = nn.Linear(dim, hidden)
        self.lin2 = nn.Linear(hidden, dim)
        self.act = act

    def forward(self, x):
        return self.lin2(self.act(self.lin1(x)))


class Attention(nn.Module):
    """Attention whose inner width is the model width over `rate`."""

    def __init__(self, dim, heads, rate=1):
        super().__init__()
        self.heads, inner = heads, dim // rate
        self.q_proj = nn.Linear(dim, inner)
        self.k_proj = nn.Linear(dim, inner)
        self.v_proj = nn.Linear(dim, inner)
        self.out_proj = nn.Linear(inner, dim)

    def forward(self, q, k, v):
        split = lambda t: t.view(*t.shape[:2], self.heads, -1).transpose(1, 2)
        q, k, v = split(self.q_proj(q)), split(self.k_proj(k)), split(self.v_proj(v))
        weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
        return self.out_proj((weights @ v).transpose(1, 2).flatten(2))


class TwoWayBlock(nn.Module):
    """Token self-attention, tokens to picture, MLP, picture to tokens. The first block adds no positions to the tokens
    and has no residual around its self-attention."""

    def __init__(self, dim, heads, ffn, first):
        super().__init__()
        self.first = first
        self.self_attn = Attention(dim, heads)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = Attention(dim, heads, 2)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MlpBlock(dim, ffn, F.relu)
        self.norm3 = nn.LayerNorm(dim)
        self.norm4 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = Attention(dim, heads, 2)

    def forward(self, tokens, keys, token_pos, key_pos):
        if self.first:
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            q = tokens + token_pos
            tokens = tokens + self.self_attn(q, q, tokens)
        tokens = self.norm1(tokens)
        k = keys + key_pos
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + token_pos, k, keys))
        tokens = self.norm3(tokens + self.mlp(tokens))
        keys = self.norm4(keys + self.cross_attn_image_to_token(k, tokens + token_pos, tokens))
        return tokens, keys


class TwoWayTransformer(nn.Module):
    """Blocks and a last attention from the tokens to the picture."""

    def __init__(self, depth, dim, heads, ffn):
        super().__init__()
        self.layers = nn.ModuleList(TwoWayBlock(dim, heads, ffn, i == 0) for i in range(depth))
        self.final_attn_token_to_image = Attention(dim, heads, 2)
        self.norm_final_attn = nn.LayerNorm(dim)

    def forward(self, keys, key_pos, points):
        tokens = points
        for layer in self.layers:
            tokens, keys = layer(tokens, keys, points, key_pos)
        y = self.final_attn_token_to_image(tokens + points, keys + key_pos, keys)
        return self.norm_final_attn(tokens + y), keys


class RandomPosition(nn.Module):
    """Position of a grid cell's centre through a stored Gaussian matrix, sine then cosine."""

    def __init__(self, half):
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, half))

    def forward(self, side):
        matrix = self.positional_encoding_gaussian_matrix
        line = (torch.arange(side, device=matrix.device, dtype=matrix.dtype) + 0.5) / side
        y, x = torch.meshgrid(line, line, indexing="ij")
        angle = 2 * math.pi * ((2 * torch.stack((x, y), -1) - 1) @ matrix)
        return torch.cat((angle.sin(), angle.cos()), -1).reshape(1, side * side, -1)


def token_positions(length, dim, dtype, device):
    """The fixed sine and cosine embedding of token positions (length, dim)."""
    angle = torch.arange(length, dtype=torch.float64)[:, None] * torch.exp(
        torch.arange(0, dim, 2, dtype=torch.float64) * (-math.log(10000.0) / dim)
    )
    return torch.stack((angle.sin(), angle.cos()), 2).flatten(1).to(device, dtype)


class VdAdapter(nn.Module):
    """`config` has the fields of VDAdapterConfig."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        dim, tokens = config["d_model"], config["ref_max_length"] + config["phrase_max_length"]
        self.in_proj_image = MlpBlock(config["d_input_image"], 8192, F.gelu)
        self.in_proj_text = MlpBlock(config["d_input_token"], 8192, F.gelu)
        self.pe_image = RandomPosition(dim // 2)
        self.text_embedding = nn.Embedding(tokens, dim)
        self.model = TwoWayTransformer(config["num_layers"], dim, config["n_heads"], config["d_ffn"])
        self.output_tokens = nn.Embedding(config["ref_max_length"], dim)

    def forward(self, image, phrases, refs):
        """One picture: image states (L, d_input_image), and per group the phrase states (p, d_input_token) and REF
        states (r, d_input_token), each cut to its maximum length. Gives REF latents (sum of r, d_model) in order and the
        picture's tokens (L, d_model), the mean over the groups."""
        c = self.config

        def padded(groups, length):
            return torch.stack([F.pad(g[:length], (0, 0, 0, max(0, length - len(g)))) for g in groups])

        tokens = torch.cat((padded(refs, c["ref_max_length"]), padded(phrases, c["phrase_max_length"])), 1)
        tokens = self.in_proj_text(tokens) + self.text_embedding.weight
        tokens = tokens + token_positions(tokens.shape[1], c["d_model"], tokens.dtype, tokens.device)
        side = int(len(image) ** 0.5)
        keys = self.in_proj_image(image)[None].expand(len(refs), -1, -1)
        tokens, keys = self.model(keys, self.pe_image(side), tokens)
        kept = [t[: min(len(r), c["ref_max_length"])] for t, r in zip(tokens, refs)]
        return torch.cat(kept), keys.mean(0)
