"""Turn a training state into the model directory that ships, and score it on held-out scenes.

    python tools/export_tabletop.py --state DIR --out examples/tabletop/model [--score SCENES] [--hours H] [--machine TEXT]
"""

import argparse
import json
from pathlib import Path

import torch
from refvlm.data import Cache
from refvlm.demo import config
from refvlm.model import RefVlm, initialise, load_directory, save_directory
from refvlm.score import evaluate
from refvlm.tokenizer import load_tokenizer
from refvlm.work import HELD_OUT, averages, gather_parts

CARD = """# A small REF-VLM for the tabletop world

{parameters:.2f} M parameters in f16. Image 192 x 192 (padded to a square), vision transformer (5 layers of 192), ConvNeXt tower
(32/64/128/96), language model (4 layers of 192, {vocab} tokens), box, mask, pose and depth head.

- Command: `python tools/train_tabletop.py`, then `python tools/export_tabletop.py` (seeds fixed in the scripts).
- Training: {steps}; {hours} on {machine}.
- Scenes: rendered by `examples/tabletop` from seeds below 900,000; seeds 1,000,000 to 1,000,499 are never trained on.

Figures on {scenes} held-out scenes (seeds from 900,000; one question of every task of a scene; greedy, unguided):

| | free-running | teacher-forced |
|---|---|---|
{rows}

The figures say how far training has come; they are not a claim of quality. `cargo run --release --example evaluate` gives
the figures of the shipped files on the evaluation's own scenes.
"""


def main():
    """Gather, save, score, write the card."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--state", type=Path, default=Path.home() / ".cache/triplet/tabletop")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--score", type=int, default=100, help="held-out scenes to score on")
    p.add_argument("--hours", default="unknown time")
    p.add_argument("--machine", default="an unnamed machine")
    a = p.parse_args()
    tokenizer = load_tokenizer(a.state / "tokenizer.json")
    model = RefVlm(config(tokenizer.get_vocab_size()))
    initialise(model)
    steps = gather_parts(model, a.state)
    if found := averages(a.state, "joint"):
        own = model.state_dict()
        own.update({k: v for k, v in found[0].items() if k in own})
        model.load_state_dict(own)
        steps["joint"] = found[1]
    save_directory(model, a.out)
    tokenizer.save(str(a.out / "tokenizer.json"))
    model = load_directory(a.out)
    (a.out / "model.safetensors").chmod(0o644)
    cache = Cache(a.state / "scenes", HELD_OUT, 1_000_000)
    free = evaluate(model, tokenizer, cache, a.score)
    forced = evaluate(model, tokenizer, cache, a.score, forced=True)
    rows = [f"| {k} | {free[k]:.3f} | {forced[k]:.3f} |" for k in free if k != "tasks"]
    print(json.dumps({"free": free, "forced": forced, "steps": steps}))
    text = CARD.format(
        parameters=sum(v.numel() for v in model.parameters()) / 1e6,
        vocab=tokenizer.get_vocab_size(),
        steps=", ".join(f"{k} {v} steps" for k, v in steps.items()) or "none",
        hours=a.hours,
        machine=a.machine,
        scenes=a.score,
        rows="\n".join(rows),
    )
    (a.out / "README.md").write_text(text)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
