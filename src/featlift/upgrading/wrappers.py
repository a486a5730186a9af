"""Wrappers around a network: ``DataParallel``, DDP, ``torch.compile``, averaged weights (EMA)."""

from typing import Any

from torch import nn

WRAPPER_CLASSES = (
    "DataParallel",
    "DistributedDataParallel",
    "FullyShardedDataParallel",
    "DeepSpeedEngine",
    "OptimizedModule",
    "AveragedModel",
    "ModelEma",
    "ModelEmaV2",
    "ModelEmaV3",
    "ModelEMA",
)
"""Names of classes: torch's wrappers, DeepSpeed's, and the averaged weights of timm, Ultralytics, YOLOX and others."""

NETWORK_ATTRIBUTES = ("module", "_orig_mod", "ema")


def unwrap_module(model: Any) -> nn.Module:
    """Return the network inside any number of wrappers (:data:`WRAPPER_CLASSES`); a network without wrappers is returned as it is.

    Raises:
        TypeError: If there is no ``nn.Module``.
    """
    if any(c.__name__ in WRAPPER_CLASSES for c in type(model).__mro__):
        networks = (getattr(model, attribute, None) for attribute in NETWORK_ATTRIBUTES)
        inner = next((network for network in networks if isinstance(network, nn.Module)), None)
        if inner is not None:
            return unwrap_module(inner)
    if not isinstance(model, nn.Module):
        raise TypeError(f"This {type(model).__name__} is no torch.nn.Module.{_hint_attributes(model)}")
    return model


def _hint_attributes(model: Any) -> str:
    attributes = [name for name, value in getattr(model, "__dict__", {}).items() if isinstance(value, nn.Module)]
    return f" Pass its attribute {' or '.join(f'.{name}' for name in attributes)}." if attributes else ""
