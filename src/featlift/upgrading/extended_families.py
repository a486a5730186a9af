"""The families of detectors with an extended level that shares the finest head."""

from torch import nn

from featlift.upgrading.extended_dense import DenseFamily
from featlift.upgrading.extended_detr import DETRFamily
from featlift.upgrading.extended_extractor import ExtractorDenseFamily
from featlift.upgrading.extended_family import LevelFamily
from featlift.upgrading.extended_ultralytics import UltralyticsFamily
from featlift.upgrading.extended_yolox import YOLOXFamily

FAMILIES: tuple[LevelFamily, ...] = (
    YOLOXFamily(),
    DenseFamily(),
    ExtractorDenseFamily(),
    UltralyticsFamily(),
    DETRFamily(),
)
"""In the order in which they are asked."""


def find_family(model: nn.Module) -> LevelFamily:
    """Return the family of ``model``.

    Raises:
        ValueError: If no family matches; the known ones are listed.
    """
    family = next((one for one in FAMILIES if one.matches(model)), None)
    if family is None:
        raise ValueError(
            f"This {type(model).__name__} does not support the extended level p3x, at half the stride of the finest head. Supported are "
            f"{', '.join(one.name for one in FAMILIES)}; pass the network itself, not a wrapper. To add a family, write one file as "
            "featlift/upgrading/extended_yolox.py."
        )
    return family
