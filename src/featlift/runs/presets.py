"""Presets of the papers' settings by name, and the choice of one when the user names none."""

from collections.abc import Iterable

PRESETS: dict[str, str] = {
    "quick": "a small network with random weights on the built-in scenes",
    "finetune": "your own images: Faster R-CNN on a pretrained ResNet-50, one GPU",
    "short": "one GPU, one night",
    "paper": "as in the paper",
    "dense": "the papers' schedule for RetinaNet, FCOS and CenterMask",
    "transformer": "the papers' schedule for Swin",
    "official": "as in the published code",
}
"""Preset → its description; `featlift.papers.registry.PAPERS` says which presets a paper has."""

BUILT_IN_DATA = ("", "scenes", "synthetic")
"""Values of ``--data`` that mean images of FeatLift, not the user's own."""


def choose_preset(data_root: str, available: Iterable[str]) -> str:
    """Return "finetune" for the user's own images, if the paper has it, else "quick"."""
    return "finetune" if data_root not in BUILT_IN_DATA and "finetune" in available else "quick"
