"""Locality alignment beside PyTorch: pictures a second and peak memory of the reference recipe, on the same weights.

    cargo build --release --features finetune-files --example time_align
    python benches/peers/align.py --program target/release/examples/time_align --model small [--rounds 3]

Both sides take updates of the published recipe in f32 on random pictures in memory: teacher without its last block on three
masks a picture, soft-capped student, decoder of two blocks, mean squared error, gradient norm, AdamW. PyTorch is eager, timm's
blocks. Rounds alternate, each in a process of its own; the fastest update of all rounds counts, and `ratios` has the ratio
of every round. `processor` is the ratio of PyTorch's processor time to ours, each the least of all updates, so that above 1 we
spend less; it drifts less than wall time where other work runs. Peak memory is VmHWM of the processes; `code_mib` is what PyTorch's process has before it makes anything, and
`own_memory` the ratio without it. With torch 2.15.0, timm 1.0.31.
"""

import argparse
import copy
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
from fixtures_finetune import Student, Teacher, loss_of, repeat, vit

SIZES = {
    "small": dict(img_size=224, patch_size=16, embed_dim=384, depth=12, num_heads=6),
    "base": dict(img_size=224, patch_size=16, embed_dim=768, depth=12, num_heads=12),
}


def write_model(sizes, folder):
    """Random weights as a directory that both sides open."""
    torch.manual_seed(0)
    model = VisionTransformer(num_classes=0, **sizes)
    save_file({f"visual_encoder.{k}": v for k, v in model.state_dict().items()}, folder / "model.safetensors")
    config = {"visual_encoder": {"model_type": "timm_vit", **sizes}, "preprocessor": {"visual_encoder": {}}}
    (folder / "config.json").write_text(json.dumps(config))


def peak_mib():
    """Peak resident memory of this process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def updates(sizes, folder, batch, count, threads):
    """Times updates in this process."""
    torch.set_num_threads(threads)
    code = peak_mib()
    weights = {k.removeprefix("visual_encoder."): v for k, v in load_file(folder / "model.safetensors").items()}
    decoder = dict(layers=2, width=sizes["embed_dim"], heads=sizes["num_heads"], qkv_bias=True, qk_norm=False)
    case = dict(student=dict(sizes, mlp_ratio=4.0, max_attn_val=30.0), teacher=sizes, freeze_encoder=False, mim=False,
                head="linear", prefix_only=False, decoder=dict(decoder, layer_scale=1e-6))
    base = vit(sizes)
    base.load_state_dict(weights)
    teacher = Teacher(copy.deepcopy(base).eval(), sizes["patch_size"], 1, False, False).requires_grad_(False)
    student = Student(case, sizes["patch_size"])
    own = student.encoder.state_dict()
    student.encoder.load_state_dict({k: v for k, v in weights.items() if k in own and not k.startswith("norm.")}, strict=False)
    del base, weights, own
    optimiser = torch.optim.AdamW(student.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.01)
    pictures = torch.rand(batch, 3, sizes["img_size"], sizes["img_size"]) * 4 - 2
    patches = (sizes["img_size"] // sizes["patch_size"]) ** 2
    fastest = least = float("inf")
    for update in range(count + 1):
        start, spent = time.perf_counter(), time.process_time()
        first = (torch.rand(batch, patches) < torch.rand(batch, 1)).float()
        masks = torch.stack([first, 1 - first, torch.ones_like(first)], 1).flatten(0, 1)
        with torch.no_grad():
            target = teacher(repeat(pictures, masks), masks)
        loss = loss_of("mse", student(pictures, masks), target, masks)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        if update:
            fastest, least = min(fastest, time.perf_counter() - start), min(least, time.process_time() - spent)
    print(f"result images_per_s={batch / fastest:.3f} processor_s={least / batch:.3f} peak_mib={peak_mib():.0f} code_mib={code:.0f} loss={loss.item():.5f}")


def figures(command):
    """The fields of a program's last line."""
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return {k: float(v) for k, v in (word.split("=") for word in lines[-1].split()[1:])}


def main():
    """Rounds of both, and their ratio."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--program", help="the built example time_align")
    p.add_argument("--model", choices=SIZES, default="small")
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--updates", type=int, default=2, help="timed updates of a round")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = p.parse_args()
    sizes = SIZES[args.model]
    if args.folder:
        return updates(sizes, args.folder, args.batch, args.updates, args.threads)
    with tempfile.TemporaryDirectory() as folder:
        write_model(sizes, Path(folder))
        words = ["--batch", str(args.batch), "--updates", str(args.updates), "--threads", str(args.threads)]
        ours = [args.program, "--model", folder, *words]
        theirs = [sys.executable, __file__, "--model", args.model, "--folder", folder, *words]
        found = {"triplet": [], "torch": []}
        for round in range(args.rounds):
            for name, command in (("triplet", ours), ("torch", theirs)):
                found[name].append(figures(command))
                print(f"round {round + 1} {name}: {found[name][-1]}", file=sys.stderr, flush=True)
    rate = {name: max(f["images_per_s"] for f in rounds) for name, rounds in found.items()}
    spent = {name: min(f["processor_s"] for f in rounds) for name, rounds in found.items()}
    memory = {name: statistics.median(f["peak_mib"] for f in rounds) for name, rounds in found.items()}
    ratios = [ours["images_per_s"] / theirs["images_per_s"] for ours, theirs in zip(*found.values())]
    code = found["torch"][0]["code_mib"]
    print(f"result model={args.model} batch={args.batch} triplet={rate['triplet']:.3f} torch={rate['torch']:.3f} "
          f"ratio={rate['triplet'] / rate['torch']:.3f} ratios={','.join(f'{r:.2f}' for r in ratios)} "
          f"processor={spent['torch'] / spent['triplet']:.3f} triplet_mib={memory['triplet']:.0f} torch_mib={memory['torch']:.0f} "
          f"memory={memory['triplet'] / memory['torch']:.3f} code_mib={code:.0f} "
          f"own_memory={memory['triplet'] / (memory['torch'] - code):.3f}")


if __name__ == "__main__":
    main()
