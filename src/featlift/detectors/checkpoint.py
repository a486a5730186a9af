"""Detector files: the weights of a detector with the configuration that rebuilds it."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from torch import Tensor

from featlift.checkpoints import read_tensors, write_tensors
from featlift.checkpoints.damage import explain_damage
from featlift.checkpoints.hub import HUB_PREFIX, resolve_hub_path
from featlift.checkpoints.tensors import read_metadata
from featlift.detectors import Detector
from featlift.detectors.config import DetectorConfig, build_detector
from featlift.detectors.efpn_config import ExtendedLevelConfig, build_efpn, configure_inference

DETECTOR_FILE = "detector.safetensors"
INTERPOLATOR_PREFIX = "backbone.pyramid.interpolators."
"""State-dict prefix of the interpolators of a detector."""
_PYRAMID_KEY = re.compile(r"(backbone\.pyramid\.(?:inner|layer)_blocks\.)(\d+)(\..+)")


def save_detector(
    detector: Detector,
    config: DetectorConfig,
    classes: Sequence[str],
    folder: Path,
    filename: str = DETECTOR_FILE,
    extended_level: ExtendedLevelConfig | None = None,
    category_ids: Sequence[int] | None = None,
) -> Path:
    """Write ``detector`` with its configuration to ``folder``, atomically, and return the path.

    Args:
        detector: Detector built by :func:`~featlift.detectors.config.build_detector`, or EFPN.
        config: Configuration of the detector (of EFPN: of its base detector).
        classes: Class names; label k is ``classes[k - 1]``.
        folder: Existing folder.
        filename: Name of the file.
        extended_level: Configuration of EFPN's extended level; None for other detectors.
        category_ids: Category ids of the training data, which predictions are written with; None for 1…K.
    """
    metadata = {
        "model": json.dumps(asdict(replace(config, backbone_weights="random", execution="eager"))),
        "classes": json.dumps(list(classes)),
    }
    if category_ids is not None:
        metadata["category_ids"] = json.dumps(list(category_ids))
    if extended_level is not None:
        metadata["extended_level"] = json.dumps(asdict(extended_level))
    return write_tensors(folder / filename, detector.state_dict(), metadata)


def load_detector(path: str | Path) -> tuple[Detector, list[str]]:
    """Load the detector of a run folder, of a file written by :func:`save_detector`, or of a repository of the Hub
    ("hub:OWNER/NAME"); return it and its class names.

    Raises:
        FileNotFoundError: If there is no such run or file.
        ValueError: If the file was not written by :func:`save_detector`.
    """
    path = _detector_file(path)
    tensors, metadata = read_tensors(path)
    if "model" not in metadata:
        raise ValueError(
            f"'{path}' is no detector of FeatLift: it has no configuration. Give a run folder or its {DETECTOR_FILE}."
        )
    with explain_damage(path, f"Use another copy, or the run folder that the {DETECTOR_FILE} is from."):
        detector = _detector_from_metadata(metadata)
        detector.load_state_dict(tensors)
        return detector, json.loads(metadata["classes"])


def read_class_names(path: str | Path) -> list[str]:
    """Class names of a detector file or run folder; label k is the k-th."""
    return json.loads(read_metadata(_detector_file(path))["classes"])


def read_category_ids(path: str | Path) -> list[int]:
    """Category ids of the training data of a detector file, in the order of its classes; 1…K if it has none."""
    metadata = read_metadata(_detector_file(path))
    num_classes = len(json.loads(metadata["classes"]))
    return json.loads(metadata.get("category_ids", "null")) or list(range(1, num_classes + 1))


def is_detector_path(name: str | Path) -> bool:
    """Whether ``name`` is an existing file or folder, or names a repository of the Hub ("hub:OWNER/NAME")."""
    return str(name).startswith(HUB_PREFIX) or Path(name).exists()


def _detector_file(path: str | Path) -> Path:
    path = resolve_hub_path(path, [DETECTOR_FILE])
    return path / DETECTOR_FILE if path.is_dir() else path


def _detector_from_metadata(metadata: Mapping[str, str]) -> Detector:
    """Build the detector described by the metadata of a detector file, with random weights: nothing that a file says
    makes it download weights or read another file.
    """
    config = DetectorConfig(**{**json.loads(metadata["model"]), "backbone_weights": "random", "execution": "eager"})
    detector = build_detector(config, len(json.loads(metadata["classes"])))
    if "extended_level" not in metadata:
        return detector
    extended_level = ExtendedLevelConfig(**json.loads(metadata["extended_level"]))
    efpn = build_efpn(detector, extended_level)
    configure_inference(efpn, extended_level)
    return efpn


def load_matching_weights(detector: Detector, weights: Mapping[str, Tensor]) -> list[str]:
    """Copy all ``weights`` whose name and shape match a tensor of ``detector``; return the names of the tensors left unchanged.

    Pyramid convolutions are matched by level: those of p3 in a RetinaNet (its finest level) are copied to those of p3 in a Faster R-CNN.
    """
    state = detector.state_dict()
    shift = _num_pyramid_levels(state) - _num_pyramid_levels(weights)
    weights = {_shift_pyramid_level(name, shift): value for name, value in weights.items()}
    matching = {name: value for name, value in weights.items() if name in state and state[name].shape == value.shape}
    detector.load_state_dict(matching, strict=False)
    return [name for name in state if name not in matching]


def describe_copied(detector: Detector, unchanged: Sequence[str], source: str) -> str:
    """Say how many tensors of ``detector`` are copied from ``source``, and which are ``unchanged``.

    Raises:
        ValueError: If none is copied.
    """
    total = len(detector.state_dict())
    if len(unchanged) == total:
        raise ValueError(
            f"No tensor of {source} has name and shape of one of the detector, {unchanged[0]} for example."
        )
    names = ", ".join(unchanged[:6]) + (", …" if len(unchanged) > 6 else "")
    kept = f"; {len(unchanged)} keep their initialization: {names}" if unchanged else ""
    return f"{total - len(unchanged)} of {total} tensors are copied from {source}{kept}"


def _num_pyramid_levels(tensors: Mapping[str, Tensor]) -> int:
    """Return the number of pyramid levels in ``tensors``; the keys number them from the finest."""
    return len({match[2] for match in map(_PYRAMID_KEY.match, tensors) if match})


def _shift_pyramid_level(name: str, shift: int) -> str:
    """Return ``name`` with its pyramid level increased by ``shift``, for a pyramid with ``shift`` additional finer levels."""
    match = _PYRAMID_KEY.match(name)
    return f"{match[1]}{int(match[2]) + shift}{match[3]}" if match else name


def interpolator_weight_files(folder: Path, num_interpolators: int) -> list[Path]:
    """Return the files of a run's interpolators: one shared, or one per upsampling step."""
    return [
        folder / ("G.safetensors" if num_interpolators == 1 else f"G{i}.safetensors") for i in range(num_interpolators)
    ]
