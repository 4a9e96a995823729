"""The decoder heads in PyTorch, put together from transformers' own modules, at the sizes of the reference's configurations.

    python heads.py export DIR
    cargo build --release --example time
    python heads.py compare DIR --ours target/release/examples/time [--works box_tower,mask_tower] [--rounds 10]

`export` writes `DIR/WORK` for every entry of WORKS: a model directory with random weights, the head's inputs and what PyTorch
makes of them (`examples/module` runs the same head on them and writes what it computes). `compare` lets both sides run in turn, each
in a process of its own, and prints our time over PyTorch's.

The maps: with the tower the stages of a ConvNeXt at 512 pixels (192, 384 and 768 channels at 128, 64 and 32 cells a side)
and the features of a ViT-L/14-336 (1024 channels, 24 cells); without it layers 8, 16 and 23 of the ViT.
"""
import argparse
import json
import pathlib
import statistics
import sys
import time

import torch
import torch.nn.functional as F
import transformers as hf
from torch import nn
from transformers.models.detr.modeling_detr import DetrDecoder
from transformers.models.maskformer.modeling_maskformer import MaskFormerPixelDecoder, MaskformerMLPPredictionHead

from interleave import Engine

TOWER = [(192, 128), (384, 64), (768, 32), (1024, 24)]
PLAIN = [(1024, 24)] * 3
DECODER = {"decoder_layers": 6, "decoder_ffn_dim": 2048, "decoder_attention_heads": 8, "d_model": 256,
           "activation_function": "relu"}
LATENT = 4096
POINTS = 17


def works():
    """Name of the work: head, its maps, its configuration, number of latents."""
    found = {}
    for suffix, maps in (("tower", TOWER), ("plain", PLAIN)):
        dims = [channels for channels, _ in maps]
        chosen = {"encoder_input_index": list(range(len(maps))), "encoder_input_dim": dims}
        concat = chosen | {"encoder_input_transform": "resize_concat"}
        decoder = DECODER | {"quries_input_dim": LATENT}
        found[f"box_{suffix}"] = ("box", maps, decoder | concat | {"num_queries": 100}, 5)
        select = chosen | {"encoder_input_transform": "multiple_select"}
        sizes = {"num_queries": 30, "fpn_feature_size": 256, "mask_feature_size": 256}
        found[f"mask_{suffix}"] = ("mask", maps, decoder | select | sizes, 5)
        for queries in (20, 100):
            second = DECODER | {"quries_input_dim": 256, "num_body_points": POINTS}
            pose = concat | {"num_queries": queries, "box_config": decoder, "keypoint_config": second}
            found[f"pose{queries}_{suffix}"] = ("pose", maps, pose, 5)
    return found


WORKS = works()


def mlp(sizes):
    return nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))


def run_mlp(layers, x):
    for layer in layers[:-1]:
        x = F.relu(layer(x))
    return layers[-1](x)


