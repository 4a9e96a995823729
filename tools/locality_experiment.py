"""Does locality alignment do its job on tabletop scenes? A small vision transformer learns image-level labels, is then
aligned, and is probed before and after, beside plain further training of the same model for as many steps and for as many
floating-point operations.

    python tools/locality_experiment.py --work DIR [--seeds 1,2,3]     # everything; goes on where it was stopped
    python tools/locality_experiment.py --work DIR --table             # what there is so far

DIR/data has the pictures (20,000 scenes from seed 0, padded to squares of 96 pixels: as an array, and as a pack for
`align`) and their labels; DIR/seedN has a folder for every part, and results.json. Every command is printed before it runs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from refvlm.data import pad_and_resize, read_stream
from refvlm.targets import COLOURS, SHAPES

ROOT = Path(__file__).resolve().parent.parent
SCENES, HELD, HELD_SEED, SIDE, LONG_SIDE = 20_000, 500, 900_000, 96, 120
BATCH, BASE_STEPS, UPDATES = 16, 5000, 750
# A block's forward pass is 1, its backward pass 2. Plain: 3 passes of 6 blocks. Aligned: those; the teacher's forward pass of
# 5 blocks and the decoder's 3 passes of 2 blocks, for 3 masks each.
PLAIN_COST, ALIGN_COST = 3 * 6, 3 * 6 + 3 * 5 + 3 * 3 * 2
SAME_COST = round(UPDATES * ALIGN_COST / PLAIN_COST)
PAIRS = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES[:-1]]
NAMES = SHAPES + COLOURS + PAIRS
LONGER = ["--rate", "1e-2", "--epochs", "50"]
PROBES = {
    "local": ["--labels", "union"],
    "global": ["--labels", "global-union"],
    # Trained until it stands still: ten times the rate, 50 passes instead of 20.
    "shape": ["--labels", "union", "--classes", "shape", *LONGER],
    "class": ["--labels", "union", *LONGER],
    "picture": ["--labels", "global-union", *LONGER],
}
# Columns of the two tables: heading, probe, field.
TABLES = [
    [("local recall", "local", "recall"), ("local mIoU", "local", "miou"), ("global recall", "global", "recall")],
    [(f"{title} {key}", kind, key) for title, kind in (("6 kinds", "shape"), ("41 classes", "class"), ("picture", "picture"))
     for key in ("recall", "miou", "ap")],
]
ENCODERS = {"base": "base/encoder", "aligned": "align/aligned", "steps": "steps/encoder", "flops": "flops/encoder"}
TITLES = {
    "base": "image-level labels",
    "aligned": f"then aligned, {UPDATES} updates",
    "steps": f"then plain further, {UPDATES} steps",
    "flops": f"then plain further, {SAME_COST} steps (equal FLOPs)",
}


def labels_of(scene):
    """Which kinds, colours and pairs a scene shows."""
    shown = {text for o in scene["objects"] for text in (o["shape"], o["colour"], o["class"])}
    return [name in shown for name in NAMES]


def render(data, generator):
    """Arrays and a folder of PNG files of all scenes; nothing is left half done under the final names."""
    for prefix, first, count in (("", 0, SCENES), ("held_", HELD_SEED, HELD)):
        if (data / f"{prefix}labels.npy").exists():
            continue
        pictures, labels = np.zeros((count, SIDE, SIDE, 3), np.uint8), np.zeros((count, len(NAMES)), bool)
        command = [generator, "stream", "--first-seed", str(first), "--scenes", str(count), "--long-side", str(LONG_SIDE)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            for i, (scene, rgb, _, _) in enumerate(read_stream(process.stdout)):
                pictures[i], labels[i] = pad_and_resize(rgb, SIDE), labels_of(scene)
        if process.returncode:
            raise SystemExit(f"{generator} ended with {process.returncode}")
        np.save(data / f"{prefix}pictures.npy", pictures)
        np.save(data / f"{prefix}labels.npy", labels)


def pack(data, program):
    """The pack that `align` reads."""
    if (data / "pictures.pack").exists():
        return
    folder = data / "png"
    folder.mkdir(exist_ok=True)
    for i, picture in enumerate(np.load(data / "pictures.npy", mmap_mode="r")):
        Image.fromarray(picture).save(folder / f"{i:07}.png")
    run([program, "--images", folder, "--out", data / "new.pack"])
    os.replace(data / "new.pack", data / "pictures.pack")


def run(command):
    """Runs a command; gives the fields of its last line, `result key=value ...`."""
    command = [str(word) for word in command]
    print("$", *command, flush=True)
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        raise SystemExit(f"{command[0]} ended with {process.returncode}")
    return dict(word.split("=", 1) for word in lines[-1].split()[1:])


def chain(seed, work, programs, threads):
    """All parts and probes of a seed; those that results.json has are not run again."""
    data, folder = work / "data", work / f"seed{seed}"
    folder.mkdir(exist_ok=True)
    path = folder / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    train = [sys.executable, "-u", ROOT / "tools/train_labels.py", "--data", data, "--seed", seed, "--batch", BATCH]
    train += ["--threads", threads]
    further = ["--init", folder / "base", "--rate", 3e-4]
    align = [programs / "align", "--model", folder / "base/encoder", "--images", data / "pictures.pack", "--seed", seed]
    align += ["--updates", UPDATES, "--batch", BATCH, "--parts", 2, "--no-augment", "--threads", threads]
    align += ["--checkpoint-minutes", 1, "--out", folder / "align"]
    parts = {
        "base": [*train, "--steps", BASE_STEPS, "--out", folder / "base"],
        "aligned": align,
        "steps": [*train, *further, "--steps", UPDATES, "--out", folder / "steps"],
        "flops": [*train, *further, "--steps", SAME_COST, "--out", folder / "flops"],
    }
    jobs = {}
    for name, command in parts.items():
        jobs[name] = command
        for kind, labels in PROBES.items():
            probe = [programs / "probe", "--model", folder / ENCODERS[name], "--threads", threads, "--seed", seed]
            jobs[f"{name} {kind}"] = [*probe, *labels]
    for name, command in jobs.items():
        if name not in results:
            results[name] = run(command)
            new = path.with_suffix(".new")
            new.write_text(json.dumps(results, indent=1))
            os.replace(new, path)


def figure(numbers):
    """Mean and sample deviation, in percent."""
    spread = statistics.stdev(numbers) if len(numbers) > 1 else float("nan")
    return f"{100 * statistics.mean(numbers):.2f} ± {100 * spread:.2f}" if numbers else ""


def table(work, seeds):
    """Means and spreads over the seeds that have them, as Markdown; then the same of the differences to `base`, by seeds."""
    every = [json.loads(p.read_text()) for s in seeds if (p := work / f"seed{s}" / "results.json").exists()]
    for columns in TABLES:
        print("\n| encoder | seeds |", " | ".join(heading for heading, _, _ in columns), "|")
        print("|---|---|" + "---|" * len(columns))
        kinds = {kind for _, kind, _ in columns}
        for name, title in TITLES.items():
            done = [r for r in every if all(f"{name} {kind}" in r for kind in kinds)]
            cells = [figure([float(r[f"{name} {kind}"][key]) for r in done]) for _, kind, key in columns]
            print(f"| {title} | {len(done)} |", " | ".join(cells), "|")
            if name == "base":
                continue
            both = [r for r in done if all(f"base {kind}" in r for kind in kinds)]
            more = [[float(r[f"{name} {kind}"][key]) - float(r[f"base {kind}"][key]) for r in both] for _, kind, key in columns]
            print("| minus the first | |", " | ".join(figure(numbers) for numbers in more), "|")


def main():
    """Renders, packs, runs every seed, prints the table."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--work", type=Path, required=True)
    p.add_argument("--seeds", type=lambda text: text.split(","), default=["1", "2", "3"])
    p.add_argument("--programs", type=Path, help="folder of the built examples align, pack and probe, and of tabletop")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--table", action="store_true")
    args = p.parse_args()
    if not args.table:
        programs = args.programs
        if programs is None:
            build = ["cargo", "build", "--release", "--features", "finetune-files"]
            subprocess.run([*build, "--example", "align", "--example", "pack", "--example", "probe"], cwd=ROOT, check=True)
            subprocess.run(["cargo", "build", "--release", "-p", "tabletop"], cwd=ROOT, check=True)
            target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
            programs, generator = target / "examples", target / "tabletop"
        else:
            generator = programs / "tabletop"
        data = args.work / "data"
        data.mkdir(parents=True, exist_ok=True)
        render(data, generator)
        pack(data, programs / "pack")
        for seed in args.seeds:
            chain(seed, args.work, programs, args.threads)
    table(args.work, args.seeds)


if __name__ == "__main__":
    main()
