"""Stand-in latents: what the hidden state at a REF token shall tell a head, as a code in a fixed subspace.

The code of an instance holds its class and coarse box. Heads learn from codes while the language model learns to write
them (`Uᵀ h` close to the code); the rest of the hidden state stays free for the next token. Training only.
"""

import math

import torch

CODE = 6 + 8 + 2 + 12 + 8 + 1


def basis(dim, seed=7):
    """Orthonormal columns U (dim, CODE), the same on every run."""
    generator = torch.Generator("cpu").manual_seed(seed)
    noise = torch.randn(dim, CODE, generator=generator, dtype=torch.float64, device="cpu")
    return torch.linalg.qr(noise)[0].float().to(torch.get_default_device())


def codes(shape, colour, size, box):
    """Codes (N, CODE); shape 0 stands for the whole picture, colour and size may be -1; boxes are cx, cy, w, h."""

    def one_hot(index, n, scale):
        out = torch.zeros(len(index), n)
        known = index >= 0
        out[known] = scale * torch.nn.functional.one_hot(index[known], n).float()
        return out

    parts = [one_hot(shape - 1, 6, 2.0), one_hot(colour, 8, 2.0), one_hot(size, 2, 1.5)]
    centre, extent = box[:, :2], box[:, 2:]
    for f in (0.5, 1.0, 2.0):
        parts += [1.5 * (2 * math.pi * f * centre).sin(), 1.5 * (2 * math.pi * f * centre).cos()]
    for f in (0.5, 1.0):
        parts += [(2 * math.pi * f * extent).sin(), (2 * math.pi * f * extent).cos()]
    scene = (shape == 0).float()[:, None]
    out = torch.cat([*parts, 2.0 * scene], 1)
    out[shape == 0, :-1] = 0
    return out


def oracle(code, u, noise=0.25):
    """Latents (N, dim) with the code in the subspace and unit noise outside it."""
    free = torch.randn(len(code), u.shape[0])
    free = free - free @ u @ u.t()
    return (code + noise * torch.randn_like(code)) @ u.t() + free
