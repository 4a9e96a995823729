"""Write tests/fixtures/language.{json,safetensors}: tiny random decoders of Hugging Face's transformers with their outputs.

Made with torch 2.15.0, transformers 5.23.0, safetensors 0.8.0:  python tools/fixtures_language.py
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

FIXTURES = Path(__file__).resolve().parent.parent / "tests" / "fixtures"
TOKENS = 40
SIZES = {"vocab_size": 61, "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 2}

MODELS = {
    "llama2": {"model_type": "llama", "num_attention_heads": 4, "rms_norm_eps": 1e-5, "max_position_embeddings": 64},
    "llama3": {
        "model_type": "llama",
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
        "rope_theta": 500000.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    },
    "linear": {
        "model_type": "llama",
        "num_attention_heads": 2,
        "attention_bias": True,
        "mlp_bias": True,
        "max_position_embeddings": 64,
        "rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0},
    },
    "mistral": {
        "model_type": "mistral",
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "sliding_window": 7,
        "max_position_embeddings": 64,
    },
}


def build(fields):
    """The transformers model of the given configuration, random weights of visible size, exact in f16."""
    fields = {**SIZES, **fields}
    kind = fields.pop("model_type")
    if "rope_scaling" in fields:
        fields["rope_parameters"] = {**fields.pop("rope_scaling"), "rope_theta": fields.pop("rope_theta")}
    config, model = {
        "llama": (LlamaConfig, LlamaForCausalLM),
        "mistral": (MistralConfig, MistralForCausalLM),
    }[kind]
    model = model(config(**fields, attn_implementation="eager", pad_token_id=None)).eval()
    for name, tensor in model.named_parameters():
        tensor.data.normal_(std=0.3 if tensor.dim() == 2 else 0.2)
        if name.endswith("norm.weight"):
            tensor.data.add_(1.0)
        tensor.data.copy_(tensor.data.half().float())
    return model


def main():
    torch.manual_seed(20)
    tensors = {}
    for name, fields in MODELS.items():
        model = build(fields)
        ids = torch.randint(0, SIZES["vocab_size"], (1, TOKENS))
        with torch.no_grad():
            hidden = model.model(ids).last_hidden_state[0]
            logits = model.lm_head(hidden)
        tied = fields.get("tie_word_embeddings", False)
        for key, tensor in model.state_dict().items():
            if not (tied and key == "lm_head.weight"):
                tensors[f"{name}.{key}"] = tensor.half().contiguous()
        tensors[f"outputs.{name}.ids"] = ids[0].float()
        tensors[f"outputs.{name}.hidden"] = hidden.contiguous()
        tensors[f"outputs.{name}.logits"] = logits.contiguous()
    save_file(tensors, FIXTURES / "language.safetensors")
    configs = {name: {**SIZES, **fields} for name, fields in MODELS.items()}
    (FIXTURES / "language.json").write_text(json.dumps(configs, indent=2) + "\n")


if __name__ == "__main__":
    FIXTURES.mkdir(parents=True, exist_ok=True)
    main()
