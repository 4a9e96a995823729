"""CLIP vision transformer with the tensor names of Hugging Face's CLIPVisionModel.

Input: normalised pixels (B, 3, S, S). Output: the list of hidden states, each (B, 1 + (S / patch)^2, hidden_size);
entry 0 is the embedding after `pre_layrnorm`, entry i the output of layer i. `post_layernorm` belongs to the pooled
output only and never touches the hidden states.
"""

import torch
import torch.nn.functional as F
from torch import nn

ACTIVATIONS = {
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "gelu": F.gelu,
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}


class ClipAttention(nn.Module):
    """Multi-head self-attention over all tokens."""

    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.q_proj = nn.Linear(dim, dim)
        self.out_proj = nn.Linear(dim, dim)

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = (f(x).view(b, n, self.heads, -1).transpose(1, 2) for f in (self.q_proj, self.k_proj, self.v_proj))
        # Written out: on CPU the backward pass of the fused operation takes three times as long.
        y = (q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)).softmax(-1) @ v
        return self.out_proj(y.transpose(1, 2).reshape(b, n, c))


class ClipMlp(nn.Module):
    """Two linear layers with the configured activation between."""

    def __init__(self, dim, hidden, act):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)
        self.act = ACTIVATIONS[act]

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


class ClipLayer(nn.Module):
    """Pre-norm transformer layer."""

    def __init__(self, c):
        super().__init__()
        dim, eps = c["hidden_size"], c.get("layer_norm_eps", 1e-5)
        self.self_attn = ClipAttention(dim, c["num_attention_heads"])
        self.layer_norm1 = nn.LayerNorm(dim, eps=eps)
        self.mlp = ClipMlp(dim, c["intermediate_size"], c.get("hidden_act", "quick_gelu"))
        self.layer_norm2 = nn.LayerNorm(dim, eps=eps)

    def forward(self, x):
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class ClipEmbeddings(nn.Module):
    """Patch, class and position embeddings."""

    def __init__(self, c):
        super().__init__()
        dim, patch = c["hidden_size"], c["patch_size"]
        self.class_embedding = nn.Parameter(torch.randn(dim) * 0.02)
        self.patch_embedding = nn.Conv2d(c.get("num_channels", 3), dim, patch, patch, bias=False)
        self.position_embedding = nn.Embedding((c["image_size"] // patch) ** 2 + 1, dim)

    def forward(self, pixels):
        x = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        cls = self.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
        return torch.cat([cls, x], 1) + self.position_embedding.weight


class ClipEncoder(nn.Module):
    """Holds the layers under the name `layers`."""

    def __init__(self, c):
        super().__init__()
        self.layers = nn.ModuleList(ClipLayer(c) for _ in range(c["num_hidden_layers"]))


class ClipTransformer(nn.Module):
    """Embeddings, pre-norm and layers."""

    def __init__(self, c):
        super().__init__()
        eps = c.get("layer_norm_eps", 1e-5)
        self.embeddings = ClipEmbeddings(c)
        self.pre_layrnorm = nn.LayerNorm(c["hidden_size"], eps=eps)
        self.encoder = ClipEncoder(c)
        self.post_layernorm = nn.LayerNorm(c["hidden_size"], eps=eps)

    def forward(self, pixels):
        x = self.pre_layrnorm(self.embeddings(pixels))
        states = [x]
        for layer in self.encoder.layers:
            x = layer(x)
            states.append(x)
        return states


class ClipVision(nn.Module):
    """The whole encoder under the name `vision_model`; `config` has the fields of HF's CLIPVisionConfig."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.vision_model = ClipTransformer(config)

    def forward(self, pixels):
        """Hidden states, embedding first."""
        return self.vision_model(pixels)
