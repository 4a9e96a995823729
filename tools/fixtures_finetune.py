"""Makes the fixtures of tests/finetune.rs: ten updates of locality alignment (arXiv 2410.11087) on tiny models of timm.

    python tools/fixtures_finetune.py

Everything is computed in f64 from weights and pictures that f32 holds exactly. A fixture has the weights before training
(`teacher.*`, `student.encoder.*`, `student.decoder.*`), pictures, masks and, of every update, loss, gradient norm and
learning rate; and the weights afterwards. Made with torch 2.15.0, timm 1.0.31, safetensors 0.8.0; every case has its
own fixed seed.
"""

import copy
import math
import types
import zlib
from functools import partial

import numpy
import torch
import torch.nn.functional as F
from PIL import Image
from timm.data import transforms, transforms_factory
from timm.layers import Mlp, get_act_layer
from timm.layers.norm import LayerNorm
from timm.models.vision_transformer import Block, VisionTransformer
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3
from torch import nn

from fixture_io import randomise, write, write_configs

UPDATES = 10
PICTURES = 4
BASE = dict(img_size=16, patch_size=4, embed_dim=16, depth=2, num_heads=2, mlp_ratio=2.0)


def vit(config):
    """A timm model from the fields that the library reads."""
    arguments = {k: v for k, v in config.items() if k not in ("model_type", "max_attn_val", "norm_eps")}
    arguments["act_layer"] = get_act_layer(arguments.get("act_layer", "gelu"))
    arguments["norm_layer"] = partial(LayerNorm, eps=config.get("norm_eps", 1e-6))
    model = VisionTransformer(num_classes=0, **arguments)
    if "max_attn_val" in config:
        soft_cap(model, config["max_attn_val"])
    return model


def soft_cap(model, cap):
    """Scaled attention logits pass through cap * tanh(logit / cap)."""

    def forward(self, x, **kwargs):
        b, n, c = x.shape
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = self.q_norm(q), self.k_norm(k)
        logits = cap * torch.tanh(q @ k.mT * self.scale / cap)
        return self.proj((logits.softmax(-1) @ v).transpose(1, 2).reshape(b, n, c))

    for block in model.blocks:
        block.attn.forward = types.MethodType(forward, block.attn)


def hide(pictures, masks, patch):
    """Pictures (B, 3, H, W) with the patches that masks (B, N) do not keep set to 0, and the rest beyond whole patches."""
    side = pictures.shape[-1] // patch
    kept = masks.unflatten(1, (side, side)).repeat_interleave(patch, 1).repeat_interleave(patch, 2)
    beyond = pictures.shape[-1] - side * patch
    return pictures * F.pad(kept, (0, beyond, 0, beyond))[:, None]


class Teacher(nn.Module):
    """The frozen model without its last blocks, or its pooled vector as one prefix token."""

    def __init__(self, model, patch, skip_blocks, prefix_only, mim):
        super().__init__()
        self.model, self.patch, self.prefix_only, self.mim, self.factor = model, patch, prefix_only, mim, 1.0
        model.blocks = model.blocks[: len(model.blocks) - skip_blocks]

    def forward(self, pictures, masks):
        x = self.model.forward_features(pictures if self.mim else hide(pictures, masks, self.patch))
        if self.prefix_only:
            x = self.model.forward_head(x)[:, None]
        return x * self.factor


class Decoder(nn.Module):
    """Masked tokens and learned positions through timm's blocks to the teacher's width."""

    def __init__(self, config, tokens, prefix, outputs, act, prefix_only):
        super().__init__()
        width = config["width"]
        self.prefix, self.prefix_only = prefix, prefix_only
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, width))
        block = partial(
            Block, width, config["heads"], qkv_bias=config["qkv_bias"], qk_norm=config["qk_norm"],
            init_values=config["layer_scale"], norm_layer=LayerNorm, act_layer=act,
        )
        self.blocks = nn.Sequential(*[block() for _ in range(config["layers"])])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, outputs)

    def forward(self, x, masks):
        x = x * F.pad(masks, (self.prefix, 0))[..., None] + self.pos_embed
        x = self.head(self.norm(self.blocks(x)))
        return x[:, : self.prefix] if self.prefix_only else x


