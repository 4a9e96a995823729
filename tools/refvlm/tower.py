"""ConvNeXt trunk with timm's tensor names under `visual.trunk`.

Input: normalised pixels (B, 3, S, S). Output: the four stage outputs, (B, dims[i], S / (4 * 2^i), ...).
Configuration: the constructor arguments `depths` and `dims` of timm's ConvNeXt (kernel 7, patch 4, layer scale).
"""

import torch
import torch.nn.functional as F
from torch import nn


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of a (B, C, H, W) map, eps 1e-6."""

    def __init__(self, dim):
        super().__init__(dim, eps=1e-6)

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between, on channels-last data."""

    def __init__(self, dim):
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Depthwise 7x7 convolution, LayerNorm, MLP, layer scale and the residual."""

    def __init__(self, dim):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), 0.5))
        self.conv_dw = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim)

    def forward(self, x):
        # The backward pass of a depthwise convolution on CPU is twice as fast in f32 as in bf16.
        with torch.autocast(x.device.type, enabled=False):
            y = self.conv_dw(x.to(self.conv_dw.weight.dtype))
        y = y.permute(0, 2, 3, 1)
        y = self.mlp(self.norm(y)) * self.gamma
        return x + y.permute(0, 3, 1, 2)


class Stage(nn.Module):
    """Optional downsampling (norm, 2x2 convolution of stride 2), then blocks."""

    def __init__(self, width, dim, depth, downsample):
        super().__init__()
        self.downsample = nn.Identity()
        if downsample:
            self.downsample = nn.Sequential(LayerNorm2d(width), nn.Conv2d(width, dim, 2, 2))
        self.blocks = nn.Sequential(*(Block(dim) for _ in range(depth)))

    def forward(self, x):
        return self.blocks(self.downsample(x))


class Trunk(nn.Module):
    """Stem (4x4 convolution of stride 4, norm) and the four stages."""

    def __init__(self, dims, depths):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, dims[0], 4, 4), LayerNorm2d(dims[0]))
        widths = [dims[0], *dims[:-1]]
        self.stages = nn.ModuleList(Stage(w, d, n, i > 0) for i, (w, d, n) in enumerate(zip(widths, dims, depths)))


class Visual(nn.Module):
    """Holds the trunk under the name open_clip gives it."""

    def __init__(self, dims, depths):
        super().__init__()
        self.trunk = Trunk(dims, depths)


class ConvNextTower(nn.Module):
    """The feature tower of REF-VLM; `config` has `dims` and `depths`."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.visual = Visual(config["dims"], config["depths"])

    def forward(self, pixels):
        """The outputs of the four stages."""
        x = self.visual.trunk.stem(pixels.contiguous(memory_format=torch.channels_last))
        states = []
        for stage in self.visual.trunk.stages:
            x = stage(x)
            states.append(x)
        return states
