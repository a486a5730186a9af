"""Presets of the papers' settings by name, and the choice of one when the user names none."""

from collections.abc import Iterable
from typing import Any

PRESETS: dict[str, str] = {
    "quick": "a small network with random weights on the built-in scenes, minutes",
    "finetune": "your own images: Faster R-CNN on a pretrained ResNet-50, one GPU",
    "short": "one GPU, one night",
    "paper": "as in the paper",
    "dense": "the papers' schedule for RetinaNet, FCOS and CenterMask",
    "transformer": "the papers' schedule for Swin",
    "official": "as in the published code",
}
"""Preset → its description. "paper" is the class of the settings without arguments, or its method of that name."""

BUILT_IN_DATA = ("", "scenes", "synthetic")
"""Values of ``--data`` that mean images of FeatLift, not the user's own."""


def list_presets(settings_class: type) -> list[str]:
    """Return the presets of a paper's ``Settings``."""
    return [name for name in PRESETS if name == "paper" or hasattr(settings_class, name)]


def build_preset(settings_class: Any, name: str) -> Any:
    """Return the settings of the preset ``name``.

    Raises:
        ValueError: If the paper has no such preset.
    """
    available = list_presets(settings_class)
    if name not in available:
        raise ValueError(f"Unknown preset '{name}'; choose one of {', '.join(available)}.")
    return getattr(settings_class, name)() if hasattr(settings_class, name) else settings_class()


def choose_preset(data_root: str, available: Iterable[str]) -> str:
    """Return "finetune" for the user's own images, if the paper has it, else "quick"."""
    return "finetune" if data_root not in BUILT_IN_DATA and "finetune" in available else "quick"
