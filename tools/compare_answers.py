"""Compare greedy answers of the Rust library with PyTorch, token by token.

    cargo run --release --example answers -- --questions 500 > out/answers.jsonl
    python tools/compare_answers.py --model examples/tabletop/model --answers out/answers.jsonl \
        --generator target/release/tabletop

Both sides render the same scenes from their seeds and prepare pictures, prompts and text on their own; the shipped f16
weights are upcast to f32. PyTorch reads each of the Rust answers once and says at every step which token it would have
chosen: up to the first difference these are the tokens of its own greedy answer. A difference is excused, and counted,
only where the two largest logits are within 1e-4. Made with torch 2.15.0, tokenizers 0.23.3, numpy 2.4.6, pillow.
"""

import argparse
import itertools
import json
import subprocess
import sys

import numpy as np
import torch

from refvlm.data import normalise, pad_and_resize, read_stream, region
from refvlm.model import load_directory
from refvlm.prompt import encode_prompt, prompt_text
from refvlm.tokenizer import load_tokenizer

TIE = 1e-4


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="model directory")
    parser.add_argument("--answers", required=True, help="JSON lines written by the example `answers`")
    parser.add_argument("--generator", required=True, help="the built program `tabletop`")
    return parser.parse_args()


def scenes(generator, first, count):
    """Records of `count` scenes from `first` on."""
    command = [generator, "stream", "--first-seed", str(first), "--scenes", str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=1 << 20) as process:
        yield from read_stream(process.stdout)
        process.stdout.close()
    if process.wait():
        raise RuntimeError(f"the generator failed with status {process.returncode}")


class Reader:
    """What PyTorch would have written after every prefix of a given answer."""

    def __init__(self, path):
        self.model = load_directory(path)
        self.tokenizer = load_tokenizer(f"{path}/tokenizer.json")
        config = self.model.config
        self.side = config["visual_encoder"]["image_size"]
        self.grid = self.side // config["visual_encoder"]["patch_size"]
        processor = config["preprocessor"]["visual_encoder"]
        self.mean, self.std = (np.array(processor[k], np.float64) for k in ("image_mean", "image_std"))
        self.bos = config["llm"]["bos_token_id"]

    def look(self, rgb):
        """Selected features (1, L, C) of a picture."""
        pixels = (pad_and_resize(rgb, self.side).astype(np.float64) / 255 - self.mean) / self.std
        return self.model.see(torch.from_numpy(pixels.transpose(2, 0, 1)).float()[None])[0]

    def logits(self, selected, turn, instances, ids):
        """Logits before every token of `ids`, (len(ids), vocabulary)."""
        model = self.model
        text = prompt_text(turn["task"], turn["elements"], turn["units"], turn["question"])
        vpt = model.vpt_encoder.tokens
        prompt = encode_prompt(self.tokenizer, text, self.bos, self.grid**2, vpt)
        sequence = torch.tensor(prompt + ids[:-1])
        x = model.llm.embed(sequence.clamp(min=0))
        x[sequence == -200] = model.projector(selected)[0]
        if turn["prompts"]:
            cells = torch.from_numpy(np.stack([region(p, instances, self.grid) for p in turn["prompts"]]))
            rows = torch.zeros(len(cells), dtype=torch.long)
            x[sequence == -300] = model.projector(model.vpt_encoder(selected, cells, rows)).flatten(0, 1)
        n = len(sequence)
        mask = torch.ones(n, n, dtype=torch.bool).tril()[None, None]
        hidden = model.llm(x[None], torch.arange(n)[None], mask)[0, len(prompt) - 1 :]
        return model.llm.logits(hidden)


@torch.no_grad()
def main():
    args = arguments()
    with open(args.answers) as f:
        answers = [json.loads(line) for line in f]
    answers.sort(key=lambda a: (a["seed"], a["turn"]))
    by_seed = {seed: list(group) for seed, group in itertools.groupby(answers, key=lambda a: a["seed"])}
    first, last = min(by_seed), max(by_seed)
    reader = Reader(args.model)
    same = ties = different = tokens = done = 0
    closest = float("inf")
    for labels, rgb, instances, _ in scenes(args.generator, first, last - first + 1):
        labels = normalise(labels)
        selected = None
        for answer in by_seed.get(labels["seed"], []):
            if selected is None:
                selected = reader.look(rgb)
            turn, ids = labels["turns"][answer["turn"]], answer["ids"]
            logits = reader.logits(selected, turn, instances, ids)
            chosen = logits.argmax(-1)
            gaps = logits.topk(2).values
            gaps = gaps[:, 0] - gaps[:, 1]
            wrong = (chosen != torch.tensor(ids)).nonzero().flatten().tolist()
            upto = wrong[0] if wrong else len(ids)
            tokens += upto
            closest = min(closest, gaps[: upto + 1].min().item())
            done += 1
            if not wrong:
                same += 1
            elif gaps[upto] <= TIE:
                ties += 1
                print(f"seed {labels['seed']} turn {answer['turn']} token {upto}: tie, gap {gaps[upto]:.1e}")
            else:
                different += 1
                print(f"seed {labels['seed']} turn {answer['turn']} token {upto}: gap {gaps[upto]:.1e}: {turn['question']}")
                print(f"  Rust    {reader.tokenizer.decode(ids[upto:], skip_special_tokens=False)!r}")
                print(f"  PyTorch {reader.tokenizer.decode([chosen[upto].item()], skip_special_tokens=False)!r}")
            print(f"\r{done} of {len(answers)}", end="", file=sys.stderr)
    print(file=sys.stderr)
    print(f"result answers={done} same={same} ties={ties} different={different} tokens={tokens} smallest_gap={closest:.1e}")
    sys.exit(1 if different or done != len(answers) else 0)


if __name__ == "__main__":
    main()
