"""FeatLift: feature super-resolution for PyTorch. Detection, segmentation and image search for small objects.

The public names below are imported on first use, so ``import featlift`` is fast.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featlift.checkpoints import load, save
    from featlift.commands.compare import compare
    from featlift.commands.evaluate import evaluate
    from featlift.commands.predict import predict
    from featlift.commands.train import train
    from featlift.data.synthetic.scenes import SyntheticScenes
    from featlift.deployment.optimize import optimize, restore
    from featlift.detectors import detections_from_features, detector, extractor, list_detectors, losses_from_features
    from featlift.features import Features
    from featlift.integrations import upgraded_trainer
    from featlift.interpolators import interpolator, list_interpolators
    from featlift.pyramids import list_pyramids
    from featlift.resolution import cross_resolution
    from featlift.runs.level_training import train_level
    from featlift.upgrading import (
        UpgradeReport,
        added_parameters,
        downgrade,
        is_upgraded,
        load_delta,
        save_delta,
        upgrade,
    )

_MODULES = {
    "Features": "features",
    "SyntheticScenes": "data.synthetic.scenes",
    "UpgradeReport": "upgrading",
    "added_parameters": "upgrading",
    "compare": "commands.compare",
    "cross_resolution": "resolution",
    "detections_from_features": "detectors",
    "detector": "detectors",
    "downgrade": "upgrading",
    "evaluate": "commands.evaluate",
    "extractor": "detectors",
    "interpolator": "interpolators",
    "is_upgraded": "upgrading",
    "list_detectors": "detectors",
    "list_interpolators": "interpolators",
    "list_pyramids": "pyramids",
    "load": "checkpoints",
    "load_delta": "upgrading",
    "losses_from_features": "detectors",
    "optimize": "deployment.optimize",
    "predict": "commands.predict",
    "restore": "deployment.optimize",
    "save": "checkpoints",
    "save_delta": "upgrading",
    "train": "commands.train",
    "train_level": "runs.level_training",
    "upgrade": "upgrading",
    "upgraded_trainer": "integrations",
}

__all__ = [
    "Features",
    "SyntheticScenes",
    "UpgradeReport",
    "added_parameters",
    "compare",
    "cross_resolution",
    "detections_from_features",
    "detector",
    "downgrade",
    "evaluate",
    "extractor",
    "interpolator",
    "is_upgraded",
    "list_detectors",
    "list_interpolators",
    "list_pyramids",
    "load",
    "load_delta",
    "losses_from_features",
    "optimize",
    "predict",
    "restore",
    "save",
    "save_delta",
    "train",
    "train_level",
    "upgrade",
    "upgraded_trainer",
]


def _read_version() -> str:
    from importlib.metadata import version

    return version("featlift")


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _read_version()
    if name not in _MODULES:
        raise AttributeError(f"module 'featlift' has no attribute '{name}'; its public names are {', '.join(__all__)}.")
    return getattr(importlib.import_module(f"featlift.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
