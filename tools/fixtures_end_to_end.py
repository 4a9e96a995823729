"""Write tests/fixtures/end_to_end/: a tiny random model directory, a picture, and what PyTorch makes of them.

One question with two visual prompts is answered with three triplets (two boxes, a mask, a person's joints), another one
with a depth map; both answers are given (teacher forcing). The first is answered once more with a `vd_adapter`, whose
weights and fields lie beside. Weights are exact in f16 and lie in shards; outputs are f32.

Made with torch 2.15.0, tokenizers 0.23.3, safetensors 0.8.0, pillow:  python tools/fixtures_end_to_end.py
"""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file

from refvlm.adapter import MlpBlock, VdAdapter
from refvlm.heads import pad_slots
from refvlm.model import RefVlm
from refvlm.prompt import TEMPLATE, encode_answer, encode_prompt, prompt_text
from refvlm.tokenizer import BOS, EOS, train_tokenizer

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "end_to_end"
SIDE, PATCH, PICTURE = 32, 8, (40, 28)
GRID = SIDE // PATCH
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PAD_COLOUR = (122, 116, 104)
WIDTHS = (8, 8, 16, 24)
DIM = 32
SHARD_BYTES = 280_000
POINT_RADIUS = 10 / 336

ADAPTER = {
    "ref_max_length": 3,
    "phrase_max_length": 4,
    "d_input_image": DIM,
    "d_input_token": DIM,
    "d_model": DIM,
    "n_heads": 4,
    "d_ffn": 48,
    "num_layers": 2,
}

POINT, BOX = [11.5, 9.25], [20.0, 4.5, 37.5, 22.0]
QUESTIONS = [
    {
        "task": "gcg_detection",
        "elements": ["phrase", "sentence", "unit"],
        "units": ["box", "mask", "keypoint"],
        "question": "What is [VPT] next to [VPT]?",
        "prompts": [("point", POINT), ("box", BOX)],
        "plan": [
            {"name": "red ball", "unit": "box", "num": 2},
            {"name": "blue can", "unit": "mask", "num": 1},
            {"name": "person", "unit": "keypoint", "num": 1},
        ],
        "answer": "There are <Phrase>red ball</Phrase>(<Unit>box</Unit>[0]<REF>[1]<REF>), "
        "<Phrase>blue can</Phrase>(<Unit>mask</Unit>[0]<REF>) and "
        "<Phrase>person</Phrase>(<Unit>keypoint</Unit>[0]<REF>).",
    },
    {
        "task": "depth",
        "elements": ["phrase", "unit"],
        "units": ["depth"],
        "question": "How far away is everything?",
        "prompts": [],
        "plan": [{"name": "scene", "unit": "depth", "num": 1}],
        "answer": "<Phrase>scene</Phrase>(<Unit>depth</Unit>[0]<REF>)",
    },
]


def processor():
    """Fields of HF's CLIPImageProcessor."""
    return {
        "size": {"shortest_edge": SIDE},
        "crop_size": {"height": SIDE, "width": SIDE},
        "resample": 3,
        "image_mean": list(MEAN),
        "image_std": list(STD),
        "rescale_factor": 1 / 255,
    }


def decoder(dim):
    """Fields of a DETR decoder."""
    return {
        "d_model": dim,
        "decoder_layers": 2,
        "decoder_ffn_dim": 48,
        "decoder_attention_heads": 4,
        "activation_function": "relu",
        "auxiliary_loss": False,
    }


