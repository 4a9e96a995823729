#!/usr/bin/env python3
"""Writes a vision transformer with random weights as ONNX (for the peers) and safetensors (for `examples/time`).

    python export.py b16_224 OUT_DIR
"""
import os
import sys

import timm
import torch
from safetensors.torch import save_file

from models import VIT


def main():
    name, folder = sys.argv[1:]
    timm_name, side = VIT[name]
    os.makedirs(folder, exist_ok=True)
    torch.manual_seed(0)
    model = timm.create_model(timm_name, pretrained=False, num_classes=0, global_pool="").eval()
    torch.onnx.export(model, torch.randn(1, 3, side, side), f"{folder}/{timm_name}.onnx", dynamo=False,
                      opset_version=17, input_names=["x"], output_names=["y"])
    save_file({key: value.contiguous() for key, value in model.state_dict().items()},
              f"{folder}/{timm_name}.safetensors")


if __name__ == "__main__":
    main()
