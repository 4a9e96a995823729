"""Merges a REF-VLM checkpoint with its CLIP, open_clip and language-model parts into one model directory.

The reference saves only what it trained: the frozen CLIP, the ConvNeXt tower and a frozen language model stay in their
own files. This tool looks up every tensor that docs/model-directory.md asks for, first in the checkpoint, then in the
part, and writes config.json, tokenizer.json and (sharded) safetensors. A missing or misshapen tensor is an error, an
unused one a listed warning.

    python tools/convert_checkpoint.py --config partial.json --checkpoint iter_90000.pth \
        --visual-encoder clip-vit-large-patch14-336 --visual-tower CLIP-ConvNext --llm vicuna-7b-v1.5 \
        --tokenizer vicuna-7b-v1.5 --output model --dtype f16

The configuration file holds what only the training script knows: projector, vpt_encoder, visual_decoder, prompt_template
(and unit_heads). Where it lacks llm, visual_encoder, visual_tower or their preprocessor, they are read from the parts.

Needs torch, safetensors, tokenizers (2.15.0, 0.8.0, 0.22.x tested).
"""

import argparse
import json
import pathlib
import shutil
import sys

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

import model_tensors

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16, "keep": None}

# In the order in which the reference adds them, which gives their ids.
SPECIAL_TOKENS = ["<Task>", "</Task>", "<Unit>", "</Unit>", "<v>", "</v>", "<Phrase>", "</Phrase>", "<VRT>", "<REF>"]

# timm's arguments of the ConvNeXt trunks that open_clip names; all have the layer scale of timm's default.
CONVNEXTS = {
    "convnext_tiny": ([3, 3, 9, 3], [96, 192, 384, 768]),
    "convnext_small": ([3, 3, 27, 3], [96, 192, 384, 768]),
    "convnext_base": ([3, 3, 27, 3], [128, 256, 512, 1024]),
    "convnext_large": ([3, 3, 27, 3], [192, 384, 768, 1536]),
    "convnext_xlarge": ([3, 3, 27, 3], [256, 512, 1024, 2048]),
    "convnext_xxlarge": ([3, 4, 30, 3], [384, 768, 1536, 3072]),
}


class ConvertError(Exception):
    """What the user has to look at."""


class Source:
    """Tensors of one file or directory, read when asked for; names already as the model directory has them."""

    def __init__(self, label, path, rename, trust):
        self.label, self.path = label, pathlib.Path(path)
        self.readers, self.shapes = {}, {}
        for file in weight_files(self.path):
            for name, shape, reader in open_file(file, trust):
                target = rename(name)
                self.readers[target], self.shapes[target] = reader, tuple(shape)
        self.used = set()

    def read(self, name):
        self.used.add(name)
        return self.readers[name]()

    def unused(self):
        return sorted(set(self.readers) - self.used)


def weight_files(path):
    """The weight files of a part: a file itself, or what Hugging Face, open_clip and DeepSpeed leave in a directory."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ConvertError(f"{path}: no such file or directory")
    for index in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        if (path / index).exists():
            return [path / name for name in sorted(set(read_json(path / index)["weight_map"].values()))]
    for name in (
        "model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors", "open_clip_pytorch_model.bin",
        "mp_rank_00_model_states.pt",
    ):
        if (path / name).exists():
            return [path / name]
    if list(path.glob("zero_pp_rank_*")):
        raise ConvertError(f"{path}: is split by DeepSpeed ZeRO-3; gather it with its zero_to_fp32.py first")
    raise ConvertError(f"{path}: holds no weights (model.safetensors, pytorch_model.bin or an index of shards)")


def open_file(file, trust):
    """(name, shape, reader) of every tensor."""
    if not file.exists():
        raise ConvertError(f"{file}: is missing")
    if file.suffix == ".safetensors":
        try:
            handle = safe_open(file, "pt")
        except SafetensorError as error:
            raise ConvertError(f"{file}: {error}") from error
        for name in handle.keys():
            yield name, handle.get_slice(name).get_shape(), lambda name=name: handle.get_tensor(name)
        return
    try:
        state = torch.load(file, map_location="cpu", mmap=True, weights_only=not trust)
    except Exception as error:  # torch raises pickle, zip and runtime errors alike
        hint = "" if trust else " (a file that you trust with running code can be read with --trust-pickle)"
        raise ConvertError(f"{file}: cannot be read: {error}{hint}") from error
    for key in ("state_dict", "module"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise ConvertError(f"{file}: holds no tensors")
    prefix = "module." if all(name.startswith("module.") for name in tensors) else ""
    for name, value in tensors.items():
        yield name.removeprefix(prefix), value.shape, lambda value=value: value


def rename_checkpoint(name):
    """Older revisions of the reference call the adapter `ref_adapter`."""
    if "lora_" in name or ".base_layer." in name:
        raise ConvertError(f"{name}: is a LoRA weight; merge it into its base model with peft first")
    return f"vd_adapter.{name.removeprefix('ref_adapter.')}" if name.startswith("ref_adapter.") else name


def read_json(path):
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ConvertError(f"{path}: {error}") from error


def complete_config(config, args):
    """Fills what the parts' own files say."""
    for key in ("projector", "prompt_template"):
        if not config.get(key):
            raise ConvertError(f"{args.config}: {key} is missing; the checkpoint's training script has it")
    if not config.get("llm"):
        config["llm"] = part_config(args.llm, "llm")
    if not config.get("visual_encoder"):
        clip = part_config(args.visual_encoder, "visual_encoder")
        clip = {**clip["vision_config"], "model_type": "clip_vision_model"} if "vision_config" in clip else clip
        config["visual_encoder"] = clip
    if args.visual_tower and not config.get("visual_tower"):
        config["visual_tower"] = tower_config(pathlib.Path(args.visual_tower))
    preprocessor = config.setdefault("preprocessor", {})
    if not preprocessor.get("visual_encoder"):
        preprocessor["visual_encoder"] = part_config(args.visual_encoder, "preprocessor.visual_encoder", "preprocessor_config.json")
    if config.get("visual_tower") and not preprocessor.get("visual_tower"):
        side = config["visual_tower"].get("img_size")
        if not side:
            raise ConvertError(f"{args.config}: preprocessor.visual_tower is missing and visual_tower has no img_size")
        size = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
        preprocessor["visual_tower"] = {**preprocessor["visual_encoder"], **size}
    return config


