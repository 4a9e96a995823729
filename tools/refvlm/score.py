"""The five figures of the tabletop model on held-out scenes: a quick judge of training, in PyTorch.

The shipped figures come from the Rust example `evaluate`; this one uses the cache's labels at training resolution.
"""

import numpy as np
import torch
import torch.nn.functional as F

from .answer import generate, parse, prompt_embeddings
from .dense import giou
from .prompt import encode_answer
from .see import vision_batch


def average_precision(found, total):
    """Area under the interpolated precision-recall curve for (score, hit) pairs and `total` targets."""
    if not total:
        return float("nan")
    hits = np.array([h for _, h in sorted(found, key=lambda f: -f[0])], float)
    if not len(hits):
        return 0.0
    true = np.cumsum(hits)
    precision = np.maximum.accumulate((true / np.arange(1, len(hits) + 1))[::-1])[::-1]
    return float(np.sum(precision * hits) / total)


def assign(cost):
    """Greedy pairs (row, column) of a cost matrix, cheapest first."""
    cost, pairs = cost.clone(), []
    while cost.numel() and torch.isfinite(cost).any():
        i, j = divmod(int(cost.argmin()), cost.shape[1])
        pairs.append((i, j))
        cost[i], cost[:, j] = torch.inf, torch.inf
    return pairs


class Score:
    """Collects results turn by turn."""

    def __init__(self):
        self.boxes, self.box_total, self.masks, self.joints, self.depth, self.exact = [], 0, [], [], [], []
        self.by_task = {}

    def result(self):
        """The figures."""
        mean = lambda v: float(np.mean(v)) if v else float("nan")
        return {
            "box_ap50": average_precision(self.boxes, self.box_total),
            "mask_miou": mean(self.masks),
            "pck": mean(self.joints),
            "depth_d125": mean(self.depth),
            "triplet": mean(self.exact),
            "tasks": {k: round(mean(v), 3) for k, v in sorted(self.by_task.items())},
        }


@torch.no_grad()
def decode_turn(model, features, latents, turn, scene, shard, index, table, score):
    """Run the head of the turn's unit and add its results. `latents` (n, d) of the answer's REF tokens."""
    unit = turn["plan"][0]["unit"] if turn["plan"] else (turn["units"] or [None])[0]
    ids = [o for group in turn["targets"] for o in group]
    if unit is None or (unit != "box" and not ids):
        return
    head = model.visual_decoder[model.config["unit_heads"][unit]]
    slots = head.config["num_queries"]
    n = min(len(latents), slots)
    if unit == "box":
        score.box_total += len(ids)
    out = None
    if n:
        out = head(features, F.pad(latents[:n], (0, 0, 0, slots - n))[None])
    if unit == "box" and n:
        pred, target = out["boxes"][0, :n], table["box"][0, ids]
        iou = torch.zeros(n, max(1, len(ids)))
        for j in range(len(ids)):
            iou[:, j] = giou(pred, target[j : j + 1].expand(n, -1))[1]
        hit = {i for i, j in assign(1 - iou) if iou[i, j] > 0.5}
        score.boxes += [(1.0, i in hit) for i in range(n)]
    elif unit == "mask":
        inst = torch.from_numpy(np.array(shard.instances[index])).long()
        iou = torch.zeros(max(n, 1), len(ids))
        if n:
            up = F.interpolate(out["logits"][:, :n], inst.shape, mode="bilinear", align_corners=False)[0] > 0
            up &= inst != 255
            for j, o in enumerate(ids):
                t = inst == o
                iou[:, j] = (up & t).sum((1, 2)) / (up | t).sum((1, 2)).clamp(min=1)
        best = {j: float(iou[i, j]) for i, j in assign(1 - iou)}
        score.masks += [best.get(j, 0.0) for j in range(len(ids))]
    elif unit == "keypoint":
        joints, box = table["joints"][0, ids[0]], table["box"][0, ids[0]]
        seen = joints[:, 2] == 2
        if n:
            distance = (out["keypoints"][0, 0] - joints[:, :2]).norm(dim=-1)
            score.joints += (distance < 0.1 * box[2:].max())[seen].float().tolist()
        else:
            score.joints += [0.0] * int(seen.sum())
    elif unit == "depth":
        truth = torch.from_numpy(np.array(shard.depth[index])).float()
        on = torch.from_numpy(np.array(shard.instances[index]))[1::2, 1::2].long()
        on = (on > 0) & (on < 255) & torch.isfinite(truth)
        if n:
            near, far = head.config["depth_range"]
            s = F.interpolate(out["logits"][:, :1].sigmoid(), truth.shape, mode="bilinear", align_corners=False)[0, 0]
            ratio = (near + s * (far - near)) / truth
            score.depth += (torch.maximum(ratio, 1 / ratio) < 1.25)[on].float().tolist()
        else:
            score.depth += [0.0] * int(on.sum())


@torch.no_grad()
def evaluate(model, tokenizer, cache, scenes, forced=False, limit=200):
    """Figures over one turn of every task found in the first `scenes` held-out scenes."""
    model.eval()
    ref, score, done = tokenizer.token_to_id("<REF>"), Score(), 0
    for shard in cache.shards:
        for index, scene in enumerate(shard.scenes):
            if done == scenes:
                return score.result()
            done += 1
            x, _, _, table = vision_batch([(shard, index)])
            selected, states = model.see(x)
            features = model.features(selected, states, x)
            for turn in {t["task"]: t for t in scene["turns"]}.values():
                start = turn["region_start"]
                regions = torch.from_numpy(shard.regions[start : start + len(turn["prompts"])])
                prompt = prompt_embeddings(model, tokenizer, selected, turn, regions)
                given = encode_answer(tokenizer, turn["plan"], turn["answer"], 1)
                ids, hidden = generate(model, prompt, limit, given if forced else None)
                text = tokenizer.decode(ids, skip_special_tokens=False)
                want = parse(tokenizer.decode(given, skip_special_tokens=False))
                ok = parse(text) == want
                if not want:
                    ok = ids == given
                score.exact.append(ok)
                score.by_task.setdefault(turn["task"], []).append(ok)
                at = [i for i, t in enumerate(ids[: len(hidden)]) if t == ref]
                decode_turn(model, features, hidden[at], turn, scene, shard, index, table, score)
    return score.result()
