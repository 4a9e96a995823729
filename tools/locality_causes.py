"""Why alignment gains what it gains in `tools/locality_experiment.py`: what can be read off the base encoder's tokens by depth,
and off its view of masked pictures, which is what alignment teaches; and how much of that view is more than a mean.

    python tools/locality_causes.py --work DIR --generator target/release/tabletop [--seeds 1,2,3] [--scenes 1000]

A linear head for six kinds of objects by patch, trained by L-BFGS to (nearly) its minimum on scenes from seed 500,000, scored
on half as many from seed 1,000,000: macro recall at 0.5 and average precision, in percent. The last line of every seed is
`result key=value ...`. With torch 2.15.0, timm 1.0.31.
"""

import argparse
import subprocess
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer

from refvlm.data import offsets, pad_and_resize, read_stream
from refvlm.targets import SHAPES
from train_labels import SIZES, average_precision, pixels

SIDE, PATCH = SIZES["img_size"], SIZES["patch_size"]
CELLS = SIDE // PATCH
SHARES = 13


def render(generator, first, count):
    """Pictures (count, S, S, 3) and which kinds each of their patches shows, (count, cells, kinds)."""
    pictures = np.zeros((count, SIDE, SIDE, 3), np.uint8)
    labels = np.zeros((count, CELLS * CELLS, len(SHAPES)), bool)
    command = [generator, "stream", "--first-seed", str(first), "--scenes", str(count), "--long-side", str(SIDE * 5 // 4)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        for i, (scene, rgb, instances, _) in enumerate(read_stream(process.stdout)):
            pictures[i] = pad_and_resize(rgb, SIDE)
            side, x, y = offsets(*instances.shape)
            cell = (2 * np.arange(side) + 1) * SIDE // (2 * side) // PATCH
            rows, cols = cell[y : y + instances.shape[0], None], cell[None, x : x + instances.shape[1]]
            for thing in scene["objects"]:
                labels[i, (rows * CELLS + cols)[instances == thing["id"]], SHAPES.index(thing["shape"])] = True
    return pictures, torch.from_numpy(labels)


def encoder(path):
    """The transformer of an encoder directory; random weights without one."""
    torch.manual_seed(0)
    model = VisionTransformer(num_classes=0, **SIZES)
    if path:
        tensors = load_file(path / "model.safetensors")
        model.load_state_dict({k.removeprefix("visual_encoder."): v for k, v in tensors.items()})
    return model.eval()


@torch.no_grad()
def tokens(model, pictures, blocks, masks=None):
    """Tokens after `blocks` blocks and the final norm, (count, 1 + cells, width), of pictures whose masked patches are 0."""
    out = []
    for i in range(0, len(pictures), 100):
        x = pixels(pictures[i : i + 100])
        if masks is not None:
            grid = masks[i : i + 100].view(-1, 1, CELLS, CELLS).float()
            x = x * F.interpolate(grid, scale_factor=PATCH)
        x = model._pos_embed(model.patch_embed(x))
        for block in model.blocks[:blocks]:
            x = block(x)
        out.append(model.norm(x))
    return torch.cat(out)


def probe(train, labels, test, test_labels):
    """Macro recall and mean average precision of a linear head, `[rows, width]` to `[rows, kinds]`."""
    mean, deviation = train.mean(0), train.std(0) + 1e-6
    train, test = (train - mean) / deviation, (test - mean) / deviation
    weight = torch.zeros(labels.shape[1], train.shape[1], requires_grad=True)
    bias = torch.full((labels.shape[1],), -3.0, requires_grad=True)
    search = torch.optim.LBFGS([weight, bias], max_iter=40, history_size=12, line_search_fn="strong_wolfe")

    def closure():
        search.zero_grad()
        logits = train @ weight.T + bias
        loss = F.binary_cross_entropy_with_logits(logits, labels.float()) + 1e-6 * weight.square().sum()
        loss.backward()
        return loss

    search.step(closure)
    logits = (test @ weight.T + bias).detach()
    found = ((logits > 0) & test_labels).sum(0) / test_labels.sum(0)
    recall = found[test_labels.any(0)].mean().item()
    return 100 * recall, 100 * average_precision(logits.numpy(), test_labels.numpy())


def left_by_means(view, masks):
    """Share of the variance of tokens that their means leave, over place, own mask and share of patches kept."""
    own = torch.cat([torch.ones(len(masks), 1), masks], 1).long()
    share = (masks.mean(1) * (SHARES - 1)).round().long()
    group = ((torch.arange(own.shape[1])[None] * 2 + own) * SHARES + share[:, None]).flatten()
    rows = view.flatten(0, 1)
    sums = torch.zeros(own.shape[1] * 2 * SHARES, rows.shape[1]).index_add_(0, group, rows)
    means = sums / torch.bincount(group, minlength=len(sums)).clamp(min=1)[:, None]
    return ((rows - means[group]).square().mean() / (rows - rows.mean()).square().mean()).item()


def main():
    """Every measure for every seed."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--work", type=Path, required=True)
    p.add_argument("--generator", required=True)
    p.add_argument("--seeds", type=lambda text: text.split(","), default=["1", "2", "3"])
    p.add_argument("--scenes", type=int, default=1000)
    args = p.parse_args()
    pictures, labels = render(args.generator, 500_000, args.scenes)
    test, test_labels = render(args.generator, 1_000_000, args.scenes // 2)
    rule = torch.Generator().manual_seed(0)
    kept, test_kept = (torch.rand(len(x), CELLS * CELLS, generator=rule) < 0.5 for x in (pictures, test))

    def whole(model, blocks):
        return probe(*(part.flatten(0, 1) for part in (
            tokens(model, pictures, blocks)[:, 1:], labels, tokens(model, test, blocks)[:, 1:], test_labels)))

    print("random encoder: recall %.2f ap %.2f" % whole(encoder(None), 6), flush=True)
    for seed in args.seeds:
        model = encoder(args.work / f"seed{seed}/base/encoder")
        by_depth = {blocks: whole(model, blocks)[1] for blocks in (1, 3, 5, 6)}
        views = {}
        for name, masks in (("whole", (None, None)), ("masked", (kept, test_kept))):
            views[name] = probe(tokens(model, pictures, 5, masks[0])[:, 1:][kept], labels[kept],
                                tokens(model, test, 5, masks[1])[:, 1:][test_kept], test_labels[test_kept])
        share = torch.rand(len(test), 1, generator=rule)
        first = (torch.rand(len(test), CELLS * CELLS, generator=rule) < share).float()
        masks = torch.cat([first, 1 - first, torch.ones_like(first)])
        view = tokens(model, np.concatenate([test] * 3), 5, masks)
        print(f"result seed={seed}", " ".join(f"ap_after_{k}={v:.2f}" for k, v in by_depth.items()),
              " ".join(f"teacher_{name}_recall={r:.2f} teacher_{name}_ap={a:.2f}" for name, (r, a) in views.items()),
              f"left_by_means={left_by_means(view, masks):.3f}", flush=True)


if __name__ == "__main__":
    main()
