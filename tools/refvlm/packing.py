"""Several turns of one picture in one row: the picture's tokens are a shared prefix, turns do not see each other."""

from dataclasses import dataclass

import numpy as np
import torch

from .decode import Refs
from .turns import UNITS, choose, encode_turn

NAMES = {"ball", "cube", "can", "cone", "ring", "mannequin", "small", "large"}
NAMES |= {"red", "yellow", "green", "cyan", "blue", "purple", "white", "black"}


# Longest turn, in tokens, that counts as short.
SHORT = 64


@dataclass
class Packed:
    """Turns behind their pictures, T rows for each: ids (B * T, L) with -300 at prompt tokens, labels (-100 none) for the
    next token, loss weights, prompt regions with the picture of each, and per unit the REFs with the places (row, column)
    of their tokens."""

    ids: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor
    regions: torch.Tensor
    region_picture: torch.Tensor
    refs: dict
    ref_places: dict


class Packer:
    """Encodes turns with a cache; content words and digits weigh more in the loss. `share` of the batches are of long
    turns, most of them lists of three things and more, which are learned last. `units` keeps the turns with targets of
    these units only."""

    def __init__(self, tokenizer, prompt_tokens, turns, share=0.5, units=None):
        self.tokenizer, self.prompt_tokens, self.turns, self.share = tokenizer, prompt_tokens, turns, share
        self.units = units
        self.ref = tokenizer.token_to_id("<REF>")
        vocab = tokenizer.get_vocab()
        self.heavy = torch.ones(tokenizer.get_vocab_size())
        for token, i in vocab.items():
            word = token.replace("Ġ", "").lower()
            if word in NAMES or word in "123456" or word in ("yes", "no", "none", "one", "two", "three", "four"):
                self.heavy[i] = 3.0
        for token in ("</Task>", "<REF>", ")", "- Name: ", "</s>"):
            self.heavy[vocab[token]] = 2.0

    def ids(self, turn):
        """Prompt and answer ids of a turn."""
        if "ids" not in turn:
            turn["ids"] = encode_turn(self.tokenizer, turn, self.prompt_tokens)
        return turn["ids"]

    def fitting(self, scene, long):
        """The scene's turns that are long, or those that are short."""
        turns = [t for t in scene["turns"] if (sum(map(len, self.ids(t))) > SHORT) == long]
        if self.units:
            turns = [t for t in turns if t["plan"] and t["plan"][0]["unit"] in self.units]
        return turns

    def draw(self, rng, cache, size):
        """Random scenes, as (shard, index), and random turns of theirs: in one batch all short or all long, so that little
        is padding."""
        long = rng.random() < self.share
        picks = cache.draw(rng, size, lambda scene: self.fitting(scene, long))
        return picks, self.pack(rng, picks, long)

    def pack(self, rng, picks, long):
        """Random turns of the picked scenes."""
        count = max(1, self.turns // 3) if long else self.turns
        rows, regions, picture, refs = [], [], [], {u: Refs() for u in UNITS}
        places = {u: [] for u in UNITS}
        for b, (shard, index) in enumerate(picks):
            turns = choose(rng, self.fitting(shard.scenes[index], long), count)
            for t in turns:
                head, answer = self.ids(t)
                for j in range(len(t["prompts"])):
                    regions.append(shard.regions[t["region_start"] + j])
                    picture.append(b)
                ids = head + answer[:-1]
                if t["plan"]:
                    unit = t["plan"][0]["unit"]
                    refs[unit].add(b, t["targets"])
                    places[unit] += [(len(rows), i) for i, token in enumerate(ids) if token == self.ref]
                rows.append((ids, [-100] * (len(head) - 1) + answer))
            rows += [([1], [-100])] * (count - len(turns))
        length = -(-max(len(r[0]) for r in rows) // 16) * 16
        fill = lambda j, v: torch.tensor([r[j] + [v] * (length - len(r[j])) for r in rows])
        ids, labels = fill(0, 1), fill(1, -100)
        weights = self.heavy[labels.clamp(min=0)] * (labels >= 0)
        for u in UNITS:
            if len(places[u]) != len(refs[u].object):
                raise ValueError(f"turn of unit {u}: {len(places[u])} REF tokens for {len(refs[u].object)} targets")
        return Packed(
            ids,
            labels,
            weights,
            torch.from_numpy(np.array(regions, bool).reshape(len(regions), *shard.regions.shape[1:])).to(ids.device),
            torch.tensor(picture, dtype=torch.long),
            refs,
            {u: torch.tensor(p, dtype=torch.long).view(-1, 2) for u, p in places.items()},
        )


def embed(model, selected, packed):
    """Projected picture tokens behind BOS (B, 1 + P, d) and token embeddings (B * T, L, d) with prompt tokens in place."""
    b, p, _ = selected.shape
    picture = model.projector(selected)
    bos = model.llm.embed(torch.zeros(b, 1, dtype=torch.long)).to(picture.dtype)
    suffix = model.llm.embed(packed.ids.clamp(min=0)).to(picture.dtype)
    if len(packed.regions):
        tokens = model.vpt_encoder(selected, packed.regions, packed.region_picture)
        where = (packed.ids == -300).nonzero()
        suffix = suffix.index_put((where[:, 0], where[:, 1]), model.projector(tokens).flatten(0, 1).to(suffix.dtype))
    return torch.cat((bos, picture), 1), suffix


def hidden_states(model, selected, packed):
    """Post-norm hidden states (B * T, L, d) of the turns."""
    return model.llm.packed(*embed(model, selected, packed))


def text_loss(model, hidden, packed):
    """Weighted cross-entropy of the answers; figures: accuracy over all and over heavy tokens."""
    on = packed.labels >= 0
    logits = model.llm.logits(hidden[on]).float()
    labels, weights = packed.labels[on], packed.weights[on]
    loss = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    right = (logits.argmax(-1) == labels).float()
    heavy = weights > 2.5
    figures = {"token": right.mean().item(), "word": right[heavy].mean().item()}
    return (loss * weights).sum() / weights.sum(), figures
