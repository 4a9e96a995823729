"""The trained parts after the first phase. Each is a module over the same composition, so states plug together.

- heads: tower and heads on stand-in latents, the encoder frozen;
- tune: box, mask and depth head on the language model's own states;
- pose: the pose head alone, on the frozen encoder and tower;
- language: projector, prompt encoder and language model; REF states are drawn to the stand-in codes;
- joint: everything, the heads reading the language model's own REF states.
"""

import numpy as np
import torch
from torch import nn

from .decode import Refs, heads_loss, pose_loss
from .dense import Probe, dense_loss, labels
from .latents import basis, codes, oracle
from .packing import hidden_states, text_loss
from .see import tower_loss, vision_batch


def ref_codes(refs, table):
    """Codes (N, CODE) of the REFs of one unit; object 0 is the whole picture."""
    picture, row, _, obj = refs.tensors()
    at = (picture[row], obj)
    return codes(table["shape"][at], table["colour"][at], table["size"][at], table["box"][at])


class Part(nn.Module):
    """The composition and the probes of encoder and tower."""

    def __init__(self, model, packer):
        super().__init__()
        self.model, self.packer = model, packer
        self.probe = Probe(model.config["visual_encoder"]["hidden_size"])
        self.tower_probe = Probe(sum(model.config["visual_tower"]["dims"][1:]))
        self.register_buffer("basis", basis(model.config["llm"]["hidden_size"]), persistent=False)

    def draw(self, rng, cache, size):
        """Everything a step needs, of `size` random scenes."""
        picks, packed = self.packer.draw(rng, cache, size)
        x, inst, depth, table = vision_batch(picks)
        instances = torch.from_numpy(np.stack(inst)).to(x.device).long()
        return x, inst, instances, depth, table, packed

    def see(self, x):
        """Selected encoder features."""
        return self.model.see(x)[0]


class HeadsPart(Part):
    """Tower and heads on stand-in latents."""

    def loss(self, batch):
        x, inst, instances, depth, table, packed = batch
        with torch.no_grad():
            selected = self.see(x)
        stages = self.model.visual_tower(x)
        loss, figures = tower_loss(self.tower_probe, stages, inst, depth, table)
        figures = {f"t_{k}": v for k, v in figures.items() if k in ("shape", "box")}
        latents = {u: oracle(ref_codes(r, table), self.basis) for u, r in packed.refs.items() if r.object}
        features = [*stages, selected]
        more, new = heads_loss(self.model.visual_decoder, features, latents, packed.refs, (instances, depth, table))
        return 0.5 * loss + more, {**figures, **new}


class PosePart(Part):
    """The pose head alone on pictures with a mannequin, encoder and tower frozen: few questions ask for a pose."""

    def draw(self, rng, cache, size):
        """The mannequin of every picture."""
        picks = cache.draw(rng, size, lambda scene: any("keypoints" in o and o["target"] for o in scene["objects"]))
        x, inst, depth, table = vision_batch(picks)
        refs = Refs()
        for b, (shard, index) in enumerate(picks):
            refs.add(b, [[next(o["id"] for o in shard.scenes[index]["objects"] if "keypoints" in o)]])
        return x, torch.from_numpy(np.stack(inst)).to(x.device).long(), table, refs

    def loss(self, batch):
        x, instances, table, refs = batch
        with torch.no_grad():
            features = [*self.model.visual_tower(x), self.see(x)]
        latents = oracle(ref_codes(refs, table), self.basis)
        return pose_loss(self.model.visual_decoder["pose"], features, latents, refs, table, instances)


class TunePart(Part):
    """Box, mask and depth head on the language model's own REF states, all else frozen."""

    def loss(self, batch):
        x, _, instances, depth, table, packed = batch
        with torch.no_grad():
            selected = self.see(x)
            features = [*self.model.visual_tower(x), selected]
            hidden = hidden_states(self.model, selected, packed).float()
        refs = {u: r for u, r in packed.refs.items() if u != "keypoint"}
        latents = {u: hidden[packed.ref_places[u][:, 0], packed.ref_places[u][:, 1]] for u in refs}
        return heads_loss(self.model.visual_decoder, features, latents, refs, (instances, depth, table))


class LanguagePart(Part):
    """Projector, prompt encoder and language model on the frozen encoder."""

    def loss(self, batch):
        x, _, _, _, table, packed = batch
        with torch.no_grad():
            selected = self.see(x)
        hidden = hidden_states(self.model, selected, packed)
        loss, figures = text_loss(self.model, hidden, packed)
        align, count = 0.0, 0
        for u, r in packed.refs.items():
            if r.object:
                at = packed.ref_places[u]
                error = hidden[at[:, 0], at[:, 1]].float() @ self.basis - ref_codes(r, table)
                align, count = align + error.square().sum(), count + error.numel()
        align = align / max(count, 1)
        loss = loss + align
        figures["align"] = float(torch.as_tensor(align).detach())
        return loss, figures


class JointPart(Part):
    """All parts end to end."""

    def loss(self, batch):
        x, inst, instances, depth, table, packed = batch
        selected = self.see(x)
        stages = self.model.visual_tower(x)
        hidden = hidden_states(self.model, selected, packed)
        text, figures = text_loss(self.model, hidden, packed)
        latents, align, count = {}, 0.0, 0
        for u, r in packed.refs.items():
            if r.object:
                at = packed.ref_places[u]
                latents[u] = hidden[at[:, 0], at[:, 1]].float()
                error = latents[u] @ self.basis - ref_codes(r, table)
                align, count = align + error.square().sum(), count + error.numel()
        align = align / max(count, 1)
        features = [*stages, selected]
        decoded, new = heads_loss(self.model.visual_decoder, features, latents, packed.refs, (instances, depth, table))
        target = labels(inst, depth, table, int(selected.shape[1] ** 0.5))
        seen, _ = dense_loss(self.probe(selected), target)
        tower, _ = tower_loss(self.tower_probe, stages, inst, depth, table)
        loss = text + 0.3 * align + 0.3 * decoded + 0.1 * (seen + tower)
        return loss, {**figures, "align": float(torch.as_tensor(align).detach()), **new}
