"""The network of YOLOX by ``pixeltable-yolox``, in the published sizes."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from featlift.registry import look_up


@dataclass(frozen=True)
class YOLOXSize:
    """Depth and width factors of a published network, whether its convolutions are depthwise, and its image size in px."""

    depth: float
    width: float
    depthwise: bool = False
    image_size: int = 640


YOLOX_SIZES = {
    "nano": YOLOXSize(0.33, 0.25, True, 416),
    "tiny": YOLOXSize(0.33, 0.375, False, 416),
    "s": YOLOXSize(0.33, 0.5),
    "m": YOLOXSize(0.67, 0.75),
    "l": YOLOXSize(1.0, 1.0),
    "x": YOLOXSize(1.33, 1.25),
}


def build_yolox(size: str = "nano", num_classes: int = 80, fused: bool = False) -> nn.Module:
    """Build YOLOX of ``pixeltable-yolox`` with random weights, in evaluation mode.

    Args:
        size: Name in :data:`YOLOX_SIZES`.
        num_classes: Number of classes K.
        fused: Without batch norm, which exported files have folded into the convolutions.

    Raises:
        ImportError: If pixeltable-yolox is not installed.
        ValueError: For an unknown size.
    """
    settings = look_up(YOLOX_SIZES, size, "size of YOLOX")
    models, base_conv = _import_yolox()
    options = {"in_channels": [256, 512, 1024], "act": "silu", "depthwise": settings.depthwise}
    neck = models.YoloPafpn(settings.depth, settings.width, **options)
    network = models.YoloxModule(neck, models.YoloxHead(num_classes, settings.width, **options)).eval()
    blocks: list[Any] = list(network.modules())
    for module in blocks:
        if isinstance(module, nn.BatchNorm2d):
            module.eps, module.momentum = 1e-3, 0.03
        if fused and isinstance(module, base_conv):
            module.bn = nn.Identity()
            module.conv.bias = nn.Parameter(torch.zeros(module.conv.out_channels))
    network.head.initialize_biases(1e-2)
    return network


def _import_yolox() -> tuple[Any, type[nn.Module]]:
    try:
        from yolox import models
        from yolox.models.network_blocks import BaseConv
    except ImportError as error:
        raise ImportError("YOLOX needs pixeltable-yolox: pip install pixeltable-yolox") from error
    return models, BaseConv


def size_of_width(stem_channels: int) -> str:
    """Return the size whose stem has ``stem_channels`` channels. Raises ValueError if there is none."""
    widths = {int(64 * settings.width): name for name, settings in YOLOX_SIZES.items()}
    if stem_channels not in widths:
        raise ValueError(
            f"YOLOX's stem has {stem_channels} channels; those of the published sizes are {', '.join(map(str, widths))}."
        )
    return widths[stem_channels]
