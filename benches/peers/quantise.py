#!/usr/bin/env python3
"""Writes int8 versions of what `export.py` wrote, for the peers: weights and activations in integers.

    pip install nncf
    python quantise.py b16_224 DIR

`NAME.dynamic.onnx` (ONNX Runtime, scales of activations found while running), `NAME.qdq.onnx` (ONNX Runtime, scales found
beforehand) and `NAME.int8.xml` (OpenVINO, quantised by NNCF as a transformer). Pictures for calibration are noise, as the
weights are: what is compared is speed.
"""
import os
import sys

import numpy as np
import nncf
import openvino as ov
from onnxruntime.quantization import (CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic,
                                      quantize_static)
from onnxruntime.quantization.shape_inference import quant_pre_process

from models import VIT

PICTURES = 8


class Noise(CalibrationDataReader):
    def __init__(self, side):
        random = np.random.default_rng(0)
        self.pictures = [random.standard_normal((1, 3, side, side), dtype=np.float32) for _ in range(PICTURES)]
        self.left = iter(self.pictures)

    def get_next(self):
        picture = next(self.left, None)
        return None if picture is None else {"x": picture}


def main():
    model, folder = sys.argv[1:]
    name, side = VIT[model]
    plain = f"{folder}/{name}.onnx"
    prepared = f"{folder}/{name}.prepared.onnx"
    quant_pre_process(plain, prepared, skip_symbolic_shape=True)
    quantize_dynamic(prepared, f"{folder}/{name}.dynamic.onnx", weight_type=QuantType.QInt8, per_channel=True,
                     op_types_to_quantize=["MatMul", "Gemm"])
    quantize_static(prepared, f"{folder}/{name}.qdq.onnx", Noise(side), quant_format=QuantFormat.QDQ, per_channel=True,
                    weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8)
    os.remove(prepared)
    integers = nncf.quantize(ov.Core().read_model(plain), nncf.Dataset(Noise(side).pictures),
                             model_type=nncf.ModelType.TRANSFORMER, subset_size=PICTURES)
    ov.save_model(integers, f"{folder}/{name}.int8.xml", compress_to_fp16=False)


if __name__ == "__main__":
    main()
