"""Writes tests/fixtures/model_tensors.json: small configurations and the tensors that model_tensors.py lists for them.

A Rust test loads every module from exactly these tensors, so that the list, docs/model-directory.md's contract and the
library cannot drift apart. Run: python tools/fixtures_tensors.py
"""

import json
import pathlib

import model_tensors

OUT = pathlib.Path(__file__).parent.parent / "tests" / "fixtures" / "model_tensors.json"

HF = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2}
PICTURE = {"image_size": 16, "patch_size": 8}
TIMM = {"model_type": "timm_vit", "embed_dim": 8, "depth": 2, "num_heads": 2, "img_size": 16, "patch_size": 8}
HEAD = {"d_model": 8, "decoder_layers": 1, "decoder_ffn_dim": 12, "decoder_attention_heads": 2, "num_queries": 3}
BOX = {**HEAD, "quries_input_dim": 16, "encoder_input_index": [0, 3], "encoder_input_dim": [4, 10]}
MASK = {
    **HEAD, "quries_input_dim": 16, "encoder_input_index": [0, 1, 2], "encoder_input_dim": [4, 6, 8],
    "fpn_feature_size": 32, "mask_feature_size": 5,
}
LLAMA = {
    **HF, "model_type": "llama", "hidden_size": 16, "vocab_size": 30, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 32,
}
MODEL = {
    "visual_encoder": {**HF, **PICTURE, "model_type": "clip_vision_model"},
    "visual_tower": {"model_type": "timm_convnext", "depths": [1, 2, 1, 1], "dims": [4, 6, 8, 10]},
    "projector": {"visual_hidden_size": 8, "llm_hidden_size": 16, "depth": 3},
    "vpt_encoder": {"visual_hidden_size": 8, "num_patches": 4, "use_mask_token": True},
    "vd_adapter": {"d_model": 16, "d_input_image": 16, "d_input_token": 16, "n_heads": 2, "d_ffn": 12, "num_layers": 2},
    "llm": LLAMA,
    "visual_decoder": {
        "box": BOX,
        "mask": MASK,
        "depth": {**MASK, "encoder_input_dim": [4, 6, 9], "depth_range": [0.5, 4.0]},
        "pose": {
            "num_queries": 3, "encoder_input_index": [1], "encoder_input_dim": [6],
            "box_config": {**HEAD, "quries_input_dim": 16}, "keypoint_config": {**HEAD, "quries_input_dim": 8},
        },
    },
}
CASES = {
    "whole": MODEL,
    "embedding": {
        "vpt_encoder": {
            "visual_hidden_size": 8, "num_patches": 4, "strategy": "embedding", "patch_size": 2, "use_projector": True,
            "llm_hidden_size": 16,
        },
    },
    "siglip": {"visual_encoder": {**HF, **PICTURE, "model_type": "siglip_vision_model"}},
    "dinov2": {"visual_encoder": {**HF, **PICTURE, "model_type": "dinov2", "mlp_ratio": 2}},
    "registers": {"visual_encoder": {**HF, **PICTURE, "model_type": "dinov2_with_registers", "qkv_bias": False}},
    "timm": {"visual_encoder": TIMM},
    "timm_map": {"visual_encoder": {**TIMM, "class_token": False, "global_pool": "map", "init_values": 1e-5}},
    "timm_clip": {"visual_encoder": {**TIMM, "pre_norm": True, "qk_norm": True, "reg_tokens": 2, "global_pool": "avg"}},
    "conv_mlp": {"visual_tower": {"depths": [1, 1, 1, 1], "dims": [4, 6, 8, 10], "conv_mlp": True, "ls_init_value": 0}},
    "mistral": {"llm": {**LLAMA, "model_type": "mistral", "head_dim": 6, "tie_word_embeddings": True}},
    "biases": {"llm": {**LLAMA, "attention_bias": True, "mlp_bias": True}},
}


def tensors_of(config):
    tensors = model_tensors.Tensors()
    if "visual_encoder" in config:
        model_tensors.vit(tensors, "visual_encoder", config["visual_encoder"], lambda name: False)
    if "visual_tower" in config:
        model_tensors.convnext(tensors, "visual_tower", config["visual_tower"], lambda name: False)
    if "vpt_encoder" in config:
        model_tensors.vpt_encoder(tensors, config["vpt_encoder"])
    if "llm" in config:
        model_tensors.llama(tensors, config["llm"])
    return tensors


def positions(config):
    """Cells of the encoder's grid and its prefix tokens that have positions."""
    encoder = config.get("visual_encoder", {})
    prefix = 0 if encoder.get("model_type") == "siglip_vision_model" else int(encoder.get("class_token", True))
    return 4 + prefix + (encoder.get("reg_tokens", 0) if encoder.get("model_type") == "timm_vit" else 0)


cases = []
for name, config in CASES.items():
    wanted = model_tensors.required(config, lambda name: False) if name == "whole" else tensors_of(config)
    shapes = {
        tensor: [dim or (positions(config) if "pos" in tensor else 7) for dim in shape] for tensor, shape in wanted.items()
    }
    cases.append({"name": name, "config": config, "tensors": shapes})
OUT.write_text(json.dumps({"cases": cases}, indent=None, separators=(",", ":")) + "\n")
print(f"{OUT.name}: {len(cases)} cases, {OUT.stat().st_size} bytes")
