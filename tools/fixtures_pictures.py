"""JPEG files of several kinds and, beside each, what Pillow decodes it to as PNG.

    python tools/fixtures_pictures.py            (needs requirements.txt)

writes tests/fixtures/pictures/*.jpg and *.png.
"""

from pathlib import Path

import numpy as np
from PIL import Image

OUT = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "pictures"
WIDTH, HEIGHT = 45, 35

KINDS = {
    "colour_444": ("RGB", {"quality": 92, "subsampling": 0}),
    "colour_420": ("RGB", {"quality": 85, "subsampling": 2}),
    "progressive": ("RGB", {"quality": 85, "subsampling": 0, "progressive": True}),
    "grey": ("L", {"quality": 90}),
    "restart": ("RGB", {"quality": 85, "subsampling": 0, "restart_marker_blocks": 2}),
}


def picture():
    """Smooth colours with an edge; sides that are no multiples of a JPEG block."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    red = 127 + 120 * np.sin(x / 9.0)
    green = 127 + 120 * np.cos(y / 7.0)
    blue = np.where(x + y > 40, 220, 40)
    return Image.fromarray(np.stack([red, green, blue], axis=2).astype(np.uint8), "RGB")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for name, (mode, options) in KINDS.items():
        picture().convert(mode).save(OUT / f"{name}.jpg", **options)
        Image.open(OUT / f"{name}.jpg").convert("RGB").save(OUT / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
