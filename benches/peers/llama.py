#!/usr/bin/env python3
"""Times a language model of Llama's architecture with `examples/time` and with llama.cpp, in one run: every engine is a process
of its own, and every round lets each of them run once, in turn, while the others wait.

    CMAKE_ARGS="-DGGML_NATIVE=ON" pip install llama-cpp-python gguf numpy
    python llama.py write llama_1b DIR
    cargo build --release --example time
    python llama.py compare llama_1b DIR --work decode --rounds 10 --ours target/release/examples/time

Weights are random, of the same sizes and types: F16; Q8_0 beside int8; Q4_0 beside int4, both with an output layer of eight bits
and a table of embeddings in F16. `prefill` reads 512 tokens, `decode` writes 8 after 64; both with a KV cache of f16 in
llama.cpp and f32 in ours. `--no-extra-buffers` keeps llama.cpp from packing weights anew for its AMX and interleaved kernels
(version 0.3.36 of the bindings, built by gcc 12 with AMX, crashes otherwise); `--no-amx` keeps it from AMX alone, whatever it was
built with. Printed for every type: the least and the median milliseconds of both, tokens per second, and the
ratio of their times. Absolute times drift by tens of percent on a shared machine; ratios of one run do not.
"""
import argparse
import os
import statistics
import subprocess
import sys
import time

SIZES = {
    "llama_1b": dict(width=2048, inner=5632, blocks=22, heads=32, kv_heads=4, context=2048),
    "llama_7b": dict(width=4096, inner=11008, blocks=32, heads=32, kv_heads=32, context=4096),
}
VOCABULARY = 32000
PROMPT, HELD, WRITTEN = 512, 64, 8
TYPES = {"f16": "f16", "q8_0": "int8", "q4_0": "int4"}


def path(folder, model, kind):
    return os.path.join(folder, f"{model}_{kind}.gguf")