def part_config(path, key, file="config.json"):
    if path is None or not pathlib.Path(path).is_dir():
        raise ConvertError(f"{key}: is neither in the configuration nor in a directory given for the part")
    return read_json(pathlib.Path(path) / file)


def tower_config(path):
    """timm's arguments from open_clip's configuration."""
    file = path / "open_clip_config.json"
    vision = read_json(file).get("model_cfg", {}).get("vision_cfg", {})
    name = vision.get("timm_model_name")
    if name not in CONVNEXTS:
        raise ConvertError(f"{file}: timm_model_name {name!r} is none of {', '.join(CONVNEXTS)}; write visual_tower by hand")
    depths, dims = CONVNEXTS[name]
    size = {"img_size": vision["image_size"]} if "image_size" in vision else {}
    return {"model_type": "timm_convnext", "depths": depths, "dims": dims, **size}


def tokenizer_json(path, vocab_size):
    """The text of tokenizer.json with the special tokens of the paradigm, checked against the embedding table."""
    from tokenizers import AddedToken, Tokenizer

    file = pathlib.Path(path)
    file = file / "tokenizer.json" if file.is_dir() else file
    if not file.exists():
        raise ConvertError(f"{file}: is missing (a fast tokenizer is needed; transformers can save one)")
    tokenizer = Tokenizer.from_file(str(file))
    missing = [token for token in SPECIAL_TOKENS if tokenizer.token_to_id(token) is None]
    if missing:
        print(f"tokenizer: adding {' '.join(missing)}")
        tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in missing])
    size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
    if size > vocab_size:
        raise ConvertError(
            f"llm.model.embed_tokens.weight: has {vocab_size} rows, but the tokenizer has {size} tokens: the checkpoint "
            "was saved without its language model, or the tokenizer is another one"
        )
    return tokenizer.to_str()


def locate(required, sources):
    """For every name the first source that holds it, after its shape was checked."""
    places, errors = {}, []
    for name, shape in required.items():
        source = next((source for source in sources if name in source.shapes), None)
        if source is None:
            errors.append(f"{name}: is missing from {', '.join(source.label for source in sources)}")
            continue
        stored = source.shapes[name]
        fits = len(stored) == len(shape) and all(want in (None, got) for want, got in zip(shape, stored, strict=True))
        if not fits:
            wanted = [dim if dim is not None else "any" for dim in shape]
            errors.append(f"{name}: is {list(stored)} in {source.label}, but config.json asks for {wanted}")
        places[name] = source
    if errors:
        more = f"\n... and {len(errors) - 20} more" if len(errors) > 20 else ""
        raise ConvertError("\n".join(errors[:20]) + more)
    return places


def converted(name, tensor, dtype):
    if not tensor.is_floating_point():
        raise ConvertError(f"{name}: is of type {tensor.dtype}, but weights must be floating point")
    dtype = dtype or (tensor.dtype if tensor.dtype in DTYPES.values() else torch.float32)
    result = tensor.to(dtype)
    if not torch.isfinite(result).all():
        where = "already" if not torch.isfinite(tensor).all() else f"in {dtype}; try --dtype bf16"
        raise ConvertError(f"{name}: is not finite {where}")
    return result.contiguous().clone()


