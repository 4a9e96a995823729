"""Writes tests/fixtures/image.safetensors: what Pillow, transformers and PyTorch make of small pictures.

Pinned: pillow 12.3.0, torch 2.15.0, transformers 5.23.0, numpy 2.4.6, safetensors 0.8.0.
Run: python tools/fixtures_image.py

Pillow 13 resizes columns before rows where the height shrinks much more than the width, which changes bytes by the
rounding between the passes. Squares, all that the model resizes, are not concerned; the fixtures hold the order of every
release before it.

Tensors are named `<kind>/<parameters>/<part>`; the Rust test reads the parameters from the names:
  resize/<filter>/<channels>/<w>x<h>/<w>x<h>/{in,out}   bytes before and after Image.resize, as f16 (whole numbers to 2048)
  clip/<w>x<h>/<edge>/{in,out}                          a picture through expand2square and CLIPImageProcessorPil
  plain/<w>x<h>/<edge>-<crop>/{in,out}                  the same without padding, with a centre crop
  unpad/<w>x<h>/<gw>x<gh>/{in,out}                      a map, interpolated to the square and cut to the picture
  prompt/<kind>/<w>x<h>/<edge>-<grid>/{in,out}          a prompt through the reference's rule, 0 or 1 per cell
"""

import pathlib

import numpy as np
import PIL
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPImageProcessorPil

OUT = pathlib.Path(__file__).parent.parent / "tests" / "fixtures" / "image.safetensors"
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
RESIZES = [
    ((7, 5), (14, 9)), ((23, 17), (8, 8)), ((16, 16), (16, 16)), ((9, 16), (9, 5)), ((9, 16), (4, 16)),
    ((1, 1), (5, 3)), ((1, 13), (4, 4)), ((31, 1), (7, 7)), ((61, 47), (10, 13)), ((3, 50), (20, 2)),
    ((12, 12), (1, 1)), ((97, 5), (2, 40)),
]

assert PIL.__version__ == "12.3.0", f"pillow 12.3.0 is needed, not {PIL.__version__}"
rng = np.random.default_rng(20)
tensors = {}


def put(name, array):
    array = np.ascontiguousarray(array)
    if array.dtype == np.uint8:
        array = array.astype(np.float16)
    tensors[name] = torch.from_numpy(array)


