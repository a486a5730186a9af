"""Normalization after the convolutions of pyramids and heads, by name (ResNeSt and Swin rows of AFI-GAN's and SRF-GAN's tables)."""

from collections.abc import Callable

from torch import nn

from featlift.detectors.fcos_head import group_norm
from featlift.registry import check_choice

NORM_LAYERS: dict[str, Callable[[int], nn.Module] | None] = {
    "none": None,
    "batch": nn.BatchNorm2d,
    "sync": nn.SyncBatchNorm,
    "group": group_norm,
}
"""Name → channels → normalization; "sync" is batch norm over all processes."""


def norm_layer(name: str) -> Callable[[int], nn.Module] | None:
    """Return the normalization ``name`` of :data:`NORM_LAYERS`.

    Raises:
        ValueError: If the name is unknown.
    """
    check_choice(name, NORM_LAYERS, "norm")
    return NORM_LAYERS[name]
