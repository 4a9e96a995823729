"""Scenes from the generator's stream, preprocessed as inference does and cached on disk for every phase of training.

A shard is a folder of arrays for up to 256 scenes: `images` (n, S, S, 3) u8, the padded picture resized; `instances`
(n, S/2, S/2) u8, object ids sampled at cell centres, 0 background, 255 padding; `depth` (n, S/4, S/4) f16 metres, NaN
where undefined; `regions` (prompts, G, G) bool; and `scenes.pickle`, the labels with pixels divided by the padded side.
"""

import json
import os
import pickle
import struct
import subprocess
from pathlib import Path

import numpy as np
from PIL import Image

from .demo import GRID, PAD_COLOUR, SIDE

SHARD = 256
POINT_RADIUS = 10 / 336


def read_exact(stream, count):
    """`count` bytes, or None at the end of the stream."""
    data = stream.read(count)
    if not data:
        return None
    if len(data) != count:
        raise ValueError(f"stream: wanted {count} bytes, got {len(data)}")
    return data


def read_stream(stream):
    """Records (labels, rgb, instances, depth) until the stream ends."""
    while (head := read_exact(stream, 4)) is not None:
        labels = json.loads(read_exact(stream, struct.unpack("<I", head)[0]))
        h, w = labels["height"], labels["width"]
        rgb = np.frombuffer(read_exact(stream, h * w * 3), np.uint8).reshape(h, w, 3)
        instances = np.frombuffer(read_exact(stream, h * w), np.uint8).reshape(h, w)
        depth = np.frombuffer(read_exact(stream, h * w * 4), "<f4").reshape(h, w)
        yield labels, rgb, instances, depth


def offsets(height, width):
    """Padded side, and the picture's left and top offset in it."""
    side = max(height, width)
    return side, (side - width) // 2, (side - height) // 2


def pad_and_resize(rgb, size=SIDE):
    """Square padding with the mean colour and Pillow's bicubic resize."""
    h, w = rgb.shape[:2]
    side, x, y = offsets(h, w)
    square = Image.new("RGB", (side, side), PAD_COLOUR)
    square.paste(Image.fromarray(rgb), (x, y))
    return np.asarray(square.resize((size, size), Image.BICUBIC))


def sample(plane, size, fill):
    """Values of a plane at the centres of a size x size grid over the padded square."""
    h, w = plane.shape
    side, x, y = offsets(h, w)
    centre = ((np.arange(size) + 0.5) * side / size).astype(int)
    rows, cols = centre - y, centre - x
    ok = ((rows >= 0) & (rows < h))[:, None] & ((cols >= 0) & (cols < w))[None]
    out = plane[np.clip(rows, 0, h - 1)[:, None], np.clip(cols, 0, w - 1)[None]].copy()
    out[~ok] = fill
    return out