def sine(side, dim):
    """DETR's position embedding (1, side * side, dim), normalised to 2 pi: y first, then x."""
    steps = torch.arange(1, side + 1, dtype=torch.float64) / (side + 1e-6) * 2 * torch.pi
    scale = 10000 ** (torch.arange(0, dim // 2, 2, dtype=torch.float64) / (dim // 2))
    waves = steps[:, None] / scale
    axis = torch.stack((waves.sin(), waves.cos()), -1).flatten(1)
    down, across = axis[:, None].expand(-1, side, -1), axis[None].expand(side, -1, -1)
    return torch.cat((down, across), -1).reshape(1, side * side, dim).float()


def decoder(config):
    fields = {key: config[key] for key in DECODER}
    return DetrDecoder(hf.DetrConfig(**fields, attn_implementation="sdpa"))


class Queries(nn.Module):
    """What box and keypoint decoder share."""

    def __init__(self, config, maps, slots):
        super().__init__()
        dim = config["d_model"]
        self.side = maps[0][1]
        self.in_proj_visual_feats = nn.Linear(sum(channels for channels, _ in maps), dim)
        self.in_proj_queries = nn.Linear(config["quries_input_dim"], dim)
        self.query_position_embeddings = nn.Embedding(slots, dim)
        self.decoder = decoder(config)
        self.register_buffer("positions", sine(self.side, dim), persistent=False)

    def decode(self, maps, queries):
        size = (self.side, self.side)
        same = [m if m.shape[-1] == self.side else F.interpolate(m, size, mode="bilinear") for m in maps]
        memory = self.in_proj_visual_feats(torch.cat(same, 1).flatten(2).transpose(1, 2))
        return self.decoder(inputs_embeds=queries, encoder_hidden_states=memory,
                            spatial_position_embeddings=self.positions,
                            object_queries_position_embeddings=self.query_position_embeddings.weight[None],
                            ).last_hidden_state


class Box(Queries):
    def __init__(self, config, maps):
        super().__init__(config, maps, config["num_queries"])
        dim = config["d_model"]
        self.predictor = nn.ModuleDict({"layers": mlp([dim, dim, dim, 4])})

    def states(self, maps, latents):
        return self.decode(maps, self.in_proj_queries(latents))

    def forward(self, maps, latents):
        return {"boxes": run_mlp(self.predictor["layers"], self.states(maps, latents)).sigmoid()}


class Keypoints(Queries):
    def __init__(self, config, maps):
        super().__init__(config, maps, config["num_queries"] * (POINTS + 1))
        dim = config["d_model"]
        self.kpt_embedding = nn.Embedding(POINTS + 1, dim)
        self.box_predictor = nn.ModuleDict({"layers": mlp([dim, dim, dim, 4])})
        self.kpt_predictor = nn.ModuleDict({"layers": mlp([dim, dim, dim, 2])})
        self.kpt_classifier = nn.Linear(dim, 2)

    def forward(self, maps, states):
        queries = self.in_proj_queries(states)[:, :, None] + self.kpt_embedding.weight
        out = self.decode(maps, queries.flatten(1, 2)).view(*states.shape[:2], POINTS + 1, -1)
        first, rest = out[:, :, 0], out[:, :, 1:].flatten(1, 2)
        return {"boxes": run_mlp(self.box_predictor["layers"], first).sigmoid(),
                "keypoints": run_mlp(self.kpt_predictor["layers"], rest).sigmoid(),
                "visibility": self.kpt_classifier(rest)}


class Pose(nn.Module):
    def __init__(self, config, maps):
        super().__init__()
        shared = {"num_queries": config["num_queries"]}
        self.box_decoder = Box(config["box_config"] | shared, maps)
        self.kpt_decoder = Keypoints(config["keypoint_config"] | shared, maps)

    def forward(self, maps, latents):
        return self.kpt_decoder(maps, self.box_decoder.states(maps, latents))


class Mask(nn.Module):
    def __init__(self, config, maps):
        super().__init__()
        dim, dims = config["d_model"], [channels for channels, _ in maps]
        self.pixel_decoder = MaskFormerPixelDecoder(dims[-1], feature_size=256, mask_feature_size=256,
                                                    lateral_widths=dims[:-1])
        self.in_proj_visual_feats = nn.Conv2d(dims[-1], dim, 1)
        self.in_proj_queries = nn.Linear(config["quries_input_dim"], dim)
        self.query_position_embeddings = nn.Embedding(config["num_queries"], dim)
        self.query_decoder = decoder(config)
        self.mask_embedder = MaskformerMLPPredictionHead(dim, dim, 256)
        self.register_buffer("positions", sine(maps[-1][1], dim), persistent=False)

    def forward(self, maps, latents):
        pixels = self.pixel_decoder(maps).last_hidden_state
        memory = self.in_proj_visual_feats(maps[-1]).flatten(2).transpose(1, 2)
        states = self.query_decoder(inputs_embeds=self.in_proj_queries(latents), encoder_hidden_states=memory,
                                    spatial_position_embeddings=self.positions,
                                    object_queries_position_embeddings=self.query_position_embeddings.weight[None],
                                    ).last_hidden_state
        return {"logits": torch.einsum("rqc,rchw->rqhw", self.mask_embedder(states), pixels).flatten(2)}


HEADS = {"box": Box, "mask": Mask, "pose": Pose}


def build(work):
    """The head with its inputs: maps (1, C, S, S) and latents, padded with zeros to all query slots."""
    head, maps, config, count = WORKS[work]
    torch.manual_seed(0)
    module = HEADS[head](config, maps).eval()
    features = [torch.randn(1, channels, side, side) for channels, side in maps]
    latents = torch.zeros(1, config["num_queries"], LATENT)
    latents[:, :count] = torch.randn(1, count, LATENT)
    return module, features, latents


def run(work, threads):
    """Something to call for one run."""
    torch.set_num_threads(threads)
    module, features, latents = build(work)

    def once():
        with torch.inference_mode():
            return module(features, latents)
    return once


def export(work, folder):
    from safetensors.torch import save_file
    head, _, config, count = WORKS[work]
    module, features, latents = build(work)
    with torch.inference_mode():
        made = module(features, latents)
    folder = pathlib.Path(folder) / work
    folder.mkdir(parents=True, exist_ok=True)
    renamed = {key.replace(".mlp.fc", ".fc").replace(".o_proj.", ".out_proj."): value
               for key, value in module.state_dict().items()}
    save_file({f"visual_decoder.{head}.{key}": value.contiguous() for key, value in renamed.items()},
              folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"visual_decoder": {head: config}}, indent=1))
    (folder / "tokenizer.json").write_text("{}")
    inputs = {f"features.{index}": value.contiguous() for index, value in enumerate(features)}
    save_file(inputs | {"latents": latents[0, :count].contiguous()}, folder / "inputs.safetensors")
    save_file({key: value[0].contiguous() for key, value in made.items()}, folder / "outputs.safetensors")