def config(vocab):
    """`config.json` of the tiny model."""
    boxes = {
        "encoder_input_transform": "resize_concat",
        "encoder_input_index": [1, 2, 3, 4],
        "encoder_input_dim": [*WIDTHS[1:], DIM],
    }
    masks = {
        "num_queries": 3,
        "quries_input_dim": DIM,
        "encoder_input_transform": "multiple_select",
        "encoder_input_index": [0, 1, 4],
        "encoder_input_dim": [WIDTHS[0], WIDTHS[1], DIM],
        "fpn_feature_size": 32,
        "mask_feature_size": 16,
        **decoder(16),
    }
    return {
        "visual_encoder": {
            "model_type": "clip_vision_model",
            "hidden_size": DIM,
            "intermediate_size": 2 * DIM,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_channels": 3,
            "image_size": SIDE,
            "patch_size": PATCH,
            "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5,
        },
        "visual_tower": {"model_type": "timm_convnext", "depths": [1, 1, 2, 1], "dims": WIDTHS, "image_size": SIDE},
        "projector": {"visual_hidden_size": DIM, "llm_hidden_size": DIM, "depth": 2, "hidden_act": "gelu"},
        "vpt_encoder": {
            "strategy": "pooling",
            "num_patches": 4,
            "patch_size": 8,
            "visual_hidden_size": DIM,
            "use_mask_token": True,
            "use_projector": False,
            "llm_hidden_size": DIM,
        },
        "llm": {
            "model_type": "llama",
            "hidden_size": DIM,
            "intermediate_size": 56,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": vocab,
            "max_position_embeddings": 512,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "hidden_act": "silu",
            "tie_word_embeddings": False,
            "bos_token_id": 0,
            "eos_token_id": 1,
        },
        "visual_decoder": {
            "box": {"num_queries": 5, "quries_input_dim": DIM, **boxes, **decoder(32)},
            "mask": masks,
            "pose": {
                "num_queries": 2,
                **boxes,
                "box_config": {"quries_input_dim": DIM, **decoder(16)},
                "keypoint_config": {"quries_input_dim": 16, "num_body_points": 17, **decoder(16)},
            },
            "depth": {**masks, "num_queries": 2, "depth_range": [0.25, 6.0]},
        },
        "visual_select_layer": -2,
        "prompt_template": TEMPLATE,
        "preprocessor": {"visual_encoder": processor(), "visual_tower": processor()},
        "unit_heads": {"box": "box", "mask": "mask", "keypoint": "pose", "depth": "depth"},
    }


def randomise(model):
    """Weights of visible size, exact in f16."""
    for name, tensor in model.named_parameters():
        if tensor.dim() == 1:
            tensor.data.normal_(std=0.1)
            if "norm" in name and name.endswith("weight"):
                tensor.data.add_(1.0)
        elif "embed" in name:
            tensor.data.normal_(std=0.7)
        else:
            tensor.data.normal_(std=1.3 * tensor[0].numel() ** -0.5)
        tensor.data.copy_(tensor.data.half().float())


def write_shards(state):
    """`model-*.safetensors` and their index."""
    shards, size = [{}], 0
    for name, tensor in sorted(state.items()):
        tensor = tensor.half().contiguous()
        if size + tensor.nbytes > SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    index = {}
    for i, shard in enumerate(shards):
        file = f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, FOLDER / file)
        index.update({name: file for name in shard})
    (FOLDER / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}, indent=1) + "\n")


class ZeroEmptySlots(torch.nn.Module):
    """A projection of latents whose empty slots stay zero, as behind the adapter."""

    def __init__(self, linear, count):
        super().__init__()
        self.linear, self.count = linear, count

    def forward(self, x):
        y = self.linear(x)
        y[:, self.count :] = 0
        return y


def write_adapter():
    """A `vd_adapter` of tiny inner width; its fields and weights."""
    adapter = VdAdapter(ADAPTER)
    adapter.in_proj_image = MlpBlock(DIM, 24, F.gelu)
    adapter.in_proj_text = MlpBlock(DIM, 24, F.gelu)
    randomise(adapter)
    matrix = adapter.pe_image.positional_encoding_gaussian_matrix
    matrix.copy_(matrix.half().float())
    state = {f"vd_adapter.{k}": v.half().contiguous() for k, v in adapter.state_dict().items()}
    save_file(state, FOLDER / "adapter.safetensors")
    (FOLDER / "adapter.json").write_text(json.dumps(ADAPTER, indent=2) + "\n")
    return adapter.eval()


