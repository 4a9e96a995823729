#!/usr/bin/env python3
"""One peer in a process of its own: loads a model, says `ready`, then runs it once for every line of standard input and
prints `ms` with the time. `interleave.py` starts it.

    python engine.py onnxruntime|openvino|torch MODEL DIR THREADS

With integers, after `quantise.py`: onnxruntime-dynamic, onnxruntime-qdq, openvino-int8.
"""
import sys
import time
from functools import partial

import numpy as np

from models import VIT


def onnxruntime_run(name, x, folder, threads, kind=""):
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(f"{folder}/{name}{kind}.onnx", options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})


def openvino_run(name, x, folder, threads, kind=".onnx"):
    import openvino as ov
    config = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    if kind == ".onnx":
        # Beside integers it may choose for itself.
        config["INFERENCE_PRECISION_HINT"] = "f32"
    request = ov.Core().compile_model(f"{folder}/{name}{kind}", "CPU", config).create_infer_request()
    return lambda: request.infer({0: x})


def torch_run(name, x, _folder, threads):
    import timm
    import torch
    torch.set_num_threads(threads)
    model = timm.create_model(name, pretrained=False, num_classes=0, global_pool="").eval()
    x = torch.from_numpy(x)

    def run():
        with torch.inference_mode():
            return model(x)
    return run


RUNS = {
    "onnxruntime": onnxruntime_run,
    "onnxruntime-dynamic": partial(onnxruntime_run, kind=".dynamic"),
    "onnxruntime-qdq": partial(onnxruntime_run, kind=".qdq"),
    "openvino": openvino_run,
    "openvino-int8": partial(openvino_run, kind=".int8.xml"),
    "torch": torch_run,
}


def main():
    engine, model, folder, threads = sys.argv[1:]
    name, side = VIT[model]
    x = np.random.RandomState(0).randn(1, 3, side, side).astype(np.float32)
    run = RUNS[engine](name, x, folder, int(threads))
    run()
    run()
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        run()
        print(f"ms {(time.perf_counter() - start) * 1e3:.3f}", flush=True)


if __name__ == "__main__":
    main()
