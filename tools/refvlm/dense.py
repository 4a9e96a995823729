"""Dense auxiliary labels of the vision parts: every cell names the object it belongs to. Training only."""

import torch
import torch.nn.functional as F
from torch import nn

from .targets import cell_ids, gather

# shape with background, colour, size, box, log depth, 17 joints
PARTS = (7, 8, 2, 4, 1, 34)


class Probe(nn.Module):
    """One linear map from features to all labels of a cell."""

    def __init__(self, dim):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.linear = nn.Linear(dim, sum(PARTS))

    def forward(self, x):
        """x (B, g * g, dim); gives the label groups."""
        return self.linear(self.norm(x)).float().split(PARTS, -1)


def giou(a, b):
    """Generalised IoU of paired cx, cy, w, h boxes (N, 4), and plain IoU."""
    a0, a1, b0, b1 = a[:, :2] - a[:, 2:] / 2, a[:, :2] + a[:, 2:] / 2, b[:, :2] - b[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2
    inter = (torch.minimum(a1, b1) - torch.maximum(a0, b0)).clamp(min=0).prod(-1)
    union = a[:, 2:].clamp(min=0).prod(-1) + b[:, 2:].prod(-1) - inter
    hull = (torch.maximum(a1, b1) - torch.minimum(a0, b0)).prod(-1)
    iou = inter / union.clamp(min=1e-9)
    return iou - (hull - union) / hull.clamp(min=1e-9), iou


def labels(instances, depth, table, grid):
    """Labels of every cell, flattened to (B, grid * grid, ...)."""
    ids = cell_ids(instances, grid)
    out = {k: gather(table[k], ids).flatten(1, 2) for k in ("shape", "colour", "size", "box", "joints")}
    k = depth.shape[-1] // grid
    out["depth"] = depth[:, k // 2 :: k, k // 2 :: k].flatten(1).float().log()
    return out


def dense_loss(outputs, t):
    """Weighted sum of the label losses, and figures for the log."""
    shape, colour, size, box, depth, joints = outputs
    weight = torch.ones(7, device=shape.device)
    weight[0] = 0.25
    loss = 2 * F.cross_entropy(shape.flatten(0, 1), t["shape"].flatten(), weight)
    figures = {}
    inside = t["shape"] > 0
    figures["shape"] = (shape.argmax(-1) == t["shape"])[inside].float().mean().item()
    named = t["colour"] >= 0
    loss = loss + F.cross_entropy(colour[named], t["colour"][named]) + 0.5 * F.cross_entropy(size[named], t["size"][named])
    figures["colour"] = (colour[named].argmax(-1) == t["colour"][named]).float().mean().item()
    figures["size"] = (size[named].argmax(-1) == t["size"][named]).float().mean().item()
    predicted, target = box[inside].sigmoid(), t["box"][inside]
    g, iou = giou(predicted, target)
    loss = loss + 2 * (predicted - target).abs().sum(-1).mean() + 0.5 * (1 - g).mean()
    figures["box"] = iou.mean().item()
    ok = torch.isfinite(t["depth"])
    error = (depth[..., 0] - t["depth"])[ok].abs()
    loss = loss + 0.5 * error.mean()
    figures["d125"] = (error < 0.2231).float().mean().item()
    body = t["shape"] == 6
    if body.any():
        xy, v = t["joints"][body][..., :2], t["joints"][body][..., 2] > 0
        distance = (joints[body].unflatten(-1, (17, 2)).sigmoid() - xy)[v].abs()
        loss = loss + distance.sum(-1).mean()
        figures["joint"] = distance.mean().item()
    return loss, figures
