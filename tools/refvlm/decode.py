"""Losses of the heads for a list of REF tokens, whatever their latents come from.

A `Refs` holds, per unit, the rows (one answer each), the picture of each row, and for every REF its row, slot, object
and phrase group. Matching is done inside each phrase group, as in the reference.
"""

import itertools
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

from .dense import giou


@dataclass
class Refs:
    """REF tokens of one unit."""

    picture: list = field(default_factory=list)
    row: list = field(default_factory=list)
    slot: list = field(default_factory=list)
    object: list = field(default_factory=list)
    group: list = field(default_factory=list)

    def add(self, picture, groups):
        """One answer: lists of object ids per phrase, in order."""
        row, slot = len(self.picture), 0
        self.picture.append(picture)
        for g in groups:
            first = slot
            for o in g:
                self.row.append(row)
                self.slot.append(slot)
                self.object.append(o)
                self.group.append((row, first))
                slot += 1

    def tensors(self):
        return (torch.tensor(v, dtype=torch.long) for v in (self.picture, self.row, self.slot, self.object))


def match(cost_of, refs):
    """Object index of every REF after choosing, in each group of up to three, the cheapest permutation; `cost_of(i, j)`
    is a matrix over REFs: prediction i against the object of REF j."""
    order = list(range(len(refs.object)))
    groups = {}
    for i, g in enumerate(refs.group):
        groups.setdefault(g, []).append(i)
    big = [g for g in groups.values() if len(g) > 1]
    if not big:
        return order
    cost = cost_of.detach().tolist()
    for members in big:
        if len(members) > 4:
            continue
        best = min(itertools.permutations(members), key=lambda p: sum(cost[i][j] for i, j in zip(members, p)))
        for i, j in zip(members, best):
            order[i] = j
    return order


def slots(latents, refs, count):
    """Latents (N, d) of the REFs laid out as rows of zero-padded slots (R, count, d)."""
    _, row, slot, _ = refs.tensors()
    out = latents.new_zeros(len(refs.picture), count, latents.shape[-1])
    keep = slot < count
    return out.index_put((row[keep], slot[keep]), latents[keep])


def inside_loss(attention, row, slot, cells):
    """-log of the cross-attention mass inside the object's cells (N, K), mean over heads and layers."""
    some = cells.sum(-1) > 0
    if not some.any():
        return 0.0
    total = 0.0
    for weights in attention:
        mass = (weights.float()[row, :, slot] * cells[:, None]).sum(-1)
        total = total - mass[some].clamp(min=1e-4).log().mean()
    return total / len(attention)


def cells_of(instances, picture, objects, side):
    """Which cells of a side x side grid hold a pixel of the object: (N, side * side) float."""
    inst = instances[picture] == objects[:, None, None]
    k = inst.shape[-1] // side
    return inst.view(len(objects), side, k, side, k).any(4).any(2).flatten(1).float()


def box_loss(head, features, latents, refs, table, instances):
    """L1 x 5 + GIoU x 2 after matching, and attention."""
    picture, row, slot, obj = refs.tensors()
    out = head(features, slots(latents, refs, head.config["num_queries"]), picture)
    pred = out["boxes"][row, slot]
    target = table["box"][picture[row], obj]
    with torch.no_grad():
        n = len(pred)
        g = giou(pred.repeat_interleave(n, 0), target.repeat(n, 1))[0].view(n, n)
        cost = 5 * torch.cdist(pred, target, 1) - 2 * g
    order = match(cost, refs)
    target, obj = target[order], obj[order]
    g, iou = giou(pred, target)
    loss = 5 * (pred - target).abs().sum(-1).mean() + 2 * (1 - g).mean()
    side = int(out["attention"][0].shape[-1] ** 0.5)
    inside = inside_loss(out["attention"], row, slot, cells_of(instances, picture[row], obj, side))
    return loss + 0.3 * inside, {"box": iou.mean().item(), "box50": (iou > 0.5).float().mean().item()}


