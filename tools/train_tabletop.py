"""Train the small REF-VLM on the tabletop world: one command, resumable, the same on CPU and GPU.

    python tools/train_tabletop.py [--state DIR] [--generator PATH] [--init MODEL_DIR]

Phases: (1) scenes are rendered and cached; (2) the vision transformer learns dense labels; (3) heads on stand-in latents
and the language model, two processes side by side; (4) the pose head alone on mannequins, and the other
heads on the language model's own states; (5) everything end to end, gradients averaged over two processes.
Each process keeps its state in DIR (model, average of the weights, optimiser, step) and goes on from there when the
command is run again. Progress goes to stderr. `tools/export_tabletop.py` turns the state into a model directory.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from refvlm.data import Cache, generate
from refvlm.prompt import IMAGE, VISUAL_PROMPT, plan_text, prompt_text
from refvlm.targets import COLOURS, SHAPES, SIZES
from refvlm.tokenizer import train_tokenizer
from refvlm.work import HELD_OUT, run

ROOT = Path(__file__).resolve().parent.parent
# Steps, scenes a step, rate and turns of each part.
PARTS = {
    "vit": (8000, 16, 1.2e-3, 1),
    "heads": (6000, 16, 1e-3, 4),
    "pose": (3000, 32, 1e-3, 1),
    "language": (8000, 16, 1.5e-3, 6),
    "tune": (2000, 16, 5e-4, 4),
    "joint": (4000, 16, 4e-4, 4),
}


def arguments():
    """The command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--state", type=Path, default=Path.home() / ".cache/triplet/tabletop", help="where states are kept")
    p.add_argument("--generator", help="the `tabletop` program; built with cargo if not given")
    p.add_argument("--scenes", type=int, default=40960, help="training scenes (seeds from 0)")
    p.add_argument("--long-side", type=int, default=320, help="long side of a rendered 4:3 picture")
    p.add_argument("--init", help="model directory to start from")
    p.add_argument("--phase", choices=["scenes", "see", "parts", "tune", "joint"], help="this phase only")
    p.add_argument("--part", choices=list(PARTS), help="this part only, in this process")
    p.add_argument("--steps", type=int, help="total steps of the part or phase")
    p.add_argument("--batch", type=int)
    p.add_argument("--rate", type=float)
    p.add_argument("--turns", type=int)
    p.add_argument("--units", type=lambda text: text.split(","), help="only turns of these units: box,mask,...")
    p.add_argument("--processes", type=int, default=2, help="processes of the scenes and joint phases")
    p.add_argument("--rank", type=int, default=0, help=argparse.SUPPRESS)
    return p.parse_args()


def build_generator():
    """Path of the scene generator, built in release mode."""
    subprocess.run(["cargo", "build", "--release", "-p", "tabletop", "--bin", "tabletop"], cwd=ROOT, check=True)
    return str(Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "tabletop")


def render(a, cache):
    """Held-out scenes, then training scenes."""
    generator = a.generator or build_generator()
    for first, count in ((HELD_OUT, 1024), (0, a.scenes)):
        for done in generate(generator, cache, first, count, a.long_side):
            print(f"scenes {first}: {min(done, count)}/{count}", file=sys.stderr, flush=True)


def make_tokenizer(a, cache):
    """The tokenizer, trained on the first scenes' text, or the one of the model started from."""
    path = a.state / "tokenizer.json"
    if path.exists():
        return
    if a.init:
        path.write_bytes((Path(a.init) / "tokenizer.json").read_bytes())
        return
    texts = []
    for shard in Cache(cache, 0, HELD_OUT).shards[:24]:
        for turn in (t for scene in shard.scenes for t in scene["turns"]):
            prompt = prompt_text(turn["task"], turn["elements"], turn["units"], turn["question"])
            texts += [p for p in prompt.replace(IMAGE, "").split(VISUAL_PROMPT) if p]
            texts.append(plan_text(turn["plan"]) + turn["answer"])
    train_tokenizer(texts, SHAPES + COLOURS + SIZES).save(str(path))


def spawn(a, part, rank=0):
    """Start one part as a process of its own."""
    command = [sys.executable, __file__, "--state", a.state, "--part", part, "--rank", str(rank)]
    for name in ("init", "steps", "batch", "rate", "turns", "processes"):
        if (value := getattr(a, name)) is not None:
            command += [f"--{name}", str(value)]
    if a.units:
        command += ["--units", ",".join(a.units)]
    environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29531"}
    return subprocess.Popen([str(c) for c in command], env={**environment, **os.environ})


def wait(processes):
    """Wait for all; the first failure ends the others."""
    try:
        for p in processes:
            if p.wait():
                raise SystemExit(f"a training process failed with status {p.returncode}")
    finally:
        for p in processes:
            if p.poll() is None:
                p.terminate()


def main():
    """Run the phases in order."""
    a = arguments()
    a.state.mkdir(parents=True, exist_ok=True)
    cache = a.state / "scenes"
    if a.part:
        values = [d if v is None else v for v, d in zip((a.steps, a.batch, a.rate, a.turns), PARTS[a.part])]
        run(a.part, a.state, cache, *values, a.init, a.rank, a.processes if a.part == "joint" else 1, a.units)
    phases = [a.phase] if a.phase else ["scenes", "see", "parts", "tune", "joint"]
    if "scenes" in phases:
        render(a, cache)
    make_tokenizer(a, cache)
    if "see" in phases:
        wait([spawn(a, "vit")])
    if "parts" in phases:
        wait([spawn(a, "heads"), spawn(a, "language")])
    if "tune" in phases:
        wait([spawn(a, "pose"), spawn(a, "tune")])
    if "joint" in phases:
        wait([spawn(a, "joint", rank) for rank in range(a.processes)])


if __name__ == "__main__":
    main()
