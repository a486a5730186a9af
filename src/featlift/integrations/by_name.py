"""Networks by name: ``library:name``, a Python file and function, a run folder, or the name of a torchvision detector.

A library is imported when it is named, never before. Nothing is downloaded unless ``weights`` is "DEFAULT".
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torchvision
from torch import nn

from featlift.backbones.timm_backbone import create_timm_model
from featlift.backbones.weight_files import explain_failed_download
from featlift.checkpoints import load_state_file
from featlift.checkpoints.hub import use_cache_if_unreachable
from featlift.detectors.by_name import COCO_LABELS, load_detector_by_name
from featlift.detectors.checkpoint import is_detector_path
from featlift.integrations.yolox import load_yolox
from featlift.registry import suggest
from featlift.upgrading import load_delta
from featlift.upgrading.state import CONFIG_ATTRIBUTE
from featlift.upgrading.wrappers import unwrap_module


def load_network_by_name(name: str, weights: str = "none", num_classes: int = COCO_LABELS - 1) -> nn.Module:
    """Load or build a network.

    Args:
        name: Run folder, detector file, name of a torchvision detector; ``torchvision:NAME`` (detection, segmentation or classification),
            ``hf:FOLDER_OR_ID`` (model or configuration of Hugging Face's transformers), ``ultralytics:FILE`` (.yaml or .pt), ``timm:NAME``,
            ``yolox:FILE`` (.onnx or .pth);
            ``PATH/TO/FILE.py:FUNCTION`` or ``PACKAGE.MODULE:FUNCTION``, where the function takes no arguments and returns the network.
        weights: "none" (random, unless ``name`` is a file or folder with weights), "DEFAULT" (downloaded) or the file of a state dict.
        num_classes: Number of classes without background, for torchvision's detectors without "DEFAULT" weights.

    Raises:
        ValueError: If the library, file or name does not exist.
        ImportError: If the library is not installed.
        TypeError: If a function returns no network.
        OSError: If weights cannot be downloaded.
    """
    library, _, rest = name.partition(":")
    if is_detector_path(name) or ":" not in name:
        return load_detector_by_name(name, weights, num_classes)
    if library == "torchvision":
        return _load_torchvision(rest, weights, num_classes)
    if library in LIBRARIES:
        network = LIBRARIES[library](rest, weights)
    else:
        network = unwrap_module(call_function(*name.rsplit(":", 1)))
    if weights not in ("none", "DEFAULT"):
        print(load_state_file(network, weights))
    return network


def has_torchvision_interface(network: nn.Module) -> bool:
    """Return whether ``network`` is a detector of torchvision or FeatLift: lists of images in, lists of dictionaries out."""
    return hasattr(network, "transform") and hasattr(network, "backbone")


def _load_torchvision(name: str, weights: str, num_classes: int) -> nn.Module:
    if name in torchvision.models.list_models(module=torchvision.models.detection):
        return load_detector_by_name(name, weights, num_classes)
    names = torchvision.models.list_models()
    if name not in names:
        raise ValueError(f"torchvision {torchvision.__version__} has no model '{name}'.{suggest(name, names)}")
    if weights == "DEFAULT":
        with explain_failed_download(f"The weights of '{name}'", "Give a file: --weights FILE; or --weights none."):
            return torchvision.models.get_model(name, weights="DEFAULT")
    network = torchvision.models.get_model(name, weights=None)
    if weights != "none":
        print(load_state_file(network, weights))
    return network


def _load_timm(name: str, weights: str) -> nn.Module:
    return create_timm_model(name, weights == "DEFAULT", "Give a file: --weights FILE; or --weights none.")


def _load_transformers(name: str, weights: str) -> nn.Module:
    transformers = import_library("transformers")
    with use_cache_if_unreachable():
        return _load_pretrained(transformers, name, weights)


def _load_pretrained(transformers: Any, name: str, weights: str) -> nn.Module:
    try:
        config = transformers.AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ValueError(f"'{name}' is no model or configuration of Hugging Face: {error}") from error
    architectures = config.architectures or ["none"]
    model_class = getattr(transformers, architectures[0], None)
    if model_class is None:
        raise ValueError(
            f"The config.json of '{name}' names no class of transformers {transformers.__version__} in 'architectures' "
            f'({", ".join(architectures)}); add it, for example "architectures": ["RTDetrForObjectDetection"].'
        )
    if weights != "DEFAULT" and not any(Path(name).glob("*.safetensors")):
        return model_class(config)
    network = model_class.from_pretrained(name)
    if hasattr(config, CONFIG_ATTRIBUTE) and Path(name).is_dir():
        load_delta(network, name)
    return network


def load_ultralytics(name: str, weights: str) -> Any:
    """Load the object ``YOLO`` of the file ``name`` (.yaml or .pt).

    Raises:
        ValueError: If there is no such file, and ``weights`` is not "DEFAULT".
        ImportError: If Ultralytics is not installed.
    """
    if name.endswith(".pt") and not Path(name).is_file() and weights != "DEFAULT":
        raise ValueError(f"There is no file {name}. --weights DEFAULT lets Ultralytics download it.")
    try:
        return import_library("ultralytics").YOLO(name)
    except FileNotFoundError as error:
        raise ValueError(
            f"Ultralytics has no model '{name}'; give a .yaml name such as yolo11n.yaml, or a .pt file."
        ) from error


LIBRARIES: dict[str, Callable[[str, str], nn.Module]] = {
    "timm": _load_timm,
    "hf": _load_transformers,
    "ultralytics": lambda name, weights: load_ultralytics(name, weights).model,
    "yolox": lambda name, weights: load_yolox(name),
}
"""Prefix → function of name and weights."""


def import_library(package: str) -> Any:
    """Import an optional library.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package.partition(".")[0]:
            raise
        raise ImportError(f"{package} is not installed: pip install {package}.") from error


def call_function(place: str, function: str) -> Any:
    """Return what ``function`` of the Python file or module ``place`` returns.

    Raises:
        ValueError: If there is no such file, module or function.
    """
    module = _import_file(Path(place)) if place.endswith(".py") else _import_named(place, function)
    if not callable(getattr(module, function, None)):
        names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise ValueError(f"{place} has no function '{function}'.{suggest(function, names)}")
    return getattr(module, function)()


def _import_file(path: Path) -> Any:
    if not path.is_file():
        raise ValueError(f"There is no file {path}.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)  # pickles of its classes find them
    spec.loader.exec_module(module)
    return module


def _import_named(name: str, function: str) -> Any:
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        prefixes = ", ".join(f"{prefix}:" for prefix in ("torchvision", *LIBRARIES))
        raise ValueError(
            f"'{name}:{function}' is unknown: '{name}' is neither one of {prefixes} nor an installed Python package nor a "
            f"FILE.py.{suggest(name, ('torchvision', *LIBRARIES))}"
        )
    return import_library(name)
