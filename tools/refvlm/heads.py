"""The decoder heads: latents of one unit in, boxes, masks, keypoints or depth out, on the square-padded picture.

Every head takes `features`, the list [stage 0 .. stage 3, selected CLIP features] (maps (B, C, H, W) or tokens
(B, L, C) of a square grid), and `latents` (R, Q, quries_input_dim) already zero-padded to `num_queries` slots. `rows`
(R,) names the picture of each latent row. All slots run, as the empty ones take part in self-attention.
"""

import torch
import torch.nn.functional as F
from torch import nn

from .detr import DetrDecoder, MlpHead, sine_position
from .fpn import PixelDecoder, mask_embedder


def as_map(x):
    """Tokens (B, L, C) of a square grid as a map (B, C, H, W); maps pass."""
    if x.dim() == 4:
        return x
    side = int(x.shape[1] ** 0.5)
    return x.transpose(1, 2).reshape(x.shape[0], -1, side, side)


def select(features, config):
    """Features chosen by `encoder_input_index` and combined by `encoder_input_transform`."""
    index, how = config["encoder_input_index"], config.get("encoder_input_transform", "resize_concat")
    if how is None:
        return as_map(features[index])
    maps = [as_map(features[i]) for i in index]
    if how == "multiple_select":
        return maps
    if how != "resize_concat":
        raise ValueError(f"encoder_input_transform: unknown {how!r}")
    size = maps[0].shape[-2:]
    maps = [m if m.shape[-2:] == size else F.interpolate(m, size, mode="bilinear", align_corners=False) for m in maps]
    return torch.cat(maps, 1)


def width(dims):
    """Channels after selection."""
    return sum(dims) if isinstance(dims, (list, tuple)) else dims


def pad_slots(latents, slots):
    """(R, n, d) cut or zero-padded to (R, slots, d)."""
    return F.pad(latents[:, :slots], (0, 0, 0, max(0, slots - latents.shape[1])))


class QueryDecoder(nn.Module):
    """What box and keypoint decoder share: projections, query positions and the DETR decoder."""

    def __init__(self, config, queries):
        super().__init__()
        self.config = config
        dim = config["d_model"]
        self.in_proj_visual_feats = nn.Linear(width(config["encoder_input_dim"]), dim)
        self.in_proj_queries = nn.Linear(config["quries_input_dim"], dim)
        self.query_position_embeddings = nn.Embedding(queries, dim)
        self.decoder = DetrDecoder(config)

    def decode(self, features, queries, rows):
        """Decoder states for projected queries, and attention weights over the first selected map's grid."""
        maps = select(features, self.config)
        memory = self.in_proj_visual_feats(maps.flatten(2).transpose(1, 2))
        pos = sine_position(*maps.shape[-2:], self.config["d_model"], memory.dtype, memory.device)
        return self.decoder(queries, self.query_position_embeddings.weight, memory, pos, rows)


class BoxHead(QueryDecoder):
    """Boxes (R, Q, 4) as cx, cy, w, h in 0..1 of the padded square."""

    def __init__(self, config):
        super().__init__(config, config["num_queries"])
        self.predictor = MlpHead(config["d_model"], config["d_model"], 4)

    def states(self, features, latents, rows=None):
        """Decoder states (R, Q, d) and attention weights."""
        return self.decode(features, self.in_proj_queries(latents), rows)

    def forward(self, features, latents, rows=None):
        states, weights = self.states(features, latents, rows)
        return {"boxes": self.predictor(states).float().sigmoid(), "states": states, "attention": weights}


class MaskHead(nn.Module):
    """Mask logits (R, Q, h, w) on the grid of the first selected map; depth shares the class."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        dims, dim = config["encoder_input_dim"], config["d_model"]
        self.pixel_decoder = PixelDecoder(dims, config["fpn_feature_size"], config["mask_feature_size"])
        self.in_proj_visual_feats = nn.Conv2d(dims[-1], dim, 1) if dims[-1] != dim else None
        self.in_proj_queries = nn.Linear(config["quries_input_dim"], dim)
        self.query_position_embeddings = nn.Embedding(config["num_queries"], dim)
        self.query_decoder = DetrDecoder({**config, "auxiliary_loss": False})
        self.mask_embedder = mask_embedder(dim, config["mask_feature_size"])

    def embed(self, features, latents, rows=None):
        """Mask embeddings (R, Q, c), pixel embeddings (B, c, h, w) and attention weights over the deepest map."""
        maps = select(features, self.config)
        pixels = self.pixel_decoder(maps)
        deep = maps[-1]
        if self.in_proj_visual_feats is not None:
            deep = self.in_proj_visual_feats(deep)
        memory = deep.flatten(2).transpose(1, 2)
        pos = sine_position(*deep.shape[-2:], memory.shape[-1], memory.dtype, memory.device)
        queries = self.in_proj_queries(latents)
        states, weights = self.query_decoder(queries, self.query_position_embeddings.weight, memory, pos, rows)
        return self.mask_embedder(states), pixels, weights

    def forward(self, features, latents, rows=None):
        embedding, pixels, weights = self.embed(features, latents, rows)
        if rows is not None:
            pixels = pixels[rows]
        logits = torch.einsum("rqc,rchw->rqhw", embedding, pixels).float()
        return {"logits": logits, "attention": weights}


class KeypointDecoder(QueryDecoder):
    """Every query repeated 1 + num_body_points times: slot 0 gives the box again, the others one joint each."""

    def __init__(self, config):
        self.slots = config.get("num_body_points", 17) + 1
        super().__init__(config, self.slots * config["num_queries"])
        dim = config["d_model"]
        self.kpt_embedding = nn.Embedding(self.slots, dim)
        self.box_predictor = MlpHead(dim, dim, 4)
        self.kpt_predictor = MlpHead(dim, dim, 2)
        self.kpt_classifier = nn.Linear(dim, 2)

    def forward(self, features, states, rows=None):
        r, q, _ = states.shape
        queries = self.in_proj_queries(states)[:, :, None] + self.kpt_embedding.weight
        out, weights = self.decode(features, queries.flatten(1, 2), rows)
        out = out.view(r, q, self.slots, -1)
        return {
            "boxes": self.box_predictor(out[:, :, 0]).float().sigmoid(),
            "keypoints": self.kpt_predictor(out[:, :, 1:]).float().sigmoid(),
            "visibility": self.kpt_classifier(out[:, :, 1:]).float(),
            "attention": weights,
        }


def pose_configs(config):
    """The box and keypoint configurations of a pose head, the shared fields filled in."""
    shared = ("num_queries", "encoder_input_transform", "encoder_input_index", "encoder_input_dim")
    common = {k: config[k] for k in shared if k in config}
    return {**common, **config["box_config"]}, {**common, **config["keypoint_config"]}


class PoseHead(nn.Module):
    """A box decoder whose states feed a keypoint decoder; visibility is the larger of two classifier outputs."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        box, keypoint = pose_configs(config)
        self.box_decoder = BoxHead(box)
        self.kpt_decoder = KeypointDecoder(keypoint)

    def forward(self, features, latents, rows=None):
        first = self.box_decoder(features, latents, rows)
        out = self.kpt_decoder(features, first["states"], rows)
        out["first_boxes"], out["first_attention"] = first["boxes"], first["attention"]
        return out


HEADS = {"box": BoxHead, "mask": MaskHead, "pose": PoseHead, "depth": MaskHead}
