"""The composition: encoder, tower, prompt encoder, projector, language model and heads under a model directory's names."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from .adapter import VdAdapter
from .heads import HEADS
from .language import Llama
from .prompts import Projector, VptEncoder
from .tower import ConvNextTower
from .vision import ClipVision


class RefVlm(nn.Module):
    """A model built from the dictionary of `config.json`."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.visual_encoder = ClipVision(config["visual_encoder"])
        if "visual_tower" in config:
            self.visual_tower = ConvNextTower(config["visual_tower"])
        self.projector = Projector(config["projector"])
        if "vpt_encoder" in config:
            self.vpt_encoder = VptEncoder(config["vpt_encoder"])
        if "vd_adapter" in config:
            self.vd_adapter = VdAdapter(config["vd_adapter"])
        self.llm = Llama(config["llm"])
        self.visual_decoder = nn.ModuleDict({k: HEADS[k](c) for k, c in config["visual_decoder"].items()})

    def see(self, pixels):
        """Selected encoder features (B, L, C) without the class token, and all hidden states."""
        states = self.visual_encoder(pixels)
        selected = states[self.config["visual_select_layer"]][:, 1:]
        return selected, states

    def features(self, selected, states, tower_pixels):
        """The list of feature maps that the heads read."""
        if "visual_tower" in self.config:
            return [*self.visual_tower(tower_pixels), selected]
        return [s[:, 1:] for s in states]


def initialise(model, seed=0):
    """Normal(0, 0.02) weights scaled for depth, zero biases; embeddings 0.02; norms at one."""
    torch.manual_seed(seed)
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            fan = module.weight[0].numel()
            nn.init.trunc_normal_(module.weight, std=min(0.06, fan**-0.5))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.5 if "query_position" in name or "kpt_emb" in name else 0.02)
    depth = len(model.llm.model.layers)
    for layer in model.llm.model.layers:
        layer.self_attn.o_proj.weight.data.div_((2 * depth) ** 0.5)
        layer.mlp.down_proj.weight.data.div_((2 * depth) ** 0.5)


def load_directory(path, dtype=torch.float32):
    """A model from `config.json` and `model.safetensors`, weights cast to `dtype`."""
    path = Path(path)
    model = RefVlm(json.loads((path / "config.json").read_text()))
    state = {k: v.to(dtype) for k, v in load_file(path / "model.safetensors").items()}
    model.to(dtype).load_state_dict(state)
    return model.eval()


def save_directory(model, path, state=None, dtype=torch.float16):
    """Write `config.json` and `model.safetensors`; `state` replaces the model's own weights (an average of them)."""
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    state = model.state_dict() if state is None else state
    tensors = {k: v.detach().to("cpu", dtype).contiguous() for k, v in sorted(state.items())}
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} is not finite in {dtype}")
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    (path / "config.json").write_text(json.dumps(model.config, indent=2) + "\n")
