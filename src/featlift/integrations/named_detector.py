"""Detectors by name with torchvision's interface and the names of their classes: what ``predict`` and ``evaluate`` take."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from featlift.checkpoints import load_state_file
from featlift.checkpoints.hub import use_cache_if_unreachable
from featlift.detectors.by_name import is_detector_name, list_coco_labels, list_detector_names, load_detector_by_name
from featlift.detectors.checkpoint import is_detector_path, load_detector, read_category_ids
from featlift.evaluation.class_mapping import NO_CLASS
from featlift.integrations.by_name import call_function, import_library, load_network_by_name, load_ultralytics
from featlift.integrations.other_detectors import TransformersDetector, UltralyticsDetector
from featlift.integrations.yolox import YOLOX_PREFIX, YOLOXDetector, load_yolox
from featlift.registry import suggest
from featlift.upgrading import load_delta

COCO_MODEL = "fasterrcnn_resnet50_fpn"
"""A torchvision detector with the 80 classes of COCO."""
ADAPTERS = (YOLOXDetector, UltralyticsDetector, TransformersDetector)


@dataclass(frozen=True)
class NamedDetector:
    """A detector with torchvision's interface; label k is the class ``classes[k - 1]``, in COCO results ``category_ids[k - 1]``."""

    detector: nn.Module
    classes: list[str]
    category_ids: list[int]


def load_named_detector(name: str | Path, weights: str = "none", delta: str = "") -> NamedDetector:
    """Load a detector of FeatLift or of another library.

    Args:
        name: Run folder, detector file, repository ("hub:OWNER/NAME"); ``NAME`` or ``torchvision:NAME`` of a torchvision detector;
            ``yolox:FILE``, ``ultralytics:FILE``, ``hf:FOLDER_OR_ID`` (with its image processor); or ``FILE.py:FUNCTION``, a function
            that returns a ``YOLO`` object, or a detector with torchvision's interface and an attribute ``classes``.
        weights: For torchvision, Ultralytics and Hugging Face: "none", "DEFAULT" (downloaded) or the file of a state dict.
        delta: File of `featlift.save_delta`, or "hub:OWNER/NAME", that is loaded onto the detector; empty for none.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the network is no detector or has no class names, the delta belongs to another one, or ``weights`` are given for a
            run folder.
        ImportError: If the library is not installed.
    """
    name = str(name)
    if is_detector_path(name) or (":" not in name and not is_detector_name(name)):
        if weights != "none":
            raise ValueError(f"'{name}' has its own weights, so --weights {weights} has no effect; leave it out.")
        detector, classes = load_detector(name)
        category_ids = read_category_ids(name)
    else:
        detector, classes = _load_other(name, weights)
        category_ids = list(range(1, len(classes) + 1))
    if delta:
        load_delta(_inner_network(detector), delta)
    return NamedDetector(detector, classes, category_ids)


def _load_other(name: str, weights: str) -> tuple[Any, list[str]]:
    """Return the detector and its class names; a ``weights`` file is loaded by the loaders of torchvision and Hugging Face themselves."""
    library, _, rest = name.partition(":")
    if not rest or library == "torchvision":
        return _load_torchvision(rest or name, weights)
    if library == "hf":
        return _load_transformers(rest, weights)
    if library == "timm":
        raise ValueError(f"timm has no detectors, so '{name}' finds no objects.")
    if library == YOLOX_PREFIX.rstrip(":"):
        detector = YOLOXDetector(load_yolox(rest))
        classes = _name_classes(detector.network.head.num_classes)  # type: ignore[union-attr,arg-type]
    else:
        detector: Any = (
            UltralyticsDetector(load_ultralytics(rest, weights)) if library == "ultralytics" else _call(name)
        )
        classes = list(detector.classes)
    if weights not in ("none", "DEFAULT"):
        print(load_state_file(_inner_network(detector), weights))
    return detector, classes


def _inner_network(detector: Any) -> nn.Module:
    """Return the network that `featlift upgrade` and `featlift add-level` change: without what gives it torchvision's interface."""
    return detector.network if isinstance(detector, ADAPTERS) else detector


def _load_torchvision(name: str, weights: str) -> tuple[nn.Module, list[str]]:
    if name not in list_detector_names():
        raise ValueError(f"torchvision has no detector '{name}'.{suggest(name, list_detector_names())}")
    labels = list_coco_labels(name)
    return load_detector_by_name(name, weights, len(labels) - 1), labels[1:]


def _load_transformers(name: str, weights: str) -> tuple[nn.Module, list[str]]:
    network = load_network_by_name(f"hf:{name}", weights)
    with use_cache_if_unreachable():
        try:
            processor = import_library("transformers").AutoImageProcessor.from_pretrained(name)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"'{name}' has no image processor; save it, too: processor.save_pretrained(FOLDER)."
            ) from error
    detector = TransformersDetector(network, processor)
    return detector, detector.classes


def _call(name: str) -> Any:
    """Return the detector of ``FILE.py:FUNCTION``; an object of Ultralytics gets torchvision's interface."""
    model = call_function(*name.rsplit(":", 1))
    if hasattr(model, "task") and hasattr(model, "predict"):
        return UltralyticsDetector(model)
    if not isinstance(model, nn.Module) or not isinstance(getattr(model, "classes", None), Sequence):
        raise ValueError(
            f"{name} returns a {type(model).__name__}. It must return an object of Ultralytics, or a detector with torchvision's "
            "interface and an attribute classes, the names of the labels 1 … K."
        )
    return model


def _name_classes(number: int) -> list[str]:
    """Return COCO's 80 names, or numbers for other detectors."""
    coco = [name for name in list_coco_labels(COCO_MODEL) if name not in NO_CLASS]
    return coco if number == len(coco) else [str(label) for label in range(1, number + 1)]
