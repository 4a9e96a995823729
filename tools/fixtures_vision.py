"""Makes the fixtures of tests/vision.rs: tiny encoders of timm and transformers with random weights, and what they give.

    python tools/fixtures_vision.py

Made with torch 2.15.0, timm 1.0.31, transformers 5.23.0, safetensors 0.8.0. Every case has its own fixed seed.
"""

import types
import zlib

import timm
import torch
import transformers as hf
from timm.models.convnext import ConvNeXt
from timm.models.vision_transformer import VisionTransformer

from fixture_io import randomise, write, write_configs

CONFIGS = {}


def run_blocks(model, blocks, pixels):
    """The final output of the model, and its hidden states: what the first block reads and what every block gives."""
    states = []

    def first(module, args, kwargs):
        states.append(args[0] if args else kwargs["hidden_states"])

    def after(module, args, output):
        states.append(output[0] if isinstance(output, tuple) else output)

    hooks = [blocks[0].register_forward_pre_hook(first, with_kwargs=True)]
    hooks += [b.register_forward_hook(after) for b in blocks]
    output = model(pixels)
    for hook in hooks:
        hook.remove()
    return output, torch.cat(states)


def picture(side):
    """Random normalised pixels, (1, 3, side, side), and the same as (side * side, 3)."""
    pixels = torch.randn(1, 3, side, side).double().float().double()
    return pixels, pixels[0].permute(1, 2, 0).reshape(-1, 3)


def encoder(name, config, model, dtype, root="", side=None, gain=1.0):
    """Writes one vision transformer; `root` goes before its tensor names, `side` is the picture's, pixels."""
    torch.manual_seed(zlib.crc32(name.encode()))
    model = randomise(model, dtype, gain)
    pixels, rows = picture(side or config.get("image_size") or config["img_size"])
    outputs = {}
    if isinstance(model, VisionTransformer):
        normed, states = run_blocks(types.MethodType(VisionTransformer.forward_features, model), model.blocks, pixels)
        if config.get("global_pool", "token"):
            outputs["pooled"] = model.forward_head(normed, pre_logits=True)
    elif isinstance(model, (hf.Dinov2Model, hf.Dinov2WithRegistersModel)):
        result, states = run_blocks(model, model.encoder.layer if hasattr(model, "encoder") else model.layers, pixels)
        normed, outputs["pooled"] = result.last_hidden_state, result.pooler_output
    else:
        result, states = run_blocks(model, model.encoder.layers, pixels)
        normed, outputs["pooled"] = model.post_layernorm(states[-1:]), result.pooler_output
    outputs |= {"hidden_states": states, "normed": normed[0]}
    outputs = {k: v for k, v in outputs.items() if v is not None}
    CONFIGS[name] = config
    weights = {f"visual_encoder.{root}{k}": v for k, v in stored_names(model).items()}
    write(f"vision_{name}", weights, dtype, {"pixels": rows}, outputs)


def stored_names(model):
    """The state dict with the names of published checkpoints, without the parts that nothing reads."""
    state = model.state_dict()
    if isinstance(model, (hf.Dinov2Model, hf.Dinov2WithRegistersModel)):
        state = hf.core_model_loading.revert_weight_conversion(model, state)
    return {k: v for k, v in state.items() if not k.startswith("head.fc") and "mask_token" not in k}


def soft_cap(model, cap):
    """Locality alignment's "svit": scaled attention logits pass through cap * tanh(logit / cap)."""

    def forward(self, x, **kwargs):
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        logits = (q @ k.transpose(-1, -2)) * self.scale
        print(f"  largest logit {logits.abs().max():.1f} under a cap of {cap}")
        weights = (cap * torch.tanh(logits / cap)).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(b, n, c))

    for block in model.blocks:
        block.attn.forward = types.MethodType(forward, block.attn)
    return model