def adapted(adapter, hidden, image_first, prompt, written, count, tokenizer):
    """REF latents of all groups and the picture's tokens from hidden states one position before every token."""
    at = [i for i, id in enumerate(written) if id == tokenizer.token_to_id("<REF>")]
    opens = [i for i, id in enumerate(written) if id == tokenizer.token_to_id("<Phrase>")]
    closes = [i for i, id in enumerate(written) if id == tokenizer.token_to_id("</Phrase>")]
    phrases = [hidden[prompt + o - 1 : prompt + c] for o, c in zip(opens, closes)]
    refs = list(hidden[[prompt + i - 1 for i in at]].split(count))
    return adapter(hidden[image_first : image_first + GRID * GRID], phrases, refs)


def geometry():
    """Padded side, left and top offset of the picture."""
    side = max(PICTURE)
    return side, (side - PICTURE[0]) // 2, (side - PICTURE[1]) // 2


def pixels(rgb):
    """The normalised square, (1, 3, SIDE, SIDE)."""
    side, x, y = geometry()
    square = Image.new("RGB", (side, side), PAD_COLOUR)
    square.paste(Image.fromarray(rgb), (x, y))
    array = np.asarray(square.resize((SIDE, SIDE), Image.BICUBIC)).astype(np.float64) / 255
    array = (array - np.array(MEAN)) / np.array(STD)
    return torch.from_numpy(array.transpose(2, 0, 1)).float()[None]


def region(kind, shape):
    """Cells of the grid that a point or a box touches, (GRID, GRID)."""
    side, x, y = geometry()
    edges = np.arange(GRID + 1) / GRID
    low, high = edges[:-1], edges[1:]
    if kind == "box":
        x0, y0, x1, y1 = [(v + o) / side for v, o in zip(shape, (x, y, x, y))]
        return ((high > y0) & (low < y1))[:, None] & ((high > x0) & (low < x1))[None]
    px, py = (shape[0] + x) / side, (shape[1] + y) / side
    dx = np.maximum(np.maximum(low - px, px - high), 0)
    dy = np.maximum(np.maximum(low - py, py - high), 0)
    return dx[None] ** 2 + dy[:, None] ** 2 <= POINT_RADIUS**2


def to_picture(logits):
    """Sigmoid maps (n, h, w), bilinear to the padded square, cut to the picture."""
    side, x, y = geometry()
    maps = F.interpolate(logits.sigmoid()[None], (side, side), mode="bilinear", align_corners=False)[0]
    return maps[:, y : y + PICTURE[1], x : x + PICTURE[0]]


def corners(boxes):
    """Normalised centre boxes to corners in pixels of the picture, cut to it."""
    side, x, y = geometry()
    cx, cy, w, h = (boxes * side).unbind(-1)
    out = torch.stack((cx - w / 2 - x, cy - h / 2 - y, cx + w / 2 - x, cy + h / 2 - y), -1)
    return out.clamp(min=torch.zeros(4), max=torch.tensor([*PICTURE, *PICTURE]).float())


