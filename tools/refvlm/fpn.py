"""The pixel decoder of mask and depth head: MaskFormer's feature pyramid with its tensor names."""

import torch.nn.functional as F
from torch import nn


class GroupNorm(nn.GroupNorm):
    """32 groups, on contiguous maps: on CPU the backward pass in bf16 takes eight times as long with channels last."""

    def __init__(self, dim):
        super().__init__(32, dim)

    def forward(self, x):
        return super().forward(x.contiguous())


def conv_block(dim_in, dim_out):
    """3x3 convolution without bias, norm, ReLU."""
    return nn.Sequential(nn.Conv2d(dim_in, dim_out, 3, padding=1, bias=False), GroupNorm(dim_out), nn.ReLU())


class FpnLayer(nn.Module):
    """Lateral 1x1 projection with norm, added to the coarser map resized by nearest neighbour, then a 3x3 block."""

    def __init__(self, feature_size, lateral):
        super().__init__()
        self.proj = nn.Sequential(nn.Conv2d(lateral, feature_size, 1, bias=False), GroupNorm(feature_size))
        self.block = conv_block(feature_size, feature_size)

    def forward(self, down, left):
        left = self.proj(left)
        if down.shape[-2:] != left.shape[-2:]:
            down = F.interpolate(down, left.shape[-2:], mode="nearest")
        return self.block(down + left)


class Fpn(nn.Module):
    """Stem on the deepest map, then one layer per finer map, deepest first."""

    def __init__(self, dims, feature_size):
        super().__init__()
        self.stem = conv_block(dims[-1], feature_size)
        self.layers = nn.ModuleList(FpnLayer(feature_size, d) for d in reversed(dims[:-1]))

    def forward(self, maps):
        x = self.stem(maps[-1])
        for layer, left in zip(self.layers, reversed(maps[:-1])):
            x = layer(x, left)
        return x


class PixelDecoder(nn.Module):
    """Pyramid and a last 3x3 projection: maps, finest first, to pixel embeddings (B, c, h, w) of the first map's size."""

    def __init__(self, dims, feature_size, mask_feature_size):
        super().__init__()
        self.fpn = Fpn(dims, feature_size)
        self.mask_projection = nn.Conv2d(feature_size, mask_feature_size, 3, padding=1)

    def forward(self, maps):
        return self.mask_projection(self.fpn(maps))


def mask_embedder(dim, out):
    """Three linear layers with ReLU between, named `N.0` as in MaskFormer."""
    return nn.Sequential(
        nn.Sequential(nn.Linear(dim, dim), nn.ReLU()),
        nn.Sequential(nn.Linear(dim, dim), nn.ReLU()),
        nn.Sequential(nn.Linear(dim, out), nn.Identity()),
    )
