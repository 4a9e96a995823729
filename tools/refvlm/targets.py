"""Batches of cached scenes as tensors, with dense labels for grids of any size that divides the instance map."""

import numpy as np
import torch

from .demo import MEAN, STD

SHAPES = ["ball", "cube", "can", "cone", "ring", "mannequin"]
COLOURS = ["red", "yellow", "green", "cyan", "blue", "purple", "white", "black"]
SIZES = ["small", "large"]
MOST = 8


def pixels(images, device="cpu"):
    """u8 pictures (B, S, S, 3) as normalised f32 (B, 3, S, S)."""
    x = torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2).float()
    mean = torch.tensor(MEAN, device=device).view(3, 1, 1) * 255
    std = torch.tensor(STD, device=device).view(3, 1, 1) * 255
    return (x - mean) / std


def tables(scenes):
    """Per object id (row 0 = background): shape, colour, size indices (-1 where there is none), box cx, cy, w, h, and
    joints x, y, v."""
    n = len(scenes)
    shape = np.zeros((n, MOST), np.int64)
    colour = np.full((n, MOST), -1, np.int64)
    size = np.full((n, MOST), -1, np.int64)
    box = np.zeros((n, MOST, 4), np.float32)
    joints = np.zeros((n, MOST, 17, 3), np.float32)
    for b, scene in enumerate(scenes):
        for o in scene["objects"]:
            i = o["id"]
            shape[b, i] = 1 + SHAPES.index(o["shape"])
            if o["colour"]:
                colour[b, i] = COLOURS.index(o["colour"])
                size[b, i] = SIZES.index(o["size"])
            x0, y0, x1, y1 = o["box"]
            box[b, i] = (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0
            if "keypoints" in o:
                joints[b, i] = o["keypoints"]
    return {k: torch.from_numpy(v) for k, v in dict(shape=shape, colour=colour, size=size, box=box, joints=joints).items()}


def cell_ids(instances, grid):
    """The object that a cell of the grid stands for: the one with the smallest visible area among those that cover a
    tenth of the cell, 0 for none. `instances` (B, S, S) u8."""
    inst = torch.from_numpy(np.stack(instances)).to(torch.get_default_device()).long()
    inst[inst == 255] = 0
    b, s, _ = inst.shape
    k = s // grid
    if k <= 2:
        return inst[:, k - 1 :: k, k - 1 :: k]
    one_hot = torch.nn.functional.one_hot(inst, MOST).float()
    counts = one_hot.view(b, grid, k, grid, k, MOST).sum((2, 4))
    area = one_hot.sum((1, 2))[:, None, None].expand_as(counts).clone()
    area[counts < 0.1 * k * k] = 1e9
    area[..., 0] = 1e8
    return area.argmin(-1)


def gather(table, ids):
    """Values (B, ..., *) of a per-object table (B, MOST, *) at object ids (B, ...)."""
    index = torch.arange(len(ids)).view(-1, *[1] * (ids.dim() - 1)).expand_as(ids)
    return table[index, ids]
