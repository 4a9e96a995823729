"""Configuration of the small model that is trained on the tabletop world and ships with the repository."""

from .prompt import TEMPLATE

SIDE = 192
PATCH = 16
GRID = SIDE // PATCH
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
PAD_COLOUR = (122, 116, 104)
NEAR, FAR = 0.25, 3.0

WIDTHS = (32, 64, 128, 96)


def processor(side):
    """Fields of HF's CLIPImageProcessor."""
    return {
        "crop_size": {"height": side, "width": side},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": list(MEAN),
        "image_std": list(STD),
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"shortest_edge": side},
    }


def query_decoder(dim, layers, ffn, heads):
    """Fields shared by every DETR-style head."""
    return {
        "d_model": dim,
        "decoder_layers": layers,
        "decoder_ffn_dim": ffn,
        "decoder_attention_heads": heads,
        "activation_function": "relu",
        "auxiliary_loss": False,
    }


def mask_config(latent, clip, layers, slots, first):
    """Mask and depth head: pyramid over the stages `first` to 2 and the encoder's features, which are the deepest map."""
    return {
        "num_queries": slots,
        "quries_input_dim": latent,
        "encoder_input_transform": "multiple_select",
        "encoder_input_index": [*range(first, 3), 4],
        "encoder_input_dim": [*WIDTHS[first:3], clip],
        "fpn_feature_size": 64,
        "mask_feature_size": 64,
        **query_decoder(64, layers, 256, 4),
    }


def config(vocab, clip=192, clip_layers=5, llm=192, llm_layers=4, llm_ffn=320, slots=12):
    """The dictionary of `config.json` for a vocabulary of `vocab` ids."""
    boxes = {
        "encoder_input_transform": "resize_concat",
        "encoder_input_index": [1, 2, 3, 4],
        "encoder_input_dim": [WIDTHS[1], WIDTHS[2], WIDTHS[3], clip],
    }
    return {
        "visual_encoder": {
            "model_type": "clip_vision_model",
            "hidden_size": clip,
            "intermediate_size": 4 * clip,
            "num_hidden_layers": clip_layers,
            "num_attention_heads": clip // 64,
            "num_channels": 3,
            "image_size": SIDE,
            "patch_size": PATCH,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-5,
        },
        "visual_tower": {
            "model_type": "timm_convnext",
            "depths": [1, 1, 2, 1],
            "dims": list(WIDTHS),
            "image_size": SIDE,
        },
        "projector": {
            "visual_hidden_size": clip,
            "llm_hidden_size": llm,
            "depth": 2,
            "hidden_act": "gelu",
            "bias": True,
        },
        "vpt_encoder": {
            "strategy": "pooling",
            "num_patches": 4,
            "patch_size": 8,
            "visual_hidden_size": clip,
            "use_mask_token": True,
            "use_projector": False,
            "llm_hidden_size": llm,
        },
        "llm": {
            "model_type": "llama",
            "hidden_size": llm,
            "intermediate_size": llm_ffn,
            "num_hidden_layers": llm_layers,
            "num_attention_heads": llm // 48,
            "num_key_value_heads": llm // 48,
            "vocab_size": vocab,
            "max_position_embeddings": 2048,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "hidden_act": "silu",
            "tie_word_embeddings": True,
            "bos_token_id": 0,
            "eos_token_id": 1,
        },
        "visual_decoder": {
            "box": {"num_queries": slots, "quries_input_dim": llm, **boxes, **query_decoder(96, 3, 192, 3)},
            "mask": mask_config(llm, clip, 2, slots, 0),
            "pose": {
                "num_queries": 2,
                **boxes,
                "box_config": {"quries_input_dim": llm, **query_decoder(64, 1, 128, 2)},
                "keypoint_config": {"quries_input_dim": 64, "num_body_points": 17, **query_decoder(64, 2, 128, 2)},
            },
            "depth": {**mask_config(llm, clip, 1, 2, 1), "depth_range": [NEAR, FAR]},
        },
        "visual_select_layer": -1,
        "prompt_template": TEMPLATE,
        "preprocessor": {"visual_encoder": processor(SIDE), "visual_tower": processor(SIDE)},
        "unit_heads": {"box": "box", "mask": "mask", "keypoint": "pose", "depth": "depth"},
    }
