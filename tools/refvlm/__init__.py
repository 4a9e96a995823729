"""REF-VLM in plain PyTorch: the composition that is trained on the tabletop world and that fixtures are made from.

Every module carries the tensor names of a model directory, so a state dict needs no renaming on export.
"""