class Student(nn.Module):
    """Encoder and decoder; without a decoder, masked image modelling."""

    def __init__(self, case, patch):
        super().__init__()
        self.patch, self.frozen, self.mim = patch, case["freeze_encoder"], case["mim"]
        model = vit(case["student"])
        act = get_act_layer(case["student"].get("act_layer", "gelu"))
        width = case["student"]["embed_dim"]
        model.attn_pool = model.global_pool = None
        if not self.frozen:
            outputs = width if self.mim else case["decoder"]["width"]
            name = "norm" if not isinstance(model.norm, nn.Identity) else "fc_norm"
            setattr(model, name, LayerNorm(width))
            hidden = int(width * case["student"]["mlp_ratio"])
            linear = case["head"] == "linear"
            model.head = nn.Linear(width, outputs) if linear else Mlp(width, hidden, outputs, act_layer=act)
        self.encoder = model
        if not self.mim:
            tokens = model.patch_embed.num_patches + model.num_prefix_tokens
            self.decoder = Decoder(
                case["decoder"], tokens, model.num_prefix_tokens, case["teacher"]["embed_dim"], act,
                case["prefix_only"],
            )

    def forward(self, pictures, masks):
        if self.mim:
            return self.encode(hide(repeat(pictures, masks), masks, self.patch))
        x = self.encoder.forward_features(pictures) if self.frozen else self.encode(pictures)
        return self.decoder(repeat(x, masks), masks)

    def encode(self, pictures):
        return self.encoder.head(self.encoder.fc_norm(self.encoder.forward_features(pictures)))


