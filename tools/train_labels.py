"""Trains a small vision transformer on image-level labels of tabletop scenes: which kinds of objects, which colours and
which pairs of the two a picture shows. It is what locality alignment starts from, and the plain further training that it is
compared with.

    python tools/train_labels.py --data DIR --out DIR --steps N [--init OUT_OF_ANOTHER_RUN] [--seed S] [--rate R]

`--data` is a folder of `tools/locality_experiment.py` (pictures.npy, labels.npy and, to score on, held_*.npy). The class
token is pooled; AdamW, a short warm-up, half a cosine to a tenth. State is kept in OUT/state.pt every minute, and the same
command goes on from it to the same weights. At the end OUT holds `encoder/` (a directory for the examples `align` and
`probe`) and `weights.pt` (with the classifier, for `--init`). The last line is `result key=value ...`.
"""

import argparse
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer

from refvlm.demo import MEAN, STD

SIZES = dict(img_size=96, patch_size=16, embed_dim=128, depth=6, num_heads=4)


def arguments():
    """The command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", type=Path, required=True)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--steps", type=int, required=True)
    p.add_argument("--init", type=Path, help="folder of the run to start from")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--rate", type=float, default=1e-3)
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--threads", type=int, default=2)
    return p.parse_args()


def pixels(pictures):
    """u8 pictures (B, S, S, 3) as normalised f32 (B, 3, S, S)."""
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
    mean, std = (torch.tensor(v).view(3, 1, 1) * 255 for v in (MEAN, STD))
    return (x - mean) / std


def replace(path, write):
    """Writes a file beside `path`, then takes its place."""
    new = path.with_suffix(".new")
    write(new)
    os.replace(new, path)


def batch_of(step, count, batch, seed):
    """Indices of the pictures of a step, and which of them are mirrored: both follow from seed and step alone."""
    per_epoch = count // batch
    epoch, place = divmod(step, per_epoch)
    order = np.random.default_rng([seed, epoch]).permutation(count)
    mirrored = np.random.default_rng([seed, epoch, place]).random(batch) < 0.5
    return np.sort(order[place * batch : (place + 1) * batch]), mirrored


def average_precision(scores, labels):
    """Mean over the labels that occur of the average precision."""
    found = []
    for score, label in zip(scores.T, labels.T):
        if label.any():
            hits = label[np.argsort(-score, kind="stable")]
            found.append((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())
    return float(np.mean(found))


@torch.no_grad()
def score(model, data):
    """Mean average precision on the held-out pictures."""
    pictures, labels = (np.load(data / f"held_{name}.npy") for name in ("pictures", "labels"))
    model.eval()
    scores = [model(pixels(pictures[i : i + 64])).numpy() for i in range(0, len(pictures), 64)]
    model.train()
    return average_precision(np.concatenate(scores), labels)


def export(model, out):
    """The transformer without its classifier, as a model directory's visual encoder."""
    out.mkdir(exist_ok=True)
    tensors = {f"visual_encoder.{k}": v for k, v in model.state_dict().items() if not k.startswith("head.")}
    save_file(tensors, out / "model.safetensors")
    side = {"height": SIZES["img_size"], "width": SIZES["img_size"]}
    pixels = dict(size=side, crop_size=side, image_mean=MEAN, image_std=STD)
    config = {"visual_encoder": {"model_type": "timm_vit", **SIZES}, "preprocessor": {"visual_encoder": pixels}}
    (out / "config.json").write_text(json.dumps(config, indent=1))


def main():
    """Trains, exports, scores."""
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    pictures = np.load(args.data / "pictures.npy", mmap_mode="r")
    labels = np.load(args.data / "labels.npy")
    model = VisionTransformer(num_classes=labels.shape[1], **SIZES)
    if args.init:
        model.load_state_dict(torch.load(args.init / "weights.pt", weights_only=True))
    groups = [[], []]
    for name, p in model.named_parameters():
        groups[p.ndim > 1 and "embed" not in name and "token" not in name].append(p)
    groups = [{"params": ps, "weight_decay": d} for ps, d in zip(groups, (0.0, 0.05))]
    optimiser = torch.optim.AdamW(groups, lr=args.rate, betas=(0.9, 0.98))
    warm = min(200, args.steps // 10)
    state, step, seconds, losses = args.out / "state.pt", 0, 0.0, []
    if state.exists():
        kept = torch.load(state, weights_only=True)
        model.load_state_dict(kept["model"])
        optimiser.load_state_dict(kept["optimiser"])
        step, seconds, losses = kept["step"], kept["seconds"], kept["losses"]

    def save():
        kept = dict(model=model.state_dict(), optimiser=optimiser.state_dict(), step=step, seconds=seconds, losses=losses)
        replace(state, lambda path: torch.save(kept, path))

    saved = start = time.monotonic()
    while step < args.steps:
        done = min(1.0, max(0, step - warm) / max(1, args.steps - warm))
        rate = args.rate * (0.1 + 0.9 * (0.5 + 0.5 * math.cos(math.pi * done)))
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / (warm + 1))
        rows, mirrored = batch_of(step, len(pictures), args.batch, args.seed)
        x = pixels(np.ascontiguousarray(pictures[rows]))
        x = torch.where(torch.from_numpy(mirrored)[:, None, None, None], x.flip(3), x)
        loss = F.binary_cross_entropy_with_logits(model(x), torch.from_numpy(labels[rows]).float())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        step += 1
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise SystemExit(f"step {step}: the loss is {losses[-1]}")
        now = time.monotonic()
        if now - saved > 60 or step == args.steps:
            seconds, start, saved = seconds + now - start, now, now
            save()
            print(f"{step}/{args.steps} loss {np.mean(losses[-100:]):.4f} {step * args.batch / seconds:.1f} pictures/s "
                  f"held-out mAP {score(model, args.data):.4f}", flush=True)
    export(model, args.out / "encoder")
    replace(args.out / "weights.pt", lambda path: torch.save(model.state_dict(), path))
    print(f"result steps={step} loss={np.mean(losses[-100:]):.5f} map={score(model, args.data):.4f} "
          f"pictures_per_s={step * args.batch / max(seconds, 1e-9):.1f}")


if __name__ == "__main__":
    main()