def write(model, folder, kinds):
    """Writes a GGUF file of random weights for every type."""
    import gguf
    import numpy as np

    sizes, rng = SIZES[model], np.random.default_rng(1)

    def halves(shape):
        bits = rng.integers(0, 1 << 16, shape, dtype=np.uint16)
        return ((bits & 0x83FF) | 0x2400).view(np.float16)

    def blocks(rows, columns, size, scale):
        """Rows of blocks of 32 elements: a scale in f16, then `size` bytes."""
        out = rng.integers(0, 256, (rows, columns // 32, 2 + size), dtype=np.uint8)
        out[:, :, :2] = np.frombuffer(np.float16(scale).tobytes(), dtype=np.uint8)
        return out.reshape(rows, -1)

    for kind in kinds:
        writer = gguf.GGUFWriter(path(folder, model, kind), "llama")
        writer.add_context_length(sizes["context"])
        writer.add_embedding_length(sizes["width"])
        writer.add_block_count(sizes["blocks"])
        writer.add_feed_forward_length(sizes["inner"])
        writer.add_head_count(sizes["heads"])
        writer.add_head_count_kv(sizes["kv_heads"])
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_rope_dimension_count(sizes["width"] // sizes["heads"])
        writer.add_vocab_size(VOCABULARY)
        writer.add_tokenizer_model("none")

        def matrix(name, rows, columns, kind):
            if kind == "f16":
                return writer.add_tensor(name, halves((rows, columns)))
            size, scale = {"q8_0": (32, 3e-4), "q4_0": (16, 5e-3)}[kind]
            dtype = {"q8_0": gguf.GGMLQuantizationType.Q8_0, "q4_0": gguf.GGMLQuantizationType.Q4_0}[kind]
            writer.add_tensor(name, blocks(rows, columns, size, scale), raw_dtype=dtype)

        def norm(name):
            writer.add_tensor(name, np.full(sizes["width"], 0.02, dtype=np.float32))

        width, inner = sizes["width"], sizes["inner"]
        keys = width // sizes["heads"] * sizes["kv_heads"]
        matrix("token_embd.weight", VOCABULARY, width, "f16")
        norm("output_norm.weight")
        matrix("output.weight", VOCABULARY, width, "q8_0" if kind == "q4_0" else kind)
        for i in range(sizes["blocks"]):
            norm(f"blk.{i}.attn_norm.weight")
            norm(f"blk.{i}.ffn_norm.weight")
            for name, rows, columns in [("attn_q", width, width), ("attn_k", keys, width), ("attn_v", keys, width),
                                        ("attn_output", width, width), ("ffn_gate", inner, width),
                                        ("ffn_up", inner, width), ("ffn_down", width, inner)]:
                matrix(f"blk.{i}.{name}.weight", rows, columns, kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def without_amx():
    """Has Linux refuse this process the matrix unit (a filter on `arch_prctl(ARCH_REQ_XCOMP_PERM)`)."""
    import ctypes
    import struct

    load, equal, give = 0x20, 0x15, 0x06
    allow, refuse = 0x7FFF0000, 0x00050001
    program = [(load, 0, 0, 0), (equal, 0, 3, 158), (load, 0, 0, 16), (equal, 0, 1, 0x1023), (give, 0, 0, refuse),
               (give, 0, 0, allow)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    filter = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) != 0 or libc.prctl(22, 2, ctypes.c_void_p(ctypes.addressof(filter)), 0, 0) != 0:
        sys.exit("this system takes no filter of system calls")


def step(file, work, threads, extra_buffers, amx):
    """Runs once for every line of standard input and prints `ms`."""
    import ctypes

    if not amx:
        without_amx()

    import llama_cpp

    silent = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    params = llama_cpp.llama_model_default_params()
    params.use_extra_bufts = extra_buffers
    model = llama_cpp.llama_model_load_from_file(file.encode(), params)
    params = llama_cpp.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch = PROMPT, PROMPT, PROMPT
    params.n_threads, params.n_threads_batch = threads, threads
    context = llama_cpp.llama_init_from_model(model, params)
    if not context:
        sys.exit(f"llama.cpp does not take {file}")
    memory = llama_cpp.llama_get_memory(context)

    def read(tokens):
        ids = (llama_cpp.llama_token * len(tokens))(*tokens)
        if llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(ids, len(tokens))) != 0:
            sys.exit("llama.cpp fails")

    def likeliest():
        logits = llama_cpp.llama_get_logits_ith(context, -1)
        import numpy as np
        return int(np.argmax(np.ctypeslib.as_array(logits, (VOCABULARY,))))

    prompt = [(i * 7919 + 13) % VOCABULARY for i in range(PROMPT)]

    def prefill():
        llama_cpp.llama_memory_clear(memory, True)
        read(prompt)
        likeliest()

    def decode():
        llama_cpp.llama_memory_seq_rm(memory, 0, HELD, -1)
        token = 1
        for _ in range(WRITTEN):
            read([token])
            token = likeliest()

    if work == "decode":
        read(prompt[:HELD])
    run = prefill if work == "prefill" else decode
    run()
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        run()
        print(f"ms {(time.perf_counter() - start) * 1e3:.3f}", flush=True)


class Engine:
    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        stderr=subprocess.DEVNULL)
        self.times = []
        self.until("ready")

    def until(self, word):
        for line in self.process.stdout:
            if line.startswith(word):
                return line
        sys.exit(f"an engine ended before it said {word}")

    def step(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.until("ms").split()[1])

    def end(self):
        self.process.stdin.close()
        rest = self.process.stdout.read()
        self.process.wait()
        return rest


def compare(model, folder, work, rounds, ours, threads, kinds, extra_buffers, amx):
    for kind in kinds:
        ours_command = [ours, "llm", "--model", model, "--dtype", TYPES[kind], "--work", work, "--threads", str(threads),
                        "--step"]
        theirs_command = [sys.executable, os.path.abspath(__file__), "step", path(folder, model, kind), "--work", work,
                          "--threads", str(threads)] + ([] if extra_buffers else ["--no-extra-buffers"]) + ([] if amx else ["--no-amx"])
        engines = [Engine(ours_command), Engine(theirs_command)]
        for round in range(rounds + 1):
            for engine in engines:
                took = engine.step()
                # Threads of the other engine may spin for a while.
                time.sleep(0.3)
                if round > 0:
                    engine.times.append(took)
        tokens = PROMPT if work == "prefill" else WRITTEN
        rest = [engine.end() for engine in engines][0]
        least = [min(engine.times) for engine in engines]
        middle = [statistics.median(engine.times) for engine in engines]
        for name, a, b in zip(["ours", "llama.cpp"], least, middle):
            print(f"{model} {kind} {work} {name}: min {a:.1f} ms, median {b:.1f} ms, {tokens / a * 1e3:.2f} tokens/s")
        for line in rest.splitlines():
            if line.startswith("result"):
                print(f"  {line}")
        print(f"result model={model} type={kind} work={work} threads={threads} "
              f"speed_of_minima={least[1] / least[0]:.3f} speed_of_medians={middle[1] / middle[0]:.3f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ["write", "compare"]:
        command = commands.add_parser(name)
        command.add_argument("model", choices=SIZES)
        command.add_argument("folder")
        command.add_argument("--kinds", nargs="+", choices=TYPES, default=list(TYPES))
    command.add_argument("--work", choices=["prefill", "decode"], default="decode")
    command.add_argument("--rounds", type=int, default=8)
    command.add_argument("--threads", type=int, default=2)
    command.add_argument("--ours", required=True)
    command = commands.add_parser("step")
    command.add_argument("file")
    command.add_argument("--work", choices=["prefill", "decode"], default="decode")
    command.add_argument("--threads", type=int, default=2)
    for command in commands.choices.values():
        command.add_argument("--no-extra-buffers", dest="extra_buffers", action="store_false")
        command.add_argument("--no-amx", dest="amx", action="store_false")
    given = parser.parse_args()
    if given.command == "write":
        write(given.model, given.folder, given.kinds)
    elif given.command == "step":
        step(given.file, given.work, given.threads, given.extra_buffers, given.amx)
    else:
        compare(given.model, given.folder, given.work, given.rounds, given.ours, given.threads, given.kinds,
                given.extra_buffers, given.amx)


if __name__ == "__main__":
    main()
