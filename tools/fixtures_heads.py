"""Makes the fixtures of tests/heads.rs: heads, prompt encoder, projector and adapter with random weights.

    python tools/fixtures_heads.py

Made with torch 2.15.0, transformers 5.23.0, safetensors 0.8.0. The modules are those of tools/refvlm; before anything is
written, its DETR decoder and pixel decoder are held against transformers' own classes. Every case has its own fixed seed.
"""

import zlib

import torch
import torch.nn.functional as F
import transformers as hf
from transformers.models.detr.modeling_detr import DetrDecoder
from transformers.models.maskformer.modeling_maskformer import MaskFormerPixelDecoder, MaskformerMLPPredictionHead

from fixture_io import randomise, write, write_configs
from refvlm import adapter, heads, prompts

CONFIGS = {}
# Channels and sides of the feature list: four stages of a tower, then the selected features of an encoder.
MAPS = ((6, 16), (8, 8), (12, 4), (16, 2), (10, 5))
DECODER = dict(d_model=32, decoder_attention_heads=4, decoder_ffn_dim=48, decoder_layers=2, quries_input_dim=20)


def rounded(*shape):
    """Random numbers that f32 holds, as f64."""
    return torch.randn(*shape).double()


def feature_list(maps=MAPS):
    """Feature maps (1, C, S, S) and the same as input tensors (S * S, C)."""
    features = [rounded(1, c, s, s) for c, s in maps]
    return features, {f"feature{i}": f[0].flatten(1).T for i, f in enumerate(features)}


def watch(seen, **modules):
    """Keeps the output of every module under its name."""
    for name, module in modules.items():
        module.register_forward_hook(
            lambda module, args, out, name=name: seen.update({name: out[0] if isinstance(out, tuple) else out})
        )


def rows(x):
    """A tensor (1, n, d) as (n, d), a map (1, c, h, w) as (h * w, c)."""
    return x[0].flatten(1).T if x.dim() == 4 else x[0]


def case(name, config, build, dtype, run):
    """Seeds, builds, randomises and runs one module; `run` gives inputs and outputs."""
    torch.manual_seed(zlib.crc32(name.encode()))
    module = randomise(build(config), dtype)
    inputs, outputs = run(module)
    CONFIGS[name] = config
    write(f"heads_{name}", {f"module.{k}": v for k, v in module.state_dict().items()}, dtype, inputs, outputs)


def spatial(head, features, seen):
    """The positions of the cells that a head's decoder reads, and how it came to what it gave."""
    side = int(rows(seen["memory"]).shape[0] ** 0.5)
    position = heads.sine_position(side, side, head.config["d_model"], torch.float64, torch.device("cpu"))
    return {k: rows(v) for k, v in seen.items()} | {"memory_position": position[0]}


def box(count, zero_slots=False):
    """Runs a box head on `count` latents; with `zero_slots` empty slots hold zeros instead of the projection's bias."""

    def run(head):
        features, inputs = feature_list()
        latents, slots, seen = rounded(1, count, 20), head.config["num_queries"], {}
        watch(seen, memory=head.in_proj_visual_feats, hidden=head.decoder)
        queries = head.in_proj_queries(heads.pad_slots(latents, slots))
        if zero_slots:
            queries = heads.pad_slots(head.in_proj_queries(latents), slots)
        states, _ = head.decode(features, queries, None)
        outputs = {"boxes": head.predictor(states)[0].sigmoid(), "queries": queries[0]}
        return inputs | {"latents": latents[0]}, outputs | spatial(head, features, seen)

    return run


def mask(count, maps=MAPS):
    """Runs a mask head on `count` latents."""

    def run(head):
        features, inputs = feature_list(maps)
        latents, seen = rounded(1, count, 20), {}
        watch(seen, queries=head.in_proj_queries, hidden=head.query_decoder, mask_embedding=head.mask_embedder)
        watch(seen, pixel_embedding=head.pixel_decoder)
        if head.in_proj_visual_feats is None:
            seen["memory"] = features[head.config["encoder_input_index"][-1]]
        else:
            watch(seen, memory=head.in_proj_visual_feats)
        head(features, heads.pad_slots(latents, head.config["num_queries"]))
        logits = rows(seen["mask_embedding"]) @ rows(seen["pixel_embedding"]).T
        outputs = {"logits": logits, "shares": logits.sigmoid()} | spatial(head, features, seen)
        return inputs | {"latents": latents[0]}, outputs

    return run


