"""Greedy answers of the composition, as the Rust session gives them, and teacher-forced decoding."""

import re

import torch

from .prompt import IMAGE, VISUAL_PROMPT, pieces, prompt_text

TRIPLET = re.compile(r"<Phrase>([^<]*)</Phrase>\(<Unit>([^<]*)</Unit>((?:\[\d+\]<REF>)+)\)")


def prompt_embeddings(model, tokenizer, selected, turn, regions):
    """Embeddings (1, n, d) of the whole prompt of one turn; `regions` (P, G, G) for its prompts, `selected` (1, L, C)."""
    text = prompt_text(turn["task"], turn["elements"], turn["units"], turn["question"])
    bos = model.config["llm"]["bos_token_id"]
    parts, used = [model.llm.embed(torch.tensor([[bos]]))], 0
    for piece in pieces(text):
        if piece == IMAGE:
            parts.append(model.projector(selected))
        elif piece == VISUAL_PROMPT:
            tokens = model.vpt_encoder(selected, regions[used : used + 1], torch.zeros(1, dtype=torch.long))
            parts.append(model.projector(tokens))
            used += 1
        else:
            parts.append(model.llm.embed(torch.tensor([tokenizer.encode(piece, add_special_tokens=False).ids])))
    return torch.cat(parts, 1)


@torch.no_grad()
def generate(model, x, limit=200, given=None):
    """Greedy ids after the prompt embeddings x (1, n, d), and the hidden state (n, d) at every id as input. With `given`
    these ids are fed instead (teacher forcing)."""
    caches = [[] for _ in model.llm.model.layers]
    n = x.shape[1]
    mask = torch.ones(n, n).tril().bool()[None, None]
    hidden = model.llm(x, torch.arange(n)[None], mask, caches)[:, -1:]
    eos = model.config["llm"]["eos_token_id"]
    ids, states = [], []
    while len(ids) < limit:
        token = given[len(ids)] if given is not None else int(model.llm.logits(hidden)[0, -1].argmax())
        ids.append(token)
        if token == eos:
            break
        x = model.llm.embed(torch.tensor([[token]]))
        n += 1
        hidden = model.llm(x, torch.tensor([[n - 1]]), torch.ones(1, 1, 1, n, dtype=torch.bool), caches)
        states.append(hidden[0, 0])
    return ids, torch.stack(states) if states else torch.zeros(0, x.shape[-1])


def parse(text):
    """(phrase, unit, count) of every well-formed triplet."""
    answer = text.split("</Task>")[-1]
    return [(p, u, refs.count("<REF>")) for p, u, refs in TRIPLET.findall(answer)]