def picture(width, height, channels=3):
    """Noise beside saturated blocks, so that the cubic filter over- and undershoots."""
    pixels = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    blocks = rng.integers(0, 2, (height, width, 1), dtype=np.uint8) * 255
    pixels[:, width // 2 :] = blocks[:, width // 2 :]
    return pixels[..., 0] if channels == 1 else pixels


def square(image, color):
    """The picture centred on a square of the longer side; the odd pixel of padding goes below or right."""
    side = max(image.size)
    out = Image.new(image.mode, (side, side), color)
    out.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return out


def resizes():
    for name, number in FILTERS.items():
        for channels in (1, 3):
            for (w, h), to in RESIZES:
                pixels = picture(w, h, channels)
                out = np.asarray(Image.fromarray(pixels).resize(to, number))
                key = f"resize/{name}/{channels}/{w}x{h}/{to[0]}x{to[1]}"
                put(f"{key}/in", pixels.reshape(-1))
                put(f"{key}/out", out.reshape(-1))


def processors():
    for (w, h), edge in [((40, 30), 28), ((30, 41), 14), ((9, 9), 21), ((1, 6), 8), ((57, 2), 12)]:
        processor = CLIPImageProcessorPil(size={"shortest_edge": edge}, crop_size={"height": edge, "width": edge})
        color = tuple(int(mean * 255) for mean in processor.image_mean)
        assert color == (122, 116, 104)
        pixels = picture(w, h)
        out = processor(square(Image.fromarray(pixels), color), return_tensors="np")["pixel_values"][0]
        put(f"clip/{w}x{h}/{edge}/in", pixels.reshape(-1))
        put(f"clip/{w}x{h}/{edge}/out", out.transpose(1, 2, 0).reshape(-1))
    for (w, h), edge, crop in [((50, 37), 20, 15), ((21, 44), 16, 16), ((33, 33), 12, 7)]:
        processor = CLIPImageProcessorPil(size={"shortest_edge": edge}, crop_size={"height": crop, "width": crop})
        pixels = picture(w, h)
        out = processor(Image.fromarray(pixels), return_tensors="np")["pixel_values"][0]
        put(f"plain/{w}x{h}/{edge}-{crop}/in", pixels.reshape(-1))
        put(f"plain/{w}x{h}/{edge}-{crop}/out", out.transpose(1, 2, 0).reshape(-1))


def unpads():
    sizes = [((40, 30), (8, 8)), ((31, 42), (7, 7)), ((5, 5), (16, 16)), ((1, 9), (4, 4))]
    sizes += [((64, 3), (6, 5)), ((13, 13), (13, 13)), ((6, 4), (1, 1))]
    for (w, h), (gw, gh) in sizes:
        grid = rng.normal(size=(gh, gw)).astype(np.float32)
        side = max(w, h)
        wide = F.interpolate(torch.from_numpy(grid)[None, None], size=(side, side), mode="bilinear")[0, 0]
        top, left = (side - h) // 2, (side - w) // 2
        put(f"unpad/{w}x{h}/{gw}x{gh}/in", grid.reshape(-1))
        put(f"unpad/{w}x{h}/{gw}x{gh}/out", wide[top : top + h, left : left + w].numpy().reshape(-1))


def prompt_mask(kind, value, w, h):
    """A prompt in pixels of the picture as zeros and ones over the padded square."""
    side = max(w, h)
    left, top = (side - w) // 2, (side - h) // 2
    mask = np.zeros((side, side))
    if kind == "point":
        x, y = int(value[0] + left), int(value[1] + top)
        ys, xs = np.ogrid[:side, :side]
        mask[(xs - x) ** 2 + (ys - y) ** 2 <= 100] = 1
    elif kind == "box":
        x0, y0, x1, y1 = (int(v) for v in value + np.array([left, top, left, top]))
        mask[y0:y1, x0:x1] = 1
    else:
        mask[top : top + h, left : left + w] = value.reshape(h, w)
    return mask


def prompts():
    for (w, h), edge, grid in [((200, 150), 56, 4), ((97, 131), 48, 6), ((33, 33), 64, 8)]:
        processor = CLIPImageProcessorPil(size={"shortest_edge": edge}, crop_size={"height": edge, "width": edge})
        values = {
            "point": np.array([w * 0.4, h * 0.55], dtype=np.float32),
            "box": np.array([w * 0.2, h * 0.1, w * 0.61, h * 0.77], dtype=np.float32),
            "mask": (rng.random((h, w)) < 0.15).astype(np.uint8).reshape(-1),
        }
        for kind, value in values.items():
            mask = prompt_mask(kind, value, w, h)
            image = np.repeat(mask[..., None], 3, axis=2)
            small = processor(image.astype(np.uint8), do_rescale=False, do_normalize=False, return_tensors="np")
            small = torch.from_numpy(small["pixel_values"][0][0].astype(np.float32))
            cells = F.interpolate(small[None, None], size=(grid, grid), mode="bilinear", align_corners=False) > 0
            put(f"prompt/{kind}/{w}x{h}/{edge}-{grid}/in", value)
            put(f"prompt/{kind}/{w}x{h}/{edge}-{grid}/out", cells[0, 0].numpy().astype(np.uint8).reshape(-1))


resizes()
processors()
unpads()
prompts()
OUT.parent.mkdir(parents=True, exist_ok=True)
save_file(tensors, OUT)
print(f"{OUT.name}: {len(tensors)} tensors, {OUT.stat().st_size} bytes")