def pose(head):
    """Runs a pose head on two latents."""
    features, inputs = feature_list()
    latents, seen, first, second = rounded(1, 2, 20), {}, head.box_decoder, head.kpt_decoder
    watch(seen, first_memory=first.in_proj_visual_feats, first_hidden=first.decoder, first_queries=first.in_proj_queries)
    watch(seen, keypoint_memory=second.in_proj_visual_feats, keypoint_hidden=second.decoder)
    head(features, heads.pad_slots(latents, head.config["num_queries"]))
    out = rows(seen["keypoint_hidden"]).view(head.config["num_queries"], second.slots, -1)
    queries = second.in_proj_queries(rows(seen["first_hidden"]))[:, None] + second.kpt_embedding.weight
    position = heads.sine_position(16, 16, first.config["d_model"], torch.float64, torch.device("cpu"))[0]
    outputs = {
        "first_boxes": first.predictor(rows(seen["first_hidden"])).sigmoid(),
        "boxes": second.box_predictor(out[:, 0]).sigmoid(),
        "keypoints": second.kpt_predictor(out[:, 1:]).sigmoid().flatten(0, 1),
        "visibility": second.kpt_classifier(out[:, 1:]).flatten(0, 1),
        "keypoint_queries": queries.flatten(0, 1),
        "memory_position": position,
    }
    return inputs | {"latents": latents[0]}, outputs | {k: rows(v) for k, v in seen.items()}


def prompt(encoder):
    """Encodes four regions of a 6x6 grid, the last one empty."""
    features = rounded(1, 36, encoder.config["visual_hidden_size"])
    regions = torch.rand(4, 6, 6) > 0.6
    regions[1] = False
    regions[1, 4, 3] = True
    regions[3] = False
    tokens = encoder(features, regions, torch.zeros(4, dtype=torch.long))
    if encoder.config.get("use_projector"):
        tokens = encoder.model.projector(tokens)
    inputs = {"features": features[0], "regions": regions.flatten(1).double()}
    return inputs, {"tokens": tokens.flatten(0, 1)}


def build_projecting(config):
    """The prompt encoder with its own projector, which the reference applies to the wrong tensor."""
    module = prompts.VptEncoder(config)
    module.model.projector = prompts.Projector(config).model
    return module


def project(projector):
    """Projects five rows."""
    x = rounded(5, projector.config["visual_hidden_size"])
    return {"features": x}, {"projected": projector(x)}


def build_adapter(config):
    """The adapter with input projections narrower than the reference's fixed 8192, and without its unused embedding."""
    module = adapter.VdAdapter(config)
    module.in_proj_image = adapter.MlpBlock(config["d_model"], 40, F.gelu)
    module.in_proj_text = adapter.MlpBlock(config["d_model"], 40, F.gelu)
    del module.output_tokens
    return module


def adapt(module):
    """Runs three groups: phrase shorter than its place, longer than it, and missing."""
    image = rounded(16, 32)
    refs, phrases = [rounded(n, 32) for n in (2, 1, 3)], [rounded(n, 32) for n in (3, 8, 0)]
    latents, fused = module(image, phrases, refs)
    inputs = {"image": image} | {f"refs{i}": x for i, x in enumerate(refs)}
    inputs |= {f"phrase{i}": x for i, x in enumerate(phrases) if len(x)}
    return inputs, {"latents": latents, "image": fused}


