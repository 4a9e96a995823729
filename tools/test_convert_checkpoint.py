"""Tests tools/convert_checkpoint.py on a tiny made-up checkpoint with the reference's names. No network.

Run: python tools/test_convert_checkpoint.py
"""

import contextlib
import io
import json
import pathlib
import tempfile
import unittest

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer, models

import convert_checkpoint
import model_tensors

WIDTH, LLM = 32, 48

HEAD = {"d_model": 32, "decoder_layers": 1, "decoder_ffn_dim": 64, "decoder_attention_heads": 4, "num_queries": 5}

PARTIAL = {
    "visual_select_layer": -2,
    "prompt_template": {"system_prefix": "", "system": "{system}\n", "instruction": "USER: {input} ASSISTANT:", "sep": "\n"},
    "projector": {"visual_hidden_size": WIDTH, "llm_hidden_size": LLM},
    "vpt_encoder": {"visual_hidden_size": WIDTH, "num_patches": 4, "use_mask_token": True},
    "visual_tower": {"model_type": "timm_convnext", "depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32], "img_size": 64},
    "vd_adapter": {"d_model": LLM, "d_input_image": LLM, "d_input_token": LLM, "n_heads": 4, "d_ffn": 64, "num_layers": 1},
    "visual_decoder": {
        "box": {**HEAD, "quries_input_dim": LLM, "encoder_input_index": [0, 3], "encoder_input_dim": [8, 32]},
        "mask": {
            **HEAD, "quries_input_dim": LLM, "encoder_input_index": [0, 1, 2], "encoder_input_dim": [8, 16, 24],
            "fpn_feature_size": 32, "mask_feature_size": 16,
        },
        "pose": {
            "num_queries": 5, "encoder_input_index": [0], "encoder_input_dim": [8],
            "box_config": {**HEAD, "quries_input_dim": LLM}, "keypoint_config": {**HEAD, "quries_input_dim": 32},
        },
    },
}

CLIP = {
    "vision_config": {
        "hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "image_size": 32, "patch_size": 8,
    }
}

LLAMA = {
    "model_type": "llama", "hidden_size": LLM, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "vocab_size": 20, "max_position_embeddings": 64,
}

VOCAB = 30


def all_tensors():
    """Every tensor that the model needs, random, by name."""
    config = {
        **PARTIAL, "llm": {**LLAMA, "vocab_size": VOCAB},
        "visual_encoder": {**CLIP["vision_config"], "model_type": "clip_vision_model"},
    }
    generator = torch.Generator().manual_seed(3)
    wanted = model_tensors.required(config, lambda name: False)
    free = {"in_proj_image": 40, "in_proj_text": 40, "position_embedding": 17}
    tensors = {}
    for name, shape in wanted.items():
        size = next((size for part, size in free.items() if part in name), None)
        tensors[name] = torch.randn([dim or size for dim in shape], generator=generator)
    return tensors


class Convert(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.dir = pathlib.Path(holder.name)
        self.tensors = all_tensors()
        for part in ("clip", "tower", "llm"):
            (self.dir / part).mkdir()
        self.write_parts()

    def part(self, prefix):
        return {n.removeprefix(prefix): t for n, t in self.tensors.items() if n.startswith(prefix)}

    def write_parts(self):
        """As the reference leaves them: trained modules and LLM in the checkpoint, the frozen rest in its own files."""
        frozen = ("visual_encoder.", "visual_tower.")
        trained = {name: tensor for name, tensor in self.tensors.items() if not name.startswith(frozen)}
        trained["visual_decoder.mask.queries_embedder.weight"] = torch.zeros(5, 32)
        torch.save({"state_dict": trained, "meta": {"epoch": 1}}, self.dir / "iter.pth")
        clip = self.part("visual_encoder.")
        clip["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
        clip |= {f"text_model.encoder.layers.{i}.weight": torch.zeros(2) for i in range(12)}
        save_file(clip, self.dir / "clip" / "model.safetensors")
        (self.dir / "clip" / "config.json").write_text(json.dumps(CLIP))
        size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
        (self.dir / "clip" / "preprocessor_config.json").write_text(json.dumps(size))
        torch.save(self.part("visual_tower."), self.dir / "tower" / "open_clip_pytorch_model.bin")
        old = {name: tensor + 1 for name, tensor in self.part("llm.").items()}
        save_file(old, self.dir / "llm" / "model.safetensors")
        (self.dir / "llm" / "config.json").write_text(json.dumps(LLAMA))
        words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(20)}, unk_token="w0"))
        words.save(str(self.dir / "llm" / "tokenizer.json"))
        (self.dir / "config.json").write_text(json.dumps(PARTIAL))

    def run_tool(self, *extra, parts=("visual-encoder", "visual-tower", "llm")):
        paths = {"visual-encoder": "clip", "visual-tower": "tower", "llm": "llm"}
        argv = ["--config", self.dir / "config.json", "--checkpoint", self.dir / "iter.pth"]
        argv += ["--tokenizer", self.dir / "llm", "--output", self.dir / "model"]
        for part in parts:
            argv += [f"--{part}", self.dir / paths[part]]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = convert_checkpoint.main([str(arg) for arg in [*argv, *extra]])
        return code, out.getvalue(), err.getvalue()

    def read(self):
        found = {}
        for file in sorted((self.dir / "model").glob("*.safetensors")):
            with safe_open(file, "pt") as handle:
                found |= {name: handle.get_tensor(name) for name in handle.keys()}
        return found

    def test_merges_the_parts(self):
        code, out, err = self.run_tool("--dtype", "f32")
        self.assertEqual((code, err), (0, ""))
        found = self.read()
        self.assertEqual(found.keys(), self.tensors.keys())
        for name, tensor in self.tensors.items():
            self.assertTrue(torch.equal(found[name], tensor), name)
        config = json.loads((self.dir / "model" / "config.json").read_text())
        self.assertEqual(config["llm"]["vocab_size"], VOCAB)
        self.assertEqual(config["visual_encoder"]["model_type"], "clip_vision_model")
        self.assertEqual(config["preprocessor"]["visual_encoder"]["size"], {"shortest_edge": 32})
        self.assertEqual(config["preprocessor"]["visual_tower"]["crop_size"], {"height": 64, "width": 64})
        tokenizer = Tokenizer.from_file(str(self.dir / "model" / "tokenizer.json"))
        ids = [tokenizer.token_to_id(token) for token in convert_checkpoint.SPECIAL_TOKENS]
        self.assertEqual(ids, list(range(20, 30)))

    def test_lists_unused_tensors(self):
        _, out, _ = self.run_tool()
        self.assertIn("unused in checkpoint: visual_decoder.mask.queries_embedder.weight", out)
        self.assertIn("unused in visual-encoder: visual_encoder.vision_model.embeddings.position_ids", out)
        self.assertIn("unused in visual-encoder: visual_encoder.text_model.encoder.* (12 tensors)", out)

    def test_shards_and_types(self):
        for number, dtype in enumerate(("f16", "bf16")):
            code, out, err = self.run_tool("--dtype", dtype, "--shard-size", "1MB", "--output", str(self.dir / "model"))
            self.assertEqual((code, err), (0, ""))
            found = self.read()
            self.assertEqual({tensor.dtype for tensor in found.values()}, {convert_checkpoint.DTYPES[dtype]})
            name = "llm.model.norm.weight"
            self.assertTrue(torch.equal(found[name], self.tensors[name].to(found[name].dtype)))
            for file in (self.dir / "model").iterdir():
                file.unlink()
            (self.dir / "model").rmdir()
        places = {f"t{i}": type("S", (), {"shapes": {f"t{i}": (100,)}}) for i in range(5)}
        shards = convert_checkpoint.plan_shards(places, torch.float32, 850)
        self.assertEqual(shards, [["t0", "t1"], ["t2", "t3"], ["t4"]])

    def test_an_index_names_every_shard(self):
        sources = {"a": torch.ones(3), "b": torch.ones(4), "c": torch.ones(5)}
        part = type("S", (), {"shapes": {n: tuple(t.shape) for n, t in sources.items()}, "read": staticmethod(sources.get)})
        total, shards = convert_checkpoint.write(self.dir, dict.fromkeys(sources, part), torch.float32, 28)
        self.assertEqual((total, shards), (48, 2))
        index = json.loads((self.dir / "model.safetensors.index.json").read_text())
        first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
        self.assertEqual(index["weight_map"], {"a": first, "b": first, "c": second})

    def test_a_missing_tensor_is_an_error(self):
        code, _, err = self.run_tool(parts=("visual-encoder", "llm"))
        self.assertEqual(code, 1)
        self.assertIn("visual_tower.visual.trunk.stem.0.weight: is missing from checkpoint, visual-encoder, llm", err)
        self.assertFalse((self.dir / "model").exists())

    def test_a_misshapen_tensor_is_an_error(self):
        self.tensors["projector.model.0.weight"] = torch.zeros(LLM, WIDTH + 1)
        self.write_parts()
        code, _, err = self.run_tool()
        self.assertEqual(code, 1)
        self.assertIn(f"projector.model.0.weight: is [{LLM}, {WIDTH + 1}] in checkpoint", err)

    def test_values_beyond_the_type_are_an_error(self):
        self.tensors["llm.model.norm.weight"][3] = 1e6
        self.write_parts()
        code, _, err = self.run_tool("--dtype", "f16")
        self.assertEqual(code, 1)
        self.assertIn("llm.model.norm.weight: is not finite in torch.float16; try --dtype bf16", err)
        self.assertFalse((self.dir / "model").exists())

    def test_a_tokenizer_larger_than_the_table_is_an_error(self):
        for name in ("llm.model.embed_tokens.weight", "llm.lm_head.weight"):
            self.tensors[name] = self.tensors[name][:20].clone()
        self.write_parts()
        code, _, err = self.run_tool()
        self.assertEqual(code, 1)
        self.assertIn("has 20 rows, but the tokenizer has 30 tokens", err)

    def test_lora_and_wrong_files_are_named(self):
        torch.save({"llm.base_model.model.q_proj.lora_A.weight": torch.zeros(2)}, self.dir / "iter.pth")
        self.assertIn("merge it into its base model", self.run_tool()[2])
        (self.dir / "iter.pth").write_bytes(b"no checkpoint")
        self.assertIn("iter.pth: cannot be read", self.run_tool()[2])
        (self.dir / "iter.pth").unlink()
        self.assertIn("no such file or directory", self.run_tool()[2])
        (self.dir / "config.json").write_text("{}")
        self.assertIn("projector is missing", self.run_tool()[2])

    def test_open_clip_configuration(self):
        config = {"model_cfg": {"vision_cfg": {"timm_model_name": "convnext_large", "image_size": 320}}}
        (self.dir / "tower" / "open_clip_config.json").write_text(json.dumps(config))
        tower = convert_checkpoint.tower_config(self.dir / "tower")
        self.assertEqual((tower["dims"], tower["img_size"]), ([192, 384, 768, 1536], 320))
        config["model_cfg"]["vision_cfg"]["timm_model_name"] = "resnet50"
        (self.dir / "tower" / "open_clip_config.json").write_text(json.dumps(config))
        with self.assertRaisesRegex(convert_checkpoint.ConvertError, "resnet50"):
            convert_checkpoint.tower_config(self.dir / "tower")


if __name__ == "__main__":
    unittest.main()
