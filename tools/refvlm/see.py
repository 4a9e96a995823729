"""First phase: the vision transformer learns dense labels. The tower learns them along with the heads."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .dense import Probe, dense_loss, labels
from .heads import as_map
from .targets import pixels, tables


class SeeingEncoder(nn.Module):
    """The vision transformer with a probe on its last hidden state."""

    def __init__(self, model):
        super().__init__()
        self.visual_encoder = model.visual_encoder
        self.probe = Probe(model.config["visual_encoder"]["hidden_size"])

    def draw(self, rng, cache, size):
        """A batch of `size` random scenes, every second one mirrored and every second one moved."""
        batch = vision_batch(cache.draw(rng, size))
        batch = mirror(batch) if rng.random() < 0.5 else batch
        return move(batch, *(4 * rng.integers(-6, 7, 2)).tolist()) if rng.random() < 0.5 else batch

    def loss(self, batch):
        x, inst, depth, table = batch
        feats = self.visual_encoder(x)[-1][:, 1:]
        return dense_loss(self.probe(feats), labels(inst, depth, table, int(feats.shape[1] ** 0.5)))


def tower_loss(probe, stages, inst, depth, table):
    """Dense labels from stages 1 to 3."""
    side = stages[1].shape[-1]
    up = [s if s.shape[-1] == side else F.interpolate(s, (side, side), mode="bilinear") for s in stages[1:4]]
    return dense_loss(probe(torch.cat(up, 1).flatten(2).transpose(1, 2)), labels(inst, depth, table, side))


# COCO's joints seen in a mirror: nose, then left and right change places.
MIRRORED_JOINTS = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]


def mirror(batch):
    """A vision batch seen in a mirror. For parts without words only: "left of" would become untrue."""
    x, inst, depth, table = batch
    box, joints = table["box"].clone(), table["joints"][:, :, MIRRORED_JOINTS].clone()
    box[..., 0], joints[..., 0] = 1 - box[..., 0], 1 - joints[..., 0]
    flat = x.flip(-1).contiguous(memory_format=torch.channels_last)
    return flat, [i[:, ::-1] for i in inst], depth.flip(-1), {**table, "box": box, "joints": joints}


def move(batch, right, down):
    """A vision batch moved by `right` and `down` pixels, multiples of 4 so that the coarser labels move with it. Padding
    comes in, and what leaves is cut off. For parts without words only, as `mirror`."""
    x, inst, depth, table = batch
    side = x.shape[-1]

    def moved(plane, fill):
        h, w = plane.shape[-2:]
        a, b = down * h // side, right * w // side
        span = lambda d, n: slice(max(d, 0), n + min(d, 0))
        out = torch.full_like(plane, fill)
        out[..., span(a, h), span(b, w)] = plane[..., span(-a, h), span(-b, w)]
        return out

    by = torch.tensor([right / side, down / side], device=x.device)
    centre, size = table["box"].split(2, -1)
    low, high = (centre - size / 2 + by).clamp(0, 1), (centre + size / 2 + by).clamp(0, 1)
    place, seen = table["joints"][..., :2] + by, table["joints"][..., 2:]
    seen = seen * ((place >= 0) & (place <= 1)).all(-1, keepdim=True)
    table = {**table, "box": torch.cat(((low + high) / 2, high - low), -1), "joints": torch.cat((place, seen), -1)}
    inst = [moved(torch.from_numpy(i.copy()), 255).numpy() for i in inst]
    return moved(x, 0.0), inst, moved(depth, torch.nan), table


def vision_batch(picks):
    """Pixels, instance maps, depth and object tables of (shard, index) pairs."""
    device = torch.get_default_device()
    x = pixels([s.images[i] for s, i in picks], device)
    inst = [np.asarray(s.instances[i]) for s, i in picks]
    depth = torch.from_numpy(np.stack([s.depth[i] for s, i in picks])).to(device)
    table = {k: v.to(device) for k, v in tables([s.scenes[i] for s, i in picks]).items()}
    return x.contiguous(memory_format=torch.channels_last), inst, depth, table

