"""Stages of a timm backbone one by one: those up to a map, and those after it."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from featlift.features import Features


def has_separate_stages(network: nn.Module) -> bool:
    """Whether ``network`` is a sequence of modules with known maps, as many of timm's convolutional networks are."""
    return isinstance(network, Mapping | nn.ModuleDict) and bool(getattr(network, "return_layers", None))


def forward_until(backbone: Any, image: Tensor, level: str) -> Features:
    """Run ``backbone`` up to ``level``: ``image [B, 3, H, W]`` in 0…1 → its maps from the finest to ``level``.

    Raises:
        TypeError: If the network has no separate stages.
    """
    x, maps = (image - backbone.mean) / backbone.std, {}
    for name, module in _stages(backbone):
        x = module(x)
        if name is not None:
            maps[name] = x
        if name == level:
            break
    return maps


def forward_after(backbone: Any, x: Tensor, level: str) -> Features:
    """Run ``backbone`` from its map ``x`` of ``level`` on; returns the coarser maps. Raises as :func:`forward_until`."""
    maps: Features = {}
    is_after = False
    for name, module in _stages(backbone):
        if is_after:
            x = module(x)
            if name is not None:
                maps[name] = x
        is_after = is_after or name == level
    return maps


def _stages(backbone: Any) -> Iterator[tuple[str | None, nn.Module]]:
    """Modules of the network in order, with the level of their output or None."""
    network = backbone.network
    if not has_separate_stages(network):
        raise TypeError(
            f"The stages of this {type(network).__name__} cannot be run one by one; use a network such as resnet50."
        )
    levels = dict(zip(network.return_layers, backbone.levels, strict=True))
    for name, module in network.items():
        yield levels.get(name), module
