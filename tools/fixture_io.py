"""What the fixture scripts share: random weights in which nothing is zero or one, and the layout of the files.

A fixture is `NAME.safetensors` with the weights under the names that a model directory would have, `input.*` and
`output.*` beside them. `GROUP.json` holds one configuration per case. Reference outputs are computed in f64 from the
stored weights and rounded to f32 once.
"""

import json
import pathlib

import torch
from safetensors.torch import save_file

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "tests" / "fixtures"
LIMIT = 300_000


def randomise(model, dtype, gain=1.0):
    """Gives every parameter and buffer a value off its initial one, rounded to `dtype`, and turns the model to f64."""
    for name, p in model.state_dict().items():
        if not p.is_floating_point():
            continue
        last = name.rsplit(".", 1)[-1]
        if p.ndim == 1 and last == "weight":
            value = 1 + 0.2 * torch.randn(p.shape)
        elif last in ("gamma", "lambda1"):
            value = 0.6 + 0.2 * torch.randn(p.shape)
        elif p.ndim == 1:
            value = 0.2 * torch.randn(p.shape)
        elif last == "weight" and "embedding" not in name or "in_proj_weight" in name:
            value = gain * torch.randn(p.shape) / p[0].numel() ** 0.5
        else:
            value = 0.5 * torch.randn(p.shape)
        p.copy_(value.to(dtype).float())
    return model.double().eval()


def write(name, weights, dtype, inputs, outputs):
    """Writes one fixture and prints its size."""
    tensors = {k: v.to(dtype) for k, v in weights.items() if v.is_floating_point()}
    tensors |= {f"input.{k}": v.float() for k, v in inputs.items()}
    tensors |= {f"output.{k}": v.float() for k, v in outputs.items()}
    path = FIXTURES / f"{name}.safetensors"
    save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, path)
    size = path.stat().st_size
    print(f"{path.name}: {size} bytes")
    if size >= LIMIT:
        raise SystemExit(f"{path.name} is larger than {LIMIT} bytes")


def write_configs(group, configs):
    """Writes the configurations of all cases of a group."""
    (FIXTURES / f"{group}.json").write_text(json.dumps(configs, indent=1) + "\n")