def plan_shards(places, dtype, limit):
    """Runs of names whose bytes stay within the limit (a tensor larger than that has a shard of its own)."""
    shards, size = [[]], 0
    for name, source in places.items():
        width = torch.empty(0, dtype=dtype).element_size() if dtype else 4
        count = 1
        for dim in source.shapes[name]:
            count *= dim
        if shards[-1] and size + count * width > limit:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += count * width
    return shards


def write(output, places, dtype, limit):
    shards = plan_shards(places, dtype, limit)
    weight_map, total, done = {}, 0, 0
    for number, names in enumerate(shards, 1):
        single = len(shards) == 1
        file = "model.safetensors" if single else f"model-{number:05}-of-{len(shards):05}.safetensors"
        tensors = {}
        for name in names:
            tensors[name] = converted(name, places[name].read(name), dtype)
            total += tensors[name].nbytes
            done += 1
            progress(done, len(places), name)
        save_file(tensors, output / file, metadata={"format": "pt"})
        (output / file).chmod(0o644)  # the library writes files that only their owner may read
        weight_map |= dict.fromkeys(names, file)
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (output / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")
    return total, len(shards)


def progress(done, total, name):
    if sys.stderr.isatty():
        filled = 30 * done // total
        print(f"\r[{'#' * filled}{'.' * (30 - filled)}] {done}/{total} {name[:60]:60}", end="", file=sys.stderr)
        if done == total:
            print(file=sys.stderr)


def warn_unused(sources):
    """Lists unused tensors; long runs of one part are given by their prefix."""
    for source in sources:
        groups = {}
        for name in source.unused():
            groups.setdefault(".".join(name.split(".")[:3]), []).append(name)
        for prefix, names in groups.items():
            lines = names if len(names) <= 8 else [f"{prefix}.* ({len(names)} tensors)"]
            for line in lines:
                print(f"warning: unused in {source.label}: {line}")


def size_of(text):
    units = {"MB": 10**6, "GB": 10**9}
    for unit, factor in units.items():
        if text.upper().endswith(unit) and text[:-2].isdigit() and int(text[:-2]) > 0:
            return int(text[:-2]) * factor
    raise argparse.ArgumentTypeError(f"{text!r} is no size such as 500MB or 4GB")


def arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="what only the training script knows, as JSON")
    parser.add_argument("--checkpoint", required=True, help=".pth, .safetensors or a directory of the reference")
    parser.add_argument("--visual-encoder", help="Hugging Face directory or file of the CLIP model")
    parser.add_argument("--visual-tower", help="open_clip directory or file of the ConvNeXt model")
    parser.add_argument("--llm", help="Hugging Face directory or file of the language model")
    parser.add_argument("--tokenizer", required=True, help="tokenizer.json or its directory")
    parser.add_argument("--output", required=True, help="the model directory to write")
    parser.add_argument("--dtype", choices=DTYPES, default="f16", help="type of the weights (default f16)")
    parser.add_argument("--shard-size", type=size_of, default=size_of("4GB"), help="most bytes per file (default 4GB)")
    parser.add_argument("--trust-pickle", action="store_true", help="let a .pth of a trusted source run code")
    return parser.parse_args(argv)


def convert(args):
    config = complete_config(read_json(pathlib.Path(args.config)), args)
    parts = [
        ("checkpoint", args.checkpoint, rename_checkpoint),
        ("visual-encoder", args.visual_encoder, lambda name: f"visual_encoder.{name}"),
        ("visual-tower", args.visual_tower, lambda name: f"visual_tower.{name}"),
        ("llm", args.llm, lambda name: f"llm.{name}"),
    ]
    sources = [Source(label, path, rename, args.trust_pickle) for label, path, rename in parts if path]
    table = "llm.model.embed_tokens.weight"
    rows = next((source.shapes[table][0] for source in sources if table in source.shapes), None)
    if rows is not None:
        config["llm"]["vocab_size"] = rows
    try:
        required = model_tensors.required(config, lambda name: any(name in source.shapes for source in sources))
    except (KeyError, TypeError) as error:
        raise ConvertError(f"{args.config}: {error}") from error
    places = locate(required, sources)
    tokenizer = tokenizer_json(args.tokenizer, config["llm"]["vocab_size"])

    output = pathlib.Path(args.output)
    if output.exists() and any(output.iterdir()):
        raise ConvertError(f"{output}: is not empty")
    partial = output.with_name(output.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    total, shards = write(partial, places, DTYPES[args.dtype], args.shard_size)
    (partial / "tokenizer.json").write_text(tokenizer)
    (partial / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    if output.exists():
        output.rmdir()
    partial.rename(output)
    warn_unused(sources)
    print(f"{output}: {len(places)} tensors, {total} bytes in {shards} file{'s' if shards > 1 else ''}")


def main(argv=None):
    try:
        convert(arguments(argv))
    except ConvertError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