def transformers_cases():
    """CLIP, SigLIP and DINOv2 of transformers."""
    small = dict(hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=3, patch_size=7)
    fields = dict(small, image_size=28, hidden_act="quick_gelu", layer_norm_eps=1e-5)
    config = dict(fields, model_type="clip_vision_model")
    clip = lambda: hf.CLIPVisionModel(hf.CLIPVisionConfig(**fields))
    encoder("clip", config, clip(), torch.float16, root="vision_model.")
    encoder("clip_flat", config, clip(), torch.bfloat16)
    fields = dict(small, image_size=30, hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6)
    model = hf.SiglipVisionModel(hf.SiglipVisionConfig(**fields))
    encoder("siglip", dict(fields, model_type="siglip_vision_model"), model, torch.float32, root="vision_model.")
    dino = dict(hidden_size=24, mlp_ratio=2, num_hidden_layers=3, num_attention_heads=2, patch_size=7, image_size=28)
    model = hf.Dinov2Model(hf.Dinov2Config(**dino))
    encoder("dinov2", dict(dino, model_type="dinov2"), model, torch.float32)
    model = hf.Dinov2Model(hf.Dinov2Config(**dino))
    encoder("dinov2_larger", dict(dino, model_type="dinov2"), model, torch.float16, side=45)
    dino = dict(dino, image_size=42, num_register_tokens=3)
    model = hf.Dinov2WithRegistersModel(hf.Dinov2WithRegistersConfig(**dino))
    encoder("dinov2_registers", dict(dino, model_type="dinov2_with_registers"), model, torch.float16)
    model = hf.Dinov2WithRegistersModel(hf.Dinov2WithRegistersConfig(**dino))
    config = dict(dino, model_type="dinov2_with_registers")
    encoder("dinov2_registers_smaller", config, model, torch.float16, side=28)


def timm_cases():
    """timm's vision transformer in its variants."""
    small = dict(embed_dim=24, depth=3, num_heads=3, mlp_ratio=2.0, img_size=28, patch_size=7)

    def case(name, dtype=torch.float16, root="", side=None, gain=1.0, cap=None, acts=None, **changes):
        config = dict(small, **changes)
        arguments = dict(config)
        if "act_layer" in changes:
            arguments["act_layer"] = timm.layers.get_act_layer(changes["act_layer"])
        if "norm_eps" in changes:
            eps = arguments.pop("norm_eps")
            arguments["norm_layer"] = lambda dim, **kwargs: timm.layers.LayerNorm(dim, eps=eps, **kwargs)
        model = VisionTransformer(num_classes=0, **arguments)
        if cap:
            model = soft_cap(model, cap)
            config["max_attn_val"] = cap
        encoder(name, dict(config, model_type="timm_vit"), model, dtype, root, side, gain)

    case("timm_plain", torch.float32)
    case("timm_qk_norm", qk_norm=True, reg_tokens=4, init_values=1e-5, no_embed_class=True, qkv_bias=False)
    case("timm_mean", class_token=False, global_pool="avg", reg_tokens=2)
    clip = dict(pre_norm=True, act_layer="quick_gelu", norm_eps=1e-5)
    case("timm_clip", **clip)
    case("timm_clip_dynamic", side=42, dynamic_img_size=True, **clip)
    case("timm_map", class_token=False, global_pool="map", act_layer="gelu_tanh", img_size=30)
    case("svit_aligned", root="encoder.", cap=30.0, gain=3.0, global_pool="", init_values=1e-5)


def convnext(name, dtype, side, **changes):
    """Writes one ConvNeXt trunk with open_clip's prefix."""
    torch.manual_seed(zlib.crc32(name.encode()))
    config = dict(depths=[1, 1, 2, 1], dims=[8, 12, 20, 24], **changes)
    model = randomise(ConvNeXt(num_classes=0, **config), dtype)
    pixels, rows = picture(side)
    x, outputs = model.stem(pixels), {}
    for i, stage in enumerate(model.stages):
        x = stage(x)
        outputs[f"stage{i}"] = x[0].flatten(1).T
    CONFIGS[name] = dict(config, model_type="timm_convnext")
    weights = {f"visual_tower.visual.trunk.{k}": v for k, v in model.state_dict().items() if not k.startswith("head")}
    write(f"vision_{name}", weights, dtype, {"pixels": rows}, outputs)


with torch.no_grad():
    transformers_cases()
    timm_cases()
    convnext("convnext", torch.float32, 64)
    convnext("convnext_conv_mlp", torch.float16, 77, conv_mlp=True)
    write_configs("vision", CONFIGS)