def repeat(x, masks):
    """Every picture once for each of its masks."""
    return x.repeat_interleave(len(masks) // len(x), 0)


def loss_of(kind, x, y, masks):
    """The five losses; means run over all elements."""
    if kind == "cosine":
        return 1 - F.cosine_similarity(x, y, dim=-1).mean()
    if kind == "l1":
        return (x - y).abs().mean()
    squares = (x - y) ** 2
    prefix = x.shape[1] - masks.shape[1]
    if kind == "masked_mse":
        squares = squares * (1 - F.pad(masks, (prefix, 0), value=0))[..., None]
    if kind == "unmasked_mse":
        squares = squares * F.pad(masks, (prefix, 0), value=1)[..., None]
    return squares.mean()


def train(case, teacher, student, pictures, masks, validation):
    """Ten updates; gives loss, norm and rate of each, and the average of the weights."""
    results = {"loss": [], "norm": [], "rate": []}
    teach = lambda p, m: teacher(repeat(p, m), m)
    if case["loss"] == "mse":
        with torch.no_grad():
            teacher.factor = teach(pictures, validation).var(correction=0).item() ** -0.5
        results["factor"] = torch.tensor([teacher.factor])
    if case["freeze_encoder"]:
        student.encoder.requires_grad_(False)
    parameters = [p for p in student.parameters() if p.requires_grad]
    decays = {id(p): p.ndim > 1 and not n.endswith(("pos_embed", "cls_token", "reg_token"))
              for n, p in student.named_parameters()}
    groups = [{"params": parameters}] if case["decays"] == "all" else [
        {"params": [p for p in parameters if decays[id(p)]]},
        {"params": [p for p in parameters if not decays[id(p)]], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=case["rate"], betas=(0.9, 0.95), weight_decay=case["weight_decay"])
    schedule = CosineLRScheduler(
        optimiser, t_initial=UPDATES, lr_min=case["rate"] / 10, warmup_t=case["warmup"],
        warmup_lr_init=case["rate"] / 10, t_in_epochs=False,
    )
    average = ModelEmaV3(student, decay=0.9, use_warmup=True) if case["ema"] else None
    per_batch, per_image = 2, len(masks) // (UPDATES * 2 * case["parts"])
    part = 0
    for update in range(UPDATES):
        losses = []
        for _ in range(case["parts"]):
            images = pictures[[(per_batch * part + i) % PICTURES for i in range(per_batch)]]
            m = masks[part * per_batch * per_image :][: per_batch * per_image]
            with torch.no_grad():
                target = teach(images, m)
            loss = loss_of(case["loss"], student(images, m), target, m)
            (loss / case["parts"]).backward()
            losses.append(loss.item())
            part += 1
        norm = nn.utils.clip_grad_norm_(parameters, case["clip"])
        results["rate"].append(optimiser.param_groups[0]["lr"])
        results["loss"].append(sum(losses) / len(losses))
        results["norm"].append(norm.item())
        optimiser.step()
        optimiser.zero_grad()
        if average:
            average.update(student, step=update + 1)
        schedule.step_update(update + 1)
    return {k: torch.as_tensor(v) for k, v in results.items()}, average


def draw(images, patches, full=True):
    """A uniform mask, its complement and the full mask for every picture."""
    kept = (torch.rand(images, patches) > torch.rand(images, 1)).double()
    rows = [kept, 1 - kept] + ([torch.ones_like(kept)] if full else [])
    return torch.stack(rows, 1).flatten(0, 1)


def defaults(**changes):
    decoder = dict(layers=2, width=16, heads=2, qkv_bias=True, qk_norm=False, layer_scale=1e-6)
    decoder |= changes.pop("decoder", {})
    student = dict(BASE, model_type="timm_vit") | changes.pop("vit", {})
    teacher = {k: v for k, v in student.items() if k != "max_attn_val"}
    base = dict(
        head="linear", loss="mse", skip_blocks=1, prefix_only=False, freeze_encoder=False, mim=False, parts=1,
        decays="all", rate=3e-3, weight_decay=0.01, warmup=0, clip=1.0, ema=False, full_mask=True,
    )
    return base | changes | dict(student=student, teacher=teacher, decoder=decoder)


CASES = {
    # The published recipe, plain: class token, decoder with a tiny LayerScale.
    "class": defaults(vit=dict(pre_norm=True, act_layer="quick_gelu", norm_eps=1e-5)),
    # No class token, norms of query and key heads, a hidden layer in the head, two parts to an update.
    "patches": defaults(
        vit=dict(class_token=False, global_pool="map", act_layer="gelu_tanh", qk_norm=True, img_size=18),
        decoder=dict(qk_norm=True, layer_scale=None, width=24, heads=3), head="mlp", loss="cosine", parts=2,
    ),
    # Soft-capped student of a plain teacher, with registers, LayerScale, a moving average, warm-up, timm's exemptions.
    "capped": defaults(
        vit=dict(max_attn_val=2.0, init_values=1e-5, reg_tokens=2, no_embed_class=True, qkv_bias=False),
        decoder=dict(qkv_bias=False, layer_scale=0.1), loss="masked_mse", decays="matrices", weight_decay=0.3,
        warmup=3, ema=True, clip=0.05,
    ),
    # The pooled vector at the prefix token.
    "prefix": defaults(vit=dict(fc_norm=True), loss="mse", skip_blocks=0, prefix_only=True, full_mask=False),
    # The decoder alone learns.
    "frozen": defaults(freeze_encoder=True, loss="l1"),
    # Masked image modelling.
    "mim": defaults(mim=True, skip_blocks=0, loss="unmasked_mse", vit=dict(class_token=True)),
}


def prepare(name, case):
    """Random models and data of a case."""
    torch.manual_seed(zlib.crc32(name.encode()))
    patch = case["student"]["patch_size"]
    side = case["student"]["img_size"]
    with torch.no_grad():
        teacher = randomise(vit(case["teacher"]), torch.float32, gain=1.5)
        student = randomise(Student(case, patch), torch.float32, gain=1.5)
        if case["decoder"]["layer_scale"] == 1e-6 and not case["mim"]:
            for block in student.decoder.blocks:
                for scale in (block.ls1, block.ls2):
                    scale.gamma.fill_(torch.tensor(1e-6).item())
    pictures = torch.randn(PICTURES, 3, side, side).double()
    cells = (side // patch) ** 2
    masks = draw(UPDATES * 2 * case["parts"], cells, case["full_mask"])
    return teacher, student, pictures, masks, draw(PICTURES, cells, case["full_mask"])


def wrap(case, teacher):
    """The teacher of a case."""
    return Teacher(teacher, case["teacher"]["patch_size"], case["skip_blocks"], case["prefix_only"], case["mim"])


def fixture(name, case):
    teacher, student, pictures, masks, validation = prepare(name, case)
    weights = {f"teacher.{k}": v for k, v in copy.deepcopy(teacher.state_dict()).items() if "attn_pool" not in k}
    weights |= {f"student.{k}": v for k, v in copy.deepcopy(student.state_dict()).items()}
    results, average = train(case, wrap(case, teacher), student, pictures, masks, validation)
    trained = {k: p for k, p in student.named_parameters() if p.requires_grad}
    results |= {f"final.{k}": p for k, p in trained.items()}
    if average:
        followed = ("encoder.blocks.0.", "encoder.pos_embed")
        results |= {f"ema.{k}": p for k, p in average.module.named_parameters() if k.startswith(followed)}
    rows = pictures.permute(0, 2, 3, 1).flatten(0, 2)
    inputs = {"pixels": rows, "masks": masks, "validation": validation}
    write(f"finetune_{name}", weights, torch.float32, inputs, results)
    print(f"  loss {results['loss'][0]:.4f} to {results['loss'][-1]:.4f}, norm {results['norm'][0]:.4f} to {results['norm'][-1]:.4f}")


class Drawn:
    """Stands for the module `random` where the draws of an augmentation are given."""

    def __init__(self, area, aspect, bicubic):
        self.shares, self.values, self.bicubic = [area, aspect], [area, aspect and math.log(aspect)], bicubic

    def random(self):
        return 0.0 if self.shares.pop(0) else 1.0

    def uniform(self, low, high):
        self.values = [v for v in self.values if v is not None]
        return self.values.pop(0)

    def choice(self, filters):
        return filters[self.bicubic]


def augmentations():
    """timm's "rkrc" on random pictures with given draws: width, height, side, area, aspect, bicubic, flip."""
    torch.manual_seed(5)
    draws = [
        (40, 30, 24, None, None, 1, 0), (30, 41, 24, 0.3, None, 0, 1), (33, 20, 24, None, 1.3, 1, 1),
        (20, 33, 24, None, 0.76, 0, 0), (57, 24, 16, 0.9, 0.8, 1, 0), (15, 15, 24, 0.08, 1.25, 0, 1),
        (23, 23, 23, None, None, 0, 1), (9, 12, 24, None, 1.33, 1, 0),
    ]
    inputs, outputs = {}, {}
    for i, (width, height, side, area, aspect, bicubic, flip) in enumerate(draws):
        picture = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8)
        steps = transforms_factory.transforms_imagenet_train(
            side, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3), train_crop_mode="rkrc", interpolation="random", hflip=0.0,
            color_jitter=None, normalize=False, use_prefetcher=True, mean=(0,), std=(1,),
        ).transforms[:2]
        transforms.random = Drawn(area, aspect, bicubic)
        image = Image.fromarray(picture.numpy())
        for step in steps:
            image = step(image)
        out = torch.from_numpy(numpy.array(image))
        inputs[f"picture{i}"] = picture
        inputs[f"draws{i}"] = torch.tensor([side, area or 0, aspect or 0, bicubic, flip])
        outputs[f"square{i}"] = out.flip(1) if flip else out
    write("finetune_augment", {}, torch.float32, inputs, outputs)


if __name__ == "__main__":
    augmentations()
    for name, case in CASES.items():
        fixture(name, case)
    write_configs("finetune", CASES)
