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

UNSUPPORTED_LIBRARIES = {
    "libreyolo": (
        "What is missing for LibreYOLO: its YOLOX returns maps that are not decoded, and its post-processing decodes exactly the strides "
        "8, 16 and 32, so boxes of another level have no place; for its other networks no family is written. The same networks of "
        "pixeltable-yolox, Ultralytics and transformers are supported."
    ),
    "rfdetr": (
        "What is missing for RF-DETR: its backbone is a vision transformer with maps of one stride, so there are no early stages that give "
        "finer maps of the enlarged image. Use a higher resolution=… instead."
    ),
}
"""Package → what is missing for the networks that it defines."""


def find_family(model: nn.Module) -> LevelFamily:
    """Return the family of ``model``.

    Raises:
        ValueError: If no family matches; the known ones are listed, or what is missing for the library of ``model``.
    """
    missing = UNSUPPORTED_LIBRARIES.get(type(model).__module__.partition(".")[0])
    if missing is not None:
        raise ValueError(f"This {type(model).__name__} does not support the extended level p3x. {missing}")
    family = next((one for one in FAMILIES if one.matches(model)), None)
    if family is None:
        raise ValueError(
            f"This {type(model).__name__} does not support the extended level p3x, at half the stride of the finest head. Supported are "
            f"{', '.join(one.name for one in FAMILIES)}; pass the network itself, not a wrapper. To add a family, write one file as "
            "featlift/upgrading/extended_yolox.py."
        )
    return family
