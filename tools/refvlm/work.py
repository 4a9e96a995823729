"""One training process: builds its part of the model, takes what earlier parts left in the state folder, and steps."""

import os
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from .data import Cache
from .demo import config
from .model import RefVlm, initialise, load_directory
from .optimiser import Trainer
from .packing import Packer
from .parts import HeadsPart, JointPart, LanguagePart, PosePart, TunePart
from .see import SeeingEncoder
from .tokenizer import load_tokenizer

# Held-out scenes start here; the evaluation's seeds (1,000,000 to 1,000,499) are never rendered for training.
HELD_OUT = 900_000
SEEDS = {"vit": 1, "heads": 3, "language": 4, "joint": 5, "pose": 6, "tune": 7}
KLASSES = {"heads": HeadsPart, "pose": PosePart, "language": LanguagePart}
KLASSES |= {"tune": TunePart, "joint": JointPart}
# Which part each tensor of the exported model comes from before the joint phase.
OWNERS = {
    "vit": ("visual_encoder.",),
    "heads": ("visual_tower.", "visual_decoder."),
    "pose": ("visual_decoder.pose.",),
    "language": ("projector.", "vpt_encoder.", "llm."),
    "tune": ("visual_decoder.box.", "visual_decoder.mask.", "visual_decoder.depth."),
}


LANGUAGE = ("projector", "vpt_encoder", "llm")


def averages(state, part):
    """Averaged weights and step of a part, names without the part's own prefix; None where there are none."""
    path = Path(state) / f"{part}.pt"
    if not path.exists():
        return None
    data = torch.load(path, map_location="cpu", weights_only=True)
    return {k.removeprefix("model."): v for k, v in data["average"].items()}, data["step"]


def discard_stale(state):
    """The tuned heads start from the heads: where those have trained on since, what was tuned before is set aside."""
    heads, tuned = Path(state) / "heads.pt", Path(state) / "tune.pt"
    if heads.exists() and tuned.exists() and tuned.stat().st_mtime < heads.stat().st_mtime:
        tuned.rename(Path(state) / "tune.stale.pt")


def gather_parts(model, state, init=None):
    """Load into the composition what the state folder holds of every part; gives the steps of each."""
    discard_stale(state)
    own, steps = model.state_dict(), {}
    if init:
        own.update(load_directory(init).state_dict())
    for part, prefixes in OWNERS.items():
        if (found := averages(state, part)) is None:
            continue
        tensors, steps[part] = found
        own.update({k: v for k, v in tensors.items() if k in own and k.startswith(prefixes)})
    model.load_state_dict(own)
    return steps


def take(model, state, part, child, stamp):
    """Load the latest average of the submodule `child` that `part` trains, if it changed since `stamp`; gives the new
    stamp."""
    path = Path(state) / f"{part}.pt"
    if not path.exists() or path.stat().st_mtime == stamp:
        return stamp
    stamp = path.stat().st_mtime
    tensors, _ = averages(state, part)
    prefix = f"{child}."
    found = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
    model.get_submodule(child).load_state_dict(found)
    return stamp


def reduce_gradients(world):
    """A function that averages gradients over processes in one message."""

    def reduce(module):
        # A unit that no answer of this process has leaves its head without gradients: zeros keep the message's layout.
        for p in module.parameters():
            if p.requires_grad and p.grad is None:
                p.grad = torch.zeros_like(p)
        grads = [p.grad for p in module.parameters() if p.grad is not None]
        flat = torch.cat([g.flatten() for g in grads])
        dist.all_reduce(flat)
        flat /= world
        for g, part in zip(grads, flat.split([g.numel() for g in grads])):
            g.copy_(part.view_as(g))

    return reduce


def run(part, state, cache_path, steps, batch, rate, turns, init=None, rank=0, world=1, units=None):
    """Train one part to `steps`, on turns of `units` only where given. With `world` processes (joint phase) each has its
    own scenes and gradients are averaged."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.set_num_threads(1)
    torch.set_default_device(device)
    torch.manual_seed(SEEDS[part])
    cache = Cache(cache_path, 0, HELD_OUT)
    tokenizer = load_tokenizer(Path(state) / "tokenizer.json")
    model = RefVlm(config(tokenizer.get_vocab_size()))
    initialise(model)
    gather_parts(model, state, init)
    if "visual_tower" in model.config:
        model.visual_tower.to(memory_format=torch.channels_last)
    packer = Packer(tokenizer, model.vpt_encoder.tokens, turns, units=units)
    follows = part in ("heads", "language", "pose", "tune")
    if part == "vit":
        module = SeeingEncoder(model)
    else:
        module = KLASSES[part](model, packer)
        for name, probe in (("vit", module.probe), ("heads", module.tower_probe)):
            if found := averages(state, name):
                prefix = "probe." if name == "vit" else "tower_probe."
                mine = {k[len(prefix) :]: v for k, v in found[0].items() if k.startswith(prefix)}
                probe.load_state_dict(mine)
    if follows:
        model.visual_encoder.requires_grad_(False)
    if part in ("pose", "tune"):
        model.visual_tower.requires_grad_(False)
    if part == "tune":
        for child in LANGUAGE:
            model.get_submodule(child).requires_grad_(False)
    rates = {"model.visual_encoder": 0.3, "model.visual_tower": 0.5} if part == "joint" else None
    trainer = Trainer(part, module, state, rate, steps, rates=rates, main=rank == 0)
    if world > 1:
        dist.init_process_group("gloo", rank=rank, world_size=world)
    rng = np.random.default_rng([SEEDS[part], rank, trainer.step])
    torch.manual_seed(SEEDS[part] * 1000 + rank + trainer.step)
    reduce = reduce_gradients(world) if world > 1 else None
    encoder = tower = 0
    stamps = [0] * len(LANGUAGE)
    while trainer.step < trainer.total:
        if trainer.step % 50 == 0:
            cache.refresh()
            if follows:
                encoder = take(model, state, "vit", "visual_encoder", encoder)
            if part == "tune":
                stamps = [take(model, state, "language", c, s) for c, s in zip(LANGUAGE, stamps)]
            if part in ("pose", "tune"):
                tower = take(model, state, "heads", "visual_tower", tower)
        data = module.draw(rng, cache, batch)
        with torch.autocast(device, torch.bfloat16):
            loss, figures = module.loss(data)
        trainer.update(loss, figures, reduce)
    if rank == 0:
        trainer.save()
    print(f"{part}: done at step {trainer.step}", file=sys.stderr, flush=True)
    if world > 1:
        dist.destroy_process_group()
    os._exit(0)