def serve(work, threads):
    """PyTorch's side of `compare`: one run for every line of standard input."""
    once = run(work, threads)
    once()
    once()
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        once()
        print(f"ms {(time.perf_counter() - start) * 1e3:.3f}", flush=True)


def compare(work, arguments):
    threads = str(arguments.threads)
    isa = ["--isa", arguments.isa] if arguments.isa else []
    ours = Engine("triplet", [arguments.ours, "heads", "--model", f"{arguments.dir}/{work}", "--threads", threads, "--step"] + isa)
    torch_side = Engine("torch", [sys.executable, __file__, "serve", work, threads])
    for index in range(arguments.rounds + 1):
        for engine in (ours, torch_side):
            engine.step(counts=index > 0)
        ours.roof()
    for engine in (ours, torch_side):
        engine.end()
    def ratio(of):
        return of(ours.wall) / of(torch_side.wall)
    fraction = dict(word.split("=") for word in ours.result.split()[1:])["fraction_of_roof"]
    print(f"{work:14s} ours {min(ours.wall):8.1f} {statistics.median(ours.wall):8.1f}  torch {min(torch_side.wall):8.1f} "
          f"{statistics.median(torch_side.wall):8.1f}  ratio {ratio(min):.3f} {ratio(statistics.median):.3f}  "
          f"processor {min(ours.cpu) / min(torch_side.cpu):.3f}  of the FMA rate {fraction}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("export").add_argument("dir")
    side = commands.add_parser("serve")
    side.add_argument("work", choices=WORKS)
    side.add_argument("threads", type=int)
    both = commands.add_parser("compare")
    both.add_argument("dir")
    both.add_argument("--ours", required=True, metavar="BINARY")
    both.add_argument("--works", default=",".join(WORKS))
    both.add_argument("--rounds", type=int, default=10)
    both.add_argument("--threads", type=int, default=2)
    both.add_argument("--isa")
    arguments = parser.parse_args()
    if arguments.command == "serve":
        return serve(arguments.work, arguments.threads)
    if arguments.command == "compare":
        print("milliseconds: minimum and median of each, then our time over PyTorch's by minima and by medians")
    for work in (arguments.works.split(",") if arguments.command == "compare" else WORKS):
        if arguments.command == "compare":
            compare(work, arguments)
        else:
            export(work, arguments.dir)
            print(work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