def hold_against_transformers():
    """The composition's decoder and pixel decoder must agree with transformers' classes in f64."""
    torch.manual_seed(1)
    ours = randomise(heads.DetrDecoder(DECODER), torch.float32)
    fields = {k: v for k, v in DECODER.items() if k != "quries_input_dim"}
    theirs = DetrDecoder(hf.DetrConfig(**fields, activation_function="relu")).double().eval()
    names = {".fc": ".mlp.fc", ".out_proj.": ".o_proj."}
    state = ours.state_dict()
    for old, new in names.items():
        state = {k.replace(old, new): v for k, v in state.items()}
    theirs.load_state_dict(state)
    x, query_pos, memory, memory_pos = rounded(1, 6, 32), rounded(1, 6, 32), rounded(1, 25, 32), rounded(1, 25, 32)
    want = theirs(
        inputs_embeds=x,
        encoder_hidden_states=memory,
        spatial_position_embeddings=memory_pos,
        object_queries_position_embeddings=query_pos,
    ).last_hidden_state
    gap = (ours(x, query_pos, memory, memory_pos)[0] - want).norm() / want.norm()
    print(f"DETR decoder against transformers: {gap:.1e}")
    assert gap < 1e-12
    ours = randomise(heads.PixelDecoder([6, 8, 10], 64, 16), torch.float32)
    theirs = MaskFormerPixelDecoder(10, feature_size=64, mask_feature_size=16, lateral_widths=[6, 8]).double()
    theirs.load_state_dict(ours.state_dict())
    maps = [rounded(1, 6, 16, 16), rounded(1, 8, 8, 8), rounded(1, 10, 5, 5)]
    want = theirs(maps).last_hidden_state
    gap = (ours(maps) - want).norm() / want.norm()
    print(f"pixel decoder against transformers: {gap:.1e}")
    assert gap < 1e-12
    ours = randomise(heads.mask_embedder(32, 16), torch.float32)
    theirs = MaskformerMLPPredictionHead(32, 32, 16).double()
    theirs.load_state_dict(ours.state_dict())
    assert torch.equal(ours(x), theirs(x))


def main():
    """All cases."""
    hold_against_transformers()
    f16, f32 = torch.float16, torch.float32
    several = dict(encoder_input_transform="resize_concat", encoder_input_index=[0, 1, 2, 4])
    several["encoder_input_dim"] = [6, 8, 12, 10]
    config = dict(DECODER, **several, num_queries=6, auxiliary_loss=True)
    case("box", config, heads.BoxHead, f16, box(3))
    config = dict(DECODER, **several, num_queries=6, auxiliary_loss=False)
    case("box_zero_slots", config, heads.BoxHead, f32, box(2, zero_slots=True))
    single = dict(encoder_input_transform=None, encoder_input_index=4, encoder_input_dim=10)
    case("box_single", dict(DECODER, **single, num_queries=6), heads.BoxHead, f16, box(6))
    config = dict(DECODER, encoder_input_transform="multiple_select", num_queries=5, mask_feature_size=16)
    lists = dict(encoder_input_index=[0, 1, 4], encoder_input_dim=[6, 8, 10], fpn_feature_size=64)
    case("mask", dict(config, **lists), heads.MaskHead, f16, mask(2))
    lists = dict(encoder_input_index=[2, 0], encoder_input_dim=[8, 32], fpn_feature_size=32)
    config |= lists | dict(depth_range=[0.5, 8.0])
    case("depth", config, heads.MaskHead, f32, mask(1, maps=((32, 5), (4, 3), (8, 9))))
    second = dict(DECODER, d_model=24, decoder_attention_heads=3, quries_input_dim=32, num_body_points=17)
    config = dict(several, num_queries=4, box_config=DECODER, keypoint_config=second)
    case("pose", config, heads.PoseHead, f16, pose)
    config = dict(visual_hidden_size=20, num_patches=9, strategy="pooling", use_mask_token=True)
    case("vpt_pooling", config, prompts.VptEncoder, f32, prompt)
    config = dict(visual_hidden_size=20, num_patches=9, patch_size=2, strategy="embedding", use_mask_token=False)
    case("vpt_embedding", config, prompts.VptEncoder, f16, prompt)
    config = dict(visual_hidden_size=20, num_patches=4, strategy="pooling", use_projector=True, llm_hidden_size=28)
    case("vpt_projector", config, build_projecting, f32, prompt)
    config = dict(visual_hidden_size=20, llm_hidden_size=28, depth=2, hidden_act="gelu", bias=True)
    case("projector", config, prompts.Projector, f32, project)
    case("projector_deep", dict(config, depth=3, bias=False), prompts.Projector, f16, project)
    config = dict(d_input_image=32, d_input_token=32, d_model=32, n_heads=4, d_ffn=48, num_layers=2)
    case("vd_adapter", dict(config, ref_max_length=5, phrase_max_length=6), build_adapter, f16, adapt)
    write_configs("heads", CONFIGS)


with torch.no_grad():
    main()
