"""Wrappers around a network: ``DataParallel``, DDP, ``torch.compile``, averaged weights (EMA), and the objects of other libraries."""

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
CONTAINERS = (nn.ModuleList, nn.ModuleDict)


def unwrap_module(model: Any) -> nn.Module:
    """Return the network inside any number of wrappers; a network without wrappers is returned as it is.

    Wrappers are those of :data:`WRAPPER_CLASSES`, and objects without a ``forward`` that hold exactly one network: Ultralytics' ``YOLO``,
    ``RFDETR``, LibreYOLO's and pixeltable's detectors, Lightning modules.

    Raises:
        TypeError: If there is no network, or several; the message names the attributes.
    """
    if any(c.__name__ in WRAPPER_CLASSES for c in type(model).__mro__):
        networks = (getattr(model, attribute, None) for attribute in NETWORK_ATTRIBUTES)
        inner = next((network for network in networks if isinstance(network, nn.Module)), None)
        if inner is not None:
            return unwrap_module(inner)
    if isinstance(model, CONTAINERS) or (isinstance(model, nn.Module) and _has_forward(model)):
        return model
    found = _find_networks(model)
    if len(found) != 1:
        raise TypeError(_explain_networks(model, found))
    return unwrap_module(next(iter(found.values())))


def _has_forward(model: nn.Module) -> bool:
    forward = type(model).forward
    is_own = forward is not nn.Module.forward and forward.__qualname__ != "LightningModule.forward"
    return is_own or "forward" in vars(model)


def _find_networks(wrapper: Any) -> dict[str, nn.Module]:
    """Return the modules with parameters among the attributes of ``wrapper``, or of its attributes, by name."""
    attributes = dict(wrapper.named_children()) if isinstance(wrapper, nn.Module) else getattr(wrapper, "__dict__", {})
    found = {name: value for name, value in attributes.items() if _is_network(value)}
    if found or isinstance(wrapper, nn.Module):
        return found
    return {
        f"{name}.{inner}": network
        for name, value in attributes.items()
        if not callable(value)
        for inner, network in getattr(value, "__dict__", {}).items()
        if _is_network(network)
    }


def _is_network(value: Any) -> bool:
    return isinstance(value, nn.Module) and next(value.parameters(), None) is not None


def _explain_networks(model: Any, found: dict[str, nn.Module]) -> str:
    problem = "has no forward" if isinstance(model, nn.Module) else "is no torch.nn.Module"
    names = " or ".join(f".{name}" for name in found)
    return f"This {type(model).__name__} {problem}. Pass {f'one of its networks: {names}' if found else 'the network'}."
