"""Detectors of the app by name: run folders and detector files, torchvision's detectors, and their upgrades."""

from pathlib import Path

from featlift.deployment.predictor import Predictor
from featlift.detectors.by_name import list_coco_labels, load_class_names
from featlift.detectors.checkpoint import is_detector_path
from featlift.integrations.by_name import has_torchvision_interface, load_network_by_name
from featlift.upgrading import load_delta

DELTA_MARK = "+"
"""What separates a detector and its delta file: ``DETECTOR+DELTA``."""
COCO_DETECTOR = "fasterrcnn_resnet50_fpn"
"""Detector whose classes are COCO's."""


def open_detector(name: str, device: str = "auto") -> Predictor:
    """Load a detector for the app.

    Args:
        name: Run folder or detector file, ``torchvision:NAME`` with the weights and classes of COCO (downloaded once), or
            ``FILE.py:FUNCTION``, which returns such a detector; with ``+DELTA`` the upgrade of `featlift.load_delta` is added to it.
        device: Device: "auto" (a GPU if available), "cpu" or "cuda".

    Raises:
        ValueError: If it has not torchvision's interface, or the delta belongs to another detector.
        FileNotFoundError: If there is no such file.
    """
    model, mark, delta = (name, "", "") if Path(name).exists() else name.partition(DELTA_MARK)
    if not mark and (":" not in model or model.startswith("hub:")):
        return Predictor(model, device=device)
    network = load_network_by_name(model, "DEFAULT")
    if not has_torchvision_interface(network):
        raise ValueError(
            f"{model} takes other inputs than torchvision's detectors, so the app cannot show it. Give a run folder, or torchvision:NAME."
        )
    if mark:
        load_delta(network, delta)
    return Predictor(network, device=device, classes=_class_names(model))


def name_detectors(detectors: tuple[str, ...]) -> dict[str, str]:
    """Detectors by the name of their folder, or by their path if the names are equal; the same path twice gets numbers."""
    names = [Path(model).parent.name if Path(model).is_file() else Path(model).name for model in detectors]
    if len(set(names)) < len(names):
        names = list(detectors)
    if len(set(names)) < len(names):
        names = [f"{name} ({number})" for number, name in enumerate(names, 1)]
    return dict(zip(names, detectors, strict=True))


def _class_names(model: str) -> list[str]:
    """Names of the labels 1…K."""
    if is_detector_path(model):
        return load_class_names(model)
    return list_coco_labels(model.removeprefix("torchvision:") if model.startswith("torchvision:") else COCO_DETECTOR)[
        1:
    ]