def mask_loss(head, features, latents, refs, instances):
    """Focal x 20 + dice on the padded square without padding, at twice the mask grid, after matching; and attention."""
    picture, row, slot, obj = refs.tensors()
    embedding, pix, attention = head.embed(features, slots(latents, refs, head.config["num_queries"]), picture)
    logits = torch.einsum("nc,nchw->nhw", embedding[row, slot], pix[picture[row]]).float()
    inst = instances[picture[row]]
    target = (inst == obj[:, None, None]).float()
    valid = (inst != 255).float()
    with torch.no_grad():
        k = target.shape[-1] // logits.shape[-1]
        small = target[:, k - 1 :: k, k - 1 :: k].flatten(1)
        p = logits.sigmoid().flatten(1)
        cost = 1 - (2 * p @ small.t() + 1) / (p.sum(1)[:, None] + small.sum(1)[None] + 1)
    order = match(cost, refs)
    target, obj = target[order], obj[order]
    up = F.interpolate(logits[:, None], target.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    prob = up.sigmoid()
    ce = F.binary_cross_entropy_with_logits(up, target, reduction="none")
    pt = prob * target + (1 - prob) * (1 - target)
    focal = ce * (1 - pt) ** 2 * (0.25 * target + 0.75 * (1 - target))
    area = target.sum((1, 2)).clamp(min=4)
    focal = ((focal * valid).sum((1, 2)) / valid.sum((1, 2))).mean() + 0.05 * ((focal * valid).sum((1, 2)) / area).mean()
    prob = prob * valid
    dice = 1 - (2 * (prob * target).sum((1, 2)) + 1) / (prob.sum((1, 2)) + target.sum((1, 2)) + 1)
    hard = (up > 0) & (valid > 0)
    union = (hard | (target > 0)).sum((1, 2)).clamp(min=1)
    iou = (hard & (target > 0)).sum((1, 2)) / union
    side = int(attention[0].shape[-1] ** 0.5)
    inside = inside_loss(attention, row, slot, cells_of(instances, picture[row], obj, side))
    return 20 * focal + 2 * dice.mean() + 0.2 * inside, {"mask": iou.mean().item()}


def pose_loss(head, features, latents, refs, table, instances):
    """Joints L1 x 2 and distance x 2, visibility, the boxes; one mannequin a scene, so nothing is matched."""
    picture, row, slot, obj = refs.tensors()
    out = head(features, slots(latents, refs, head.config["num_queries"]), picture)
    box, joints = table["box"][picture[row], obj], table["joints"][picture[row], obj]
    seen = joints[..., 2] > 0
    pred = out["keypoints"][row, slot]
    error = pred - joints[..., :2]
    distance = (error.square().sum(-1) + 1e-8).sqrt()
    loss = (2 * 5 * error.abs().sum(-1) + 2 * 5 * distance)[seen].mean()
    visible = torch.stack((~seen, seen), -1).float()
    loss = loss + F.binary_cross_entropy_with_logits(out["visibility"][row, slot], visible)
    for boxes in (out["first_boxes"], out["boxes"]):
        b = boxes[row, slot]
        loss = loss + 2 * (b - box).abs().sum(-1).mean() + (1 - giou(b, box)[0]).mean()
    side = int(out["first_attention"][0].shape[-1] ** 0.5)
    cells = cells_of(instances, picture[row], obj, side)
    loss = loss + 0.2 * inside_loss(out["first_attention"], row, slot, cells)
    # Every joint slot is drawn to its own joint's surroundings.
    grid = (torch.arange(side) + 0.5) / side
    near = ((grid[None, :, None] - joints[..., 1].flatten()[:, None, None]).abs() < 1.5 / side) & (
        (grid[None, None, :] - joints[..., 0].flatten()[:, None, None]).abs() < 1.5 / side
    )
    near = near.flatten(1).float() * seen.flatten()[:, None]
    base = (slot * 18)[:, None] + 1 + torch.arange(17)
    loss = loss + 0.2 * inside_loss(out["attention"], row[:, None].expand(-1, 17).flatten(), base.flatten(), near)
    scale = box[:, 2:].amax(-1, keepdim=True)
    pck = (distance < 0.1 * scale)[seen].float().mean().item()
    return loss, {"pck": pck}


def depth_loss(head, features, latents, refs, depth, instances):
    """Log error over all pixels and over object pixels, at the depth grid's own size."""
    picture, row, slot, _ = refs.tensors()
    embedding, pix, _ = head.embed(features, slots(latents, refs, head.config["num_queries"]), picture)
    logits = torch.einsum("nc,nchw->nhw", embedding[row, slot], pix[picture[row]]).float()
    near, far = head.config["depth_range"]
    truth = depth[picture[row]].float()
    up = F.interpolate(logits.sigmoid()[:, None], truth.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    error = ((near + up * (far - near)).log() - truth.log()).abs()
    ok = torch.isfinite(error)
    inst = instances[picture[row]][:, 1::2, 1::2]
    on = ok & (inst > 0) & (inst < 255)
    loss = error[ok].mean() + error[on].mean()
    return 2 * loss, {"d125": (error[on] < 0.2231).float().mean().item()}


def heads_loss(heads, features, latents, refs, batch):
    """Sum over the units present. `latents` and `refs` by unit; batch = (instances, depth, table)."""
    instances, depth, table = batch
    loss, figures = 0.0, {}
    for unit, r in refs.items():
        if not r.object:
            continue
        z = latents[unit]
        if unit == "box":
            part = box_loss(heads["box"], features, z, r, table, instances)
        elif unit == "mask":
            part = mask_loss(heads["mask"], features, z, r, instances)
        elif unit == "keypoint":
            part = pose_loss(heads["pose"], features, z, r, table, instances)
        else:
            part = depth_loss(heads["depth"], features, z, r, depth, instances)
        loss = loss + part[0]
        figures.update(part[1])
    return loss, figures
