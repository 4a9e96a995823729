"""Llama-family language model with Hugging Face's tensor names; inputs are embeddings, as image features replace tokens."""

import torch
import torch.nn.functional as F
from torch import nn


class RmsNorm(nn.Module):
    """Root-mean-square norm with a weight, computed in f32 at least."""

    def __init__(self, dim, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x):
        y = x * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + self.eps).to(x.dtype)
        return y * self.weight.to(x.dtype)


def rotary(positions, head_dim, theta, dtype):
    """cos and sin (B, 1, L, head_dim) for integer positions (B, L)."""
    inverse = theta ** -(torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim)
    angle = positions[..., None].float() * inverse
    angle = torch.cat((angle, angle), -1)[:, None]
    return angle.cos().to(dtype), angle.sin().to(dtype)


def rotate(x, cos, sin):
    """Rotary embedding in the half-split layout."""
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin


class LlamaAttention(nn.Module):
    """Causal attention with grouped key and value heads; `cache` is a list [k, v] that grows in place."""

    def __init__(self, c):
        super().__init__()
        dim, self.heads = c["hidden_size"], c["num_attention_heads"]
        self.kv = c.get("num_key_value_heads") or self.heads
        self.head_dim = c.get("head_dim") or dim // self.heads
        self.q_proj = nn.Linear(dim, self.heads * self.head_dim, bias=False)
        self.k_proj = nn.Linear(dim, self.kv * self.head_dim, bias=False)
        self.v_proj = nn.Linear(dim, self.kv * self.head_dim, bias=False)
        self.o_proj = nn.Linear(self.heads * self.head_dim, dim, bias=False)

    def forward(self, x, rope, mask, cache=None):
        b, n, _ = x.shape
        q = rotate(self.q_proj(x).view(b, n, self.heads, -1).transpose(1, 2), *rope)
        k = rotate(self.k_proj(x).view(b, n, self.kv, -1).transpose(1, 2), *rope)
        v = self.v_proj(x).view(b, n, self.kv, -1).transpose(1, 2)
        if cache is not None:
            if cache:
                k, v = torch.cat((cache[0], k), 2), torch.cat((cache[1], v), 2)
            cache[:] = [k, v]
        if self.kv != self.heads:
            k, v = (t.repeat_interleave(self.heads // self.kv, 1) for t in (k, v))
        # Written out: on CPU the backward pass of the fused operation takes three times as long.
        scores = q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)
        y = scores.masked_fill_(~mask, -torch.inf).softmax(-1) @ v
        return self.o_proj(y.transpose(1, 2).reshape(b, n, -1))

    def packed(self, prefix, turns, rope_prefix, rope_turns, causal, batch):
        """Training path: `prefix` (B, P, d) is shared by the rows of `turns` (B * T, L, d), which do not see each other.
        `causal` (m, m) is a lower triangle of at least P and L."""
        size, p, length = len(turns) // batch, prefix.shape[1], turns.shape[1]

        def heads(x, rope):
            x = x.view(*x.shape[:2], -1, self.head_dim).transpose(1, 2)
            return x if rope is None else rotate(x, *rope)

        scale = self.head_dim**-0.5
        qp, kp = heads(self.q_proj(prefix), rope_prefix) * scale, heads(self.k_proj(prefix), rope_prefix)
        vp = heads(self.v_proj(prefix), None)
        qt, kt = heads(self.q_proj(turns), rope_turns) * scale, heads(self.k_proj(turns), rope_turns)
        vt = heads(self.v_proj(turns), None)
        if self.kv != self.heads:
            kp, vp, kt, vt = (t.repeat_interleave(self.heads // self.kv, 1) for t in (kp, vp, kt, vt))
        own = (qp @ kp.transpose(-1, -2) + causal[:p, :p]).softmax(-1) @ vp
        h = self.heads
        across = lambda x: x.view(batch, size, h, length, -1).transpose(1, 2).reshape(batch, h, size * length, -1)
        back = lambda x: x.view(batch, h, size, length, -1).transpose(1, 2).reshape(batch * size, h, length, -1)
        to_prefix = back(across(qt) @ kp.transpose(-1, -2))
        within = qt @ kt.transpose(-1, -2) + causal[:length, :length]
        weights = torch.cat((to_prefix, within), -1).softmax(-1)
        on_prefix, on_turn = weights.split((p, length), -1)
        y = back(across(on_prefix) @ vp) + on_turn @ vt
        join = lambda x: self.o_proj(x.transpose(1, 2).flatten(2))
        return join(own), join(y)


class LlamaMlp(nn.Module):
    """SwiGLU."""

    def __init__(self, c):
        super().__init__()
        dim, hidden = c["hidden_size"], c["intermediate_size"]
        self.gate_proj = nn.Linear(dim, hidden, bias=False)
        self.up_proj = nn.Linear(dim, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, dim, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class LlamaLayer(nn.Module):
    """Pre-norm attention and MLP with residuals."""

    def __init__(self, c):
        super().__init__()
        dim, eps = c["hidden_size"], c["rms_norm_eps"]
        self.self_attn = LlamaAttention(c)
        self.mlp = LlamaMlp(c)
        self.input_layernorm = RmsNorm(dim, eps)
        self.post_attention_layernorm = RmsNorm(dim, eps)

    def forward(self, x, rope, mask, cache=None):
        x = x + self.self_attn(self.input_layernorm(x), rope, mask, cache)
        return x + self.mlp(self.post_attention_layernorm(x))

    def packed(self, prefix, turns, *rest):
        """As `forward`, for a prefix shared by several turns."""
        a, b = self.self_attn.packed(self.input_layernorm(prefix), self.input_layernorm(turns), *rest)
        prefix, turns = prefix + a, turns + b
        mlp = lambda x: x + self.mlp(self.post_attention_layernorm(x))
        return mlp(prefix), mlp(turns)


class LlamaModel(nn.Module):
    """Token embedding, layers and the final norm."""

    def __init__(self, c):
        super().__init__()
        self.embed_tokens = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.layers = nn.ModuleList(LlamaLayer(c) for _ in range(c["num_hidden_layers"]))
        self.norm = RmsNorm(c["hidden_size"], c["rms_norm_eps"])


class Llama(nn.Module):
    """`config` has the fields of HF's LlamaConfig; with `tie_word_embeddings` no `lm_head` tensor exists."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.model = LlamaModel(config)
        self.lm_head = None
        if not config.get("tie_word_embeddings", False):
            self.lm_head = nn.Linear(config["hidden_size"], config["vocab_size"], bias=False)

    def embed(self, ids):
        """Token embeddings."""
        return self.model.embed_tokens(ids)

    def forward(self, x, positions, mask, caches=None):
        """Post-norm hidden states of embeddings x (B, L, d) at `positions` (B, L); mask (B, 1, L, K) is True where
        attention is allowed; `caches` holds one list per layer."""
        c = self.config
        head_dim = self.model.layers[0].self_attn.head_dim
        rope = rotary(positions, head_dim, c.get("rope_theta", 10000.0), x.dtype)
        for i, layer in enumerate(self.model.layers):
            x = layer(x, rope, mask, None if caches is None else caches[i])
        return self.model.norm(x)

    def packed(self, prefix, turns):
        """Post-norm hidden states (B * T, L, d) of turns that follow the prefix (B, P, d) of their picture."""
        b, p, _ = prefix.shape
        length = turns.shape[1]
        head_dim, theta = self.model.layers[0].self_attn.head_dim, self.config.get("rope_theta", 10000.0)
        places = torch.arange(p + length, device=prefix.device)[None]
        dtype = torch.bfloat16 if torch.is_autocast_enabled(prefix.device.type) else prefix.dtype
        cos, sin = rotary(places, head_dim, theta, dtype)
        causal = torch.full((max(p, length),) * 2, -1e4, device=prefix.device, dtype=dtype).triu(1)
        ropes = (cos[:, :, :p], sin[:, :, :p]), (cos[:, :, p:], sin[:, :, p:])
        for layer in self.model.layers:
            prefix, turns = layer.packed(prefix, turns, *ropes, causal, b)
        return self.model.norm(turns)

    def logits(self, hidden):
        """Vocabulary logits."""
        weight = self.model.embed_tokens.weight if self.lm_head is None else self.lm_head.weight
        return F.linear(hidden, weight)