@torch.no_grad()
def answer(model, tokenizer, rgb, question, adapter=None):
    """Tensors of one teacher-forced answer."""
    image = pixels(rgb)
    selected, states = model.see(image)
    maps = model.features(selected, states, image)
    tokens = model.projector(selected)[0]
    out = {"selected": selected[0], "tokens": tokens}

    prompt_tokens = torch.zeros(0, DIM)
    if question["prompts"]:
        regions = torch.from_numpy(np.stack([region(*p) for p in question["prompts"]]))
        rows = torch.zeros(len(regions), dtype=torch.long)
        prompt_tokens = model.projector(model.vpt_encoder(selected, regions, rows)).flatten(0, 1)
        out["prompt_tokens"] = prompt_tokens

    text = prompt_text(question["task"], question["elements"], question["units"], question["question"])
    prompt = encode_prompt(tokenizer, text, 0, GRID * GRID, 5)
    written = encode_answer(tokenizer, question["plan"], question["answer"], 1)
    ids = torch.tensor(prompt + written[:-1])
    embedded = model.llm.embed(ids.clamp(min=0))
    embedded[ids == -200] = tokens
    embedded[ids == -300] = prompt_tokens
    length = len(ids)
    mask = torch.ones(length, length, dtype=torch.bool).tril()[None, None]
    hidden = model.llm(embedded[None], torch.arange(length)[None], mask)[0]
    out |= {"prompt": torch.tensor(prompt).float(), "answer": torch.tensor(written).float()}
    out |= {"hidden": hidden, "logits": model.llm.logits(hidden[len(prompt) - 1 :])}

    reference = tokenizer.token_to_id("<REF>")
    latents = hidden[len(prompt) :][torch.tensor(written[:-1]) == reference]
    if adapter is not None:
        counts = [item["num"] for item in question["plan"]]
        latents, maps[-1] = adapted(adapter, hidden, prompt.index(-200), len(prompt), written, counts, tokenizer)
        maps[-1] = maps[-1][None]
        out = {"latents": latents, "image": maps[-1][0]}
    first = 0
    for item in question["plan"]:
        head = {"keypoint": "pose"}.get(item["unit"], item["unit"])
        module, count = model.visual_decoder[head], item["num"]
        slots = pad_slots(latents[None, first : first + count], module.config["num_queries"])
        decoder = getattr(module, "box_decoder", module)
        project = decoder.in_proj_queries
        if adapter is not None:
            decoder.in_proj_queries = ZeroEmptySlots(project, count)
        result = module(maps, slots)
        decoder.in_proj_queries = project
        first += count
        if head == "box":
            out["box"] = corners(result["boxes"][0, :count])
        elif head == "pose":
            side, x, y = geometry()
            out["keypoint.area"] = corners(result["boxes"][0, :count])
            out["keypoint.points"] = result["keypoints"][0, :count] * side - torch.tensor([x, y]).float()
            out["keypoint.visibility"] = result["visibility"][0, :count].sigmoid()
        else:
            maps_of = to_picture(result["logits"][0, :count])
            near, far = module.config.get("depth_range", (0.0, 1.0))
            out[head] = near + maps_of * (far - near)
    return out


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(2)
    rgb = np.random.default_rng(3).integers(0, 256, (PICTURE[1], PICTURE[0], 3), dtype=np.uint8)
    texts = [q["question"] + " " + q["answer"] for q in QUESTIONS]
    tokenizer = train_tokenizer(texts, ["red", "blue", "ball", "can", "person", "scene", "box", "mask", "unit"])
    tokenizer.save(str(FOLDER / "tokenizer.json"))
    assert tokenizer.token_to_id(BOS) == 0 and tokenizer.token_to_id(EOS) == 1
    fields = config(tokenizer.get_vocab_size())
    (FOLDER / "config.json").write_text(json.dumps(fields, indent=2) + "\n")

    model = RefVlm(fields).eval()
    randomise(model)
    write_shards(model.state_dict())
    tensors = {"picture": torch.from_numpy(rgb.copy()).float()}
    for i, question in enumerate(QUESTIONS):
        for name, tensor in answer(model, tokenizer, rgb, question).items():
            tensors[f"{i}.{name}"] = tensor.contiguous()
    save_file(tensors, FOLDER / "outputs.safetensors")
    made = answer(model, tokenizer, rgb, QUESTIONS[0], write_adapter())
    save_file({k: v.contiguous() for k, v in made.items()}, FOLDER / "adapter_outputs.safetensors")
    for path in sorted(FOLDER.iterdir()):
        print(f"{path.name} {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
