"""Turns of cached scenes as token ids, packed several to a picture."""

from .prompt import encode_answer, encode_prompt, prompt_text

UNITS = ("box", "mask", "keypoint", "depth")


def encode_turn(tokenizer, turn, prompt_tokens):
    """Prompt ids after the image, and answer ids. BOS and the image tokens are shared by all turns."""
    text = prompt_text(turn["task"], turn["elements"], turn["units"], turn["question"])
    ids = encode_prompt(tokenizer, text, 0, 1, prompt_tokens)
    if ids[:2] != [0, -200] or -200 in ids[2:]:
        raise ValueError("prompt: the image must come first and once")
    return ids[2:], encode_answer(tokenizer, turn["plan"], turn["answer"], 1)


def choose(rng, turns, count):
    """`count` of the turns at random, without repetition."""
    return [turns[i] for i in rng.permutation(len(turns))[:count]]
