"""Visual prompts and projector: the reference's VPTEncoder and ProjectorModel (tensor names under `model`).

A region is a boolean mask on the feature grid, (P, side, side); prompts of several pictures are handled as a flat list
with `rows` (P,) naming the picture of each.
"""

import torch
import torch.nn.functional as F
from torch import nn

from .vision import ACTIVATIONS


class VptModel(nn.Module):
    """Holds the tensors of the prompt encoder under the reference's names."""

    def __init__(self, c):
        super().__init__()
        dim, tokens = c["visual_hidden_size"], c["num_patches"]
        if c["strategy"] == "embedding":
            self.patch_embedding = nn.Conv2d(dim, dim, c["patch_size"], c["patch_size"], bias=False)
        if c.get("use_mask_token", False):
            tokens += 1
            self.mask_embedding = nn.Linear(1, dim)
        self.position_embedding = nn.Embedding(tokens, dim)


class VptEncoder(nn.Module):
    """Mask-guided aggregation; `config` has the fields of VPTEncoderConfig."""

    def __init__(self, config):
        super().__init__()
        if config["strategy"] not in ("pooling", "embedding"):
            raise ValueError(f"vpt_encoder.strategy: unknown {config['strategy']!r}")
        self.config = config
        self.model = VptModel(config)

    @property
    def tokens(self):
        """Tokens per prompt."""
        return self.model.position_embedding.num_embeddings

    def forward(self, features, regions, rows):
        """Features (B, L, C) of a square grid and regions (P, side, side) to prompt tokens (P, tokens, C)."""
        c, patches = self.config, self.config["num_patches"]
        b, length, dim = features.shape
        side, div = int(length**0.5), int(patches**0.5)
        masks = regions.to(features.dtype)
        masks = masks / (masks.sum((-1, -2), keepdim=True) + 1e-8)
        plane = features.transpose(1, 2).reshape(b, dim, side, side)[rows]
        if c["strategy"] == "pooling":
            if side % div:
                raise ValueError(f"vpt_encoder: grid side {side} is not divisible by {div} (num_patches {patches})")
            runs = plane.reshape(-1, dim, patches, length // patches)
            tokens = torch.einsum("pcnk,pnk->pnc", runs, masks.reshape(-1, patches, length // patches))
        else:
            tokens = self.model.patch_embedding(plane * masks[:, None]).flatten(2).transpose(1, 2)
        if c.get("use_mask_token", False):
            mean = self.model.mask_embedding(masks.flatten(1)[..., None]).mean(1, keepdim=True)
            tokens = torch.cat((tokens, mean.to(tokens.dtype)), 1)
        return tokens + self.model.position_embedding.weight


def resize_region(mask, side):
    """The reference's resize: 0/1 mask (P, H, W) bilinear to the grid, then > 0."""
    return F.interpolate(mask[:, None].float(), (side, side), mode="bilinear", align_corners=False)[:, 0] > 0


class Projector(nn.Module):
    """Linear layers with the configured activation between, under the name `model`."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        act = ACTIVATIONS[config.get("hidden_act", "gelu")]
        bias = config.get("bias", True)
        layers = [nn.Linear(config["visual_hidden_size"], config["llm_hidden_size"], bias=bias)]
        for _ in range(1, config.get("depth", 2)):
            layers += [Activation(act), nn.Linear(config["llm_hidden_size"], config["llm_hidden_size"], bias=bias)]
        self.model = nn.Sequential(*layers)

    def forward(self, x):
        return self.model(x)


class Activation(nn.Module):
    """An activation function as a module, so that indices in a Sequential match the reference's."""

    def __init__(self, act):
        super().__init__()
        self.act = act

    def forward(self, x):
        return self.act(x)
