"""PyTorch's times for the rows of the example `time_device`, under the same names, on a GPU or a CPU.

    cargo run --release --features cuda --example time_device -- --device cuda:0
    python benches/peers/device.py --device cuda --dtype bf16
    python benches/peers/device.py --device cpu --dtype f32 --small

Copy and product, scaled_dot_product_attention, the vision transformer of timm, eager and compiled (mode max-autotune, which
records CUDA graphs), and decoding with transformers' Llama and a static cache, eager and compiled. Random weights; the least and
the median of `--runs` runs after three that do not count. Run both programs one after the other on an otherwise idle machine and
compare rows by their names. Made with torch 2.15.0, timm 1.0.31, transformers 5.23.0.
"""

import argparse
import time

import torch
import torch.nn.functional as functional

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
WARM_UP = 3
HELD, WRITTEN = 64, 32


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--only", default="", help="rows with this in their name")
    parser.add_argument("--small", action="store_true", help="small sizes, to try the program out")
    return parser.parse_args()


class Table:
    """Times rows and prints each as it comes."""

    def __init__(self, options):
        self.options = options
        print(f"{'work':34} {'least ms':>10} {'median ms':>10} {'rate':>16}")

    def time(self, name, work, amount=0.0, unit="", before=lambda: None):
        if self.options.only not in name:
            return
        times = []
        for run in range(WARM_UP + self.options.runs):
            before()
            self.wait()
            start = time.perf_counter()
            work()
            self.wait()
            if run >= WARM_UP:
                times.append(time.perf_counter() - start)
        times.sort()
        rate = f"{amount / times[0] / 1e9:.1f} {unit}" if amount else ""
        print(f"{name:34} {times[0] * 1e3:10.3f} {times[len(times) // 2] * 1e3:10.3f} {rate:>16}", flush=True)

    def wait(self):
        if self.options.device.startswith("cuda"):
            torch.cuda.synchronize()

    def wants(self, name):
        return self.options.only in name


def operations(table, options, dtype):
    place = {"device": options.device, "dtype": dtype}
    x = torch.rand(256 if options.small else 16384, 4096, device=options.device)
    out = torch.empty_like(x)
    table.time("copy", lambda: out.copy_(x), 2 * x.nbytes, "GB/s")
    size = 128 if options.small else 4096
    a, b = torch.randn(size, size, **place), torch.randn(size, size, **place)
    table.time("product", lambda: a @ b.T, 2 * size**3, "GFLOP/s")
    for tokens in (17, 70, 130) if options.small else (577, 729, 1370):
        q, k, v = (torch.randn(1, 16, tokens, 64, **place) for _ in range(3))
        attend = lambda: functional.scaled_dot_product_attention(q, k, v)
        table.time(f"attention {tokens}", attend, 4 * tokens**2 * 1024, "GFLOP/s")


def transformer(table, options, dtype):
    if not table.wants("vit"):
        return
    import timm

    if options.small:
        name, sizes = "vit_small", dict(img_size=56, patch_size=14, embed_dim=64, depth=2, num_heads=2)
        model = timm.models.vision_transformer.VisionTransformer(num_classes=0, global_pool="", pre_norm=True, **sizes)
    else:
        name = "vit_l14_336"
        model = timm.create_model("vit_large_patch14_clip_quickgelu_336", num_classes=0, global_pool="")
    model = model.to(options.device, dtype).eval()
    side = 56 if options.small else 336
    for kind, work in (("", model), (" compiled", torch.compile(model, mode="max-autotune"))):
        for batch in (1, 32):
            pictures = torch.randn(batch, 3, side, side, device=options.device, dtype=dtype)
            table.time(f"{name} batch {batch}{kind}", lambda: work(pictures))


def decode(table, options, dtype):
    if not table.wants("decode"):
        return
    from transformers import LlamaConfig, LlamaForCausalLM, StaticCache

    sizes = {
        "small": (500, 128, 256, 2, 4, 2),
        "llama_1b": (32000, 2048, 5632, 22, 32, 4),
        "llama_7b": (32000, 4096, 11008, 32, 32, 32),
    }
    names = ["small"] if options.small else ["llama_1b"] + ["llama_7b"] * (options.device != "cpu" or "llama_7b" in options.only)
    for name in names:
        vocab, hidden, inner, layers, heads, kv_heads = sizes[name]
        config = LlamaConfig(
            vocab_size=vocab, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers,
            num_attention_heads=heads, num_key_value_heads=kv_heads, max_position_embeddings=2048,
        )
        torch.set_default_dtype(dtype)
        with torch.device(options.device):
            model = LlamaForCausalLM(config).eval()
        torch.set_default_dtype(torch.float32)
        weights = sum(p.nbytes for p in model.parameters()) - model.model.embed_tokens.weight.nbytes
        cache = StaticCache(config=config, max_cache_len=HELD + WRITTEN)
        prompt = torch.arange(HELD, device=options.device)[None] % vocab

        def step(ids):
            logits = model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
            return logits[:, -1].argmax(-1, keepdim=True)

        def write(step):
            ids = torch.ones(1, 1, dtype=torch.long, device=options.device)
            for _ in range(WRITTEN):
                ids = step(ids).clone()
                ids.item()  # a program that follows a grammar has to know each token

        def read():
            cache.reset()
            step(prompt)

        for kind, work in (("", step), (" compiled", torch.compile(step, mode="max-autotune"))):
            row = f"decode {name} {options.dtype}{kind}"
            table.time(row, lambda: write(work), weights * WRITTEN, "GB/s", read)


def main():
    options = arguments()
    dtype = DTYPES[options.dtype]
    if options.device.startswith("cuda"):
        print(f"device: {torch.cuda.get_device_name(options.device)}, torch {torch.__version__}, {options.dtype}")
    else:
        print(f"device: {options.device}, torch {torch.__version__}, {options.dtype}")
    table = Table(options)
    with torch.inference_mode():
        operations(table, options, dtype)
        transformer(table, options, dtype)
        decode(table, options, dtype)


main()
