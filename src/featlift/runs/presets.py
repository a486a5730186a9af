"""Presets of the papers' settings by name, and the choice of one when the user names none."""

from collections.abc import Iterable

PRESETS: dict[str, str] = {
    "quick": "a small network with random weights, trained in minutes (a smoke test on your own images)",
    "finetune": "your own images: Faster R-CNN on a pretrained ResNet-50, one GPU",
    "short": "one GPU, one night",
    "paper": "as in the paper",
    "coco": "as in the paper, its COCO experiment",
    "recommended": "the paper's experiment with FeatLift's choices where text and published code differ or are silent",
    "dense": "the papers' schedule for RetinaNet, FCOS and CenterMask",
    "resnest": "the papers' Cascade Mask R-CNN on ResNeSt-101",
    "transformer": "the papers' schedule for Swin",
    "official": "as in the published code",
}
"""Preset → its description; `featlift.papers.registry.PAPERS` says which presets a paper has."""

OWN_DATA_ADVICE: dict[str, str] = {
    "fdsr": "On your own images --preset short trains D-DBPN for one night, --preset paper for the paper's 2 million steps.",
    "fsr-gan": "On your own images --preset paper trains the paper's generator and discriminator on VGG16 descriptors;"
    " give VGG16's weights as --embedder.weights FILE.",
}
"""Paper without the preset "finetune" → what its other presets do on the user's own images."""

BUILT_IN_DATA = ("", "scenes", "synthetic")
"""Values of ``--data`` that mean images of FeatLift, not the user's own."""


def choose_preset(data_root: str, available: Iterable[str]) -> str:
    """Return "finetune" for the user's own images, if the paper has it, else "quick"."""
    return "finetune" if data_root not in BUILT_IN_DATA and "finetune" in available else "quick"


def describe_preset(name: str, paper: str, data_root: str) -> str:
    """Return what a training prints about its preset; after "quick" on the user's own images, what other presets would do."""
    line = f"preset {name}: {PRESETS[name]}; --preset NAME chooses another"
    advice = OWN_DATA_ADVICE.get(paper, "") if name == "quick" and data_root not in BUILT_IN_DATA else ""
    return f"{line}\n{advice}".rstrip()