def region(prompt, instances, grid=GRID):
    """Boolean grid of the cells that a visual prompt (in padded, normalised coordinates) touches."""
    edges = np.arange(grid + 1) / grid
    lo, hi = edges[:-1], edges[1:]
    if prompt["kind"] == "box":
        x0, y0, x1, y1 = prompt["box"]
        return ((hi > y0) & (lo < y1))[:, None] & ((hi > x0) & (lo < x1))[None]
    if prompt["kind"] == "mask":
        h, w = instances.shape
        side, x, y = offsets(h, w)
        rows, cols = np.nonzero(instances == prompt["instance"])
        out = np.zeros((grid, grid), bool)
        out[(rows + y) * grid // side, (cols + x) * grid // side] = True
        return out
    points = np.array([prompt["point"]] if prompt["kind"] == "point" else prompt["scribble"], float)
    if len(points) > 1:
        step = np.linspace(0, 1, 32)[:, None, None]
        points = (points[:-1] * (1 - step) + points[1:] * step).reshape(-1, 2)
    dx = np.maximum(np.maximum(lo - points[:, :1], points[:, :1] - hi), 0)
    dy = np.maximum(np.maximum(lo - points[:, 1:], points[:, 1:] - hi), 0)
    near = dx[:, None] ** 2 + dy[:, :, None] ** 2 <= POINT_RADIUS**2
    return near.any(0)


def normalise(labels):
    """Divide every pixel quantity by the padded side after adding the padding offset, in place."""
    side, x, y = offsets(labels["height"], labels["width"])
    shift = lambda p: [(p[0] + x) / side, (p[1] + y) / side]
    box = lambda b: shift(b[:2]) + shift(b[2:])
    for o in labels["objects"]:
        o["box"] = box(o["box"])
        if "keypoints" in o:
            o["keypoints"] = [[*shift(k), k[2]] for k in o["keypoints"]]
    for turn in labels["turns"]:
        for p in turn["prompts"]:
            if p["kind"] == "box":
                p["box"] = box(p["box"])
            elif p["kind"] == "point":
                p["point"] = shift(p["point"])
            elif p["kind"] == "scribble":
                p["scribble"] = [shift(q) for q in p["scribble"]]
    return labels


def write_shard(path, records):
    """Write one shard atomically."""
    images, instances, depths, regions, scenes = [], [], [], [], []
    for labels, rgb, inst, depth in records:
        labels = normalise(labels)
        images.append(pad_and_resize(rgb))
        instances.append(sample(inst, SIDE // 2, 255))
        depths.append(sample(depth, SIDE // 4, np.nan).astype(np.float16))
        for turn in labels["turns"]:
            turn["region_start"] = len(regions)
            regions += [region(p, inst) for p in turn["prompts"]]
        scenes.append(labels)
    part = path.with_suffix(".part")
    part.mkdir(parents=True, exist_ok=True)
    np.save(part / "images.npy", np.stack(images))
    np.save(part / "instances.npy", np.stack(instances))
    np.save(part / "depth.npy", np.stack(depths))
    np.save(part / "regions.npy", np.array(regions, bool).reshape(-1, GRID, GRID))
    with open(part / "scenes.pickle", "wb") as f:
        pickle.dump(scenes, f, protocol=4)
    os.rename(part, path)


def generate(generator, cache, first_seed, scenes, long_side):
    """Fill the cache with the shards of seeds first_seed .. first_seed + scenes that it lacks; yields scenes done."""
    cache = Path(cache)
    cache.mkdir(parents=True, exist_ok=True)
    for start in range(first_seed, first_seed + scenes, SHARD):
        path = cache / f"{start:08d}"
        if not path.exists():
            count = min(SHARD, first_seed + scenes - start)
            command = [generator, "stream", "--first-seed", str(start), "--scenes", str(count)]
            command += ["--long-side", str(long_side)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=1 << 20) as process:
                write_shard(path, read_stream(process.stdout))
                process.stdout.close()
            if process.wait():
                raise RuntimeError(f"the generator failed with status {process.returncode} at seed {start}")
        yield start + SHARD - first_seed


class Shard:
    """One cached shard, arrays mapped from disk."""

    def __init__(self, path):
        load = lambda name: np.load(path / f"{name}.npy", mmap_mode="r")
        self.images, self.instances, self.depth = load("images"), load("instances"), load("depth")
        self.regions = np.load(path / "regions.npy")
        with open(path / "scenes.pickle", "rb") as f:
            self.scenes = pickle.load(f)

    def __len__(self):
        return len(self.scenes)


class Cache:
    """All shards of a folder whose first seed is in a range; `refresh` picks up new ones."""

    def __init__(self, path, first=0, last=1 << 60):
        self.path, self.first, self.last = Path(path), first, last
        self.names, self.shards = set(), []
        self.refresh()

    def refresh(self):
        """Open shards that appeared since the last call."""
        for path in sorted(self.path.glob("[0-9]*")):
            if path.suffix or path.name in self.names or not self.first <= int(path.name) < self.last:
                continue
            self.names.add(path.name)
            self.shards.append(Shard(path))

    def __len__(self):
        return sum(map(len, self.shards))

    def draw(self, rng, count, wants=lambda scene: True):
        """`count` random (shard, index) pairs of scenes that `wants` accepts."""
        picks = []
        while len(picks) < count:
            shard = self.shards[rng.integers(0, len(self.shards))]
            index = int(rng.integers(0, len(shard)))
            if wants(shard.scenes[index]):
                picks.append((shard, index))
        return picks
