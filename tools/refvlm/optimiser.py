"""What every training part shares: AdamW with warm-up and cosine, an average of the weights, atomic states and logs."""

import math
import os
import sys
import time
from pathlib import Path

import torch


def groups(model, rates, decay=0.02):
    """Parameter groups: `rates` maps name prefixes to factors of the rate; matrices get weight decay."""
    out = {}
    for name, p in model.named_parameters():
        if not p.requires_grad:
            continue
        factor = next((f for prefix, f in rates.items() if name.startswith(prefix)), 1.0)
        key = (factor, decay if p.dim() > 1 and "embed" not in name else 0.0)
        out.setdefault(key, []).append(p)
    return [{"params": ps, "factor": f, "weight_decay": d} for (f, d), ps in out.items()]


class Trainer:
    """Steps one model. `total` steps; the rate warms up, then falls along a cosine to 2 %."""

    def __init__(self, name, model, state, rate, total, warm=200, rates=None, average=0.999, clip=1.0, main=True):
        self.name, self.model, self.rate, self.total, self.warm = name, model, rate, total, warm
        self.path = Path(state) / f"{name}.pt"
        self.optimiser = torch.optim.AdamW(groups(model, rates or {}), lr=rate, betas=(0.9, 0.98), fused=True)
        self.average = {k: v.detach().clone() for k, v in model.state_dict().items()}
        self.keep, self.clip, self.main, self.step = average, clip, main, 0
        self.sums, self.saved, self.logged = {}, time.time(), time.time()
        if self.path.exists():
            data = torch.load(self.path, map_location=next(model.parameters()).device, weights_only=True)
            model.load_state_dict(data["model"])
            self.average = data["average"]
            self.step = data["step"]
            if "optimiser" in data:
                self.optimiser.load_state_dict(data["optimiser"])
            print(f"{name}: resumed at step {self.step}", file=sys.stderr, flush=True)

    def update(self, loss, figures, reduce=None):
        """Backward, clip, step, average, log; saves every three minutes. `reduce` sums gradients over processes."""
        progress = min(1.0, self.step / self.total)
        rate = self.rate * min(1.0, (self.step + 1) / self.warm) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if reduce is not None:
            reduce(self.model)
        norm = torch.nn.utils.clip_grad_norm_([p for p in self.model.parameters() if p.grad is not None], self.clip)
        if torch.isfinite(norm):
            self.optimiser.step()
        self.step += 1
        keep = min(self.keep, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            state = self.model.state_dict()
            floats = [k for k in self.average if self.average[k].is_floating_point()]
            torch._foreach_lerp_([self.average[k] for k in floats], [state[k] for k in floats], 1 - keep)
        for k, v in {**figures, "loss": loss.item(), "norm": norm.item()}.items():
            total, count = self.sums.get(k, (0.0, 0))
            if v == v:
                self.sums[k] = (total + v, count + 1)
        if self.main and self.step % 50 == 0:
            text = " ".join(f"{k} {t / max(c, 1):.3f}" for k, (t, c) in self.sums.items())
            pace = (time.time() - self.logged) / 50
            print(f"{self.name} {self.step}/{self.total} {text} {pace:.2f} s/step", file=sys.stderr, flush=True)
            self.sums, self.logged = {}, time.time()
        if self.main and (time.time() - self.saved > 180 or self.step == self.total):
            self.save()

    def save(self):
        """Write the state in one rename."""
        data = {"model": self.model.state_dict(), "average": self.average, "step": self.step}
        data["optimiser"] = self.optimiser.state_dict()
        part = self.path.with_suffix(f".part{os.getpid()}")
        torch.save(data, part)
        os.replace(part, self.path)
        self.saved = time.time()
