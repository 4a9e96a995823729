"""The models that are timed: what timm calls them, the side of their input, and what `examples/time` calls them."""

VIT = {
    "b16_224": ("vit_base_patch16_224", 224),
    "l14_336": ("vit_large_patch14_clip_quickgelu_336", 336),
}
