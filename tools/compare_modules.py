"""Compare every module of a model directory with PyTorch, each alone on random inputs, through the example `module`.

    cargo build --release --example module
    python tools/compare_modules.py --model DIR --program target/release/examples/module

Prints the relative error (norm of the difference over norm) of every output that both sides name and fails above 1e-5 or
where an element is off by more than 1e-4 of the tensor's largest. Made with torch 2.15.0, safetensors 0.8.0.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from refvlm.heads import pad_slots
from refvlm.model import load_directory

RELATIVE, ELEMENT = 1e-5, 1e-4


def tokens(x):
    """A map (1, C, H, W) as [cells, C]; tokens (1, L, C) as [L, C]."""
    return (x.flatten(2).transpose(1, 2) if x.dim() == 4 else x)[0]


def visual_encoder(model):
    side = model.config["visual_encoder"]["image_size"]
    pixels = torch.randn(1, 3, side, side)
    states = model.visual_encoder(pixels)
    return {"pixels": pixels}, {f"hidden_states.{i}": s[0] for i, s in enumerate(states)}


def visual_tower(model):
    side = model.config["visual_tower"]["image_size"]
    pixels = torch.randn(1, 3, side, side)
    return {"pixels": pixels}, {f"stages.{i}": tokens(s) for i, s in enumerate(model.visual_tower(pixels))}


def projector(model):
    features = torch.randn(9, model.config["projector"]["visual_hidden_size"])
    return {"features": features}, {"tokens": model.projector(features)}


def vpt_encoder(model):
    c = model.config["visual_encoder"]
    side = c["image_size"] // c["patch_size"]
    features = torch.randn(1, side * side, c["hidden_size"])
    regions = torch.rand(3, side, side) > 0.6
    made = model.vpt_encoder(features, regions, torch.zeros(3, dtype=torch.long)).flatten(0, 1)
    return {"features": features, "regions": regions.float()}, {"tokens": made}


def llm(model):
    ids = torch.randint(0, model.config["llm"]["vocab_size"], (50,))
    mask = torch.ones(50, 50, dtype=torch.bool).tril()[None, None]
    embedded = model.llm.embed(ids)
    hidden = model.llm(embedded[None], torch.arange(50)[None], mask)[0]
    return {"ids": ids}, {"embeddings": embedded, "hidden": hidden, "logits": model.llm.logits(hidden)}


def head(name):
    def run(model):
        module, config = model.visual_decoder[name], model.config
        pixels = torch.randn(1, 3, *[config["visual_encoder"]["image_size"]] * 2)
        selected, states = model.see(pixels)
        side = config["visual_tower"]["image_size"] if "visual_tower" in config else 0
        maps = model.features(selected, states, torch.randn(1, 3, side, side))
        inputs = {f"features.{i}": tokens(m) for i, m in enumerate(maps)}
        latents = torch.randn(2, config["llm"]["hidden_size"])
        out = module(maps, pad_slots(latents[None], module.config["num_queries"]))
        outputs = {k: v[0] for k, v in out.items() if "attention" not in k}
        if "logits" in outputs:
            outputs["logits"] = outputs["logits"].flatten(1)
        if "states" in outputs:
            outputs["hidden"] = outputs.pop("states")
        outputs = {k: v.flatten(0, -2) if v.dim() > 2 else v for k, v in outputs.items()}
        return inputs | {"latents": latents}, outputs

    return run


MODULES = {
    "visual_encoder": visual_encoder,
    "visual_tower": visual_tower,
    "projector": projector,
    "vpt_encoder": vpt_encoder,
    "llm": llm,
    **{f"visual_decoder.{name}": head(name) for name in ("box", "mask", "pose", "depth")},
}


def has(config, name):
    for key in name.split("."):
        config = config.get(key, {})
    return bool(config)


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="model directory with one model.safetensors")
    parser.add_argument("--program", required=True, help="the built example `module`")
    args = parser.parse_args()
    torch.manual_seed(4)
    model = load_directory(args.model)
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        given, written = Path(folder) / "in.safetensors", Path(folder) / "out.safetensors"
        for name, run in MODULES.items():
            if not has(model.config, name):
                continue
            inputs, expected = run(model)
            save_file({k: v.contiguous() for k, v in inputs.items()}, given)
            command = [args.program, "--model", args.model, "--module", name]
            subprocess.run([*command, "--inputs", given, "--outputs", written], check=True, stdout=subprocess.DEVNULL)
            got = load_file(written)
            for key, want in expected.items():
                difference = (got[key].double() - want.double()).abs()
                relative = (difference.norm() / want.double().norm()).item()
                element = (difference.max() / want.abs().max()).item()
                bad = not (relative <= RELATIVE and element <= ELEMENT)
                failed += bad
                print(f"{name:22} {key:18} relative {relative:.1e} element {element:.1e}{'  FAILED' if bad else ''}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
