"""The dataset protocol `ImageDataset`, its samples, and helpers for COCO ground truth."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from featlift.features import Target

Sample = tuple[Tensor, Target]
"""Image ``[3, H, W]`` float32 in 0…1 and its target: ``boxes`` [N, 4] xyxy in pixels, float32; ``labels`` [N]
int64 in 1…K; ``iscrowd`` [N] int64; ``area`` [N] float32, of the mask if present; ``image_id`` 0-dim int64;
``masks`` [N, H, W] uint8 in {0, 1}, only if the dataset has masks."""


@runtime_checkable
class ImageDataset(Protocol):
    """Images with objects. Label ``k`` has the name ``classes[k - 1]``; 0 is the background."""

    classes: list[str]

    def __len__(self) -> int:
        """Number of images."""
        ...

    def __getitem__(self, index: int) -> Sample:
        """Image ``index`` and its target; crowd regions are objects with ``iscrowd`` 1."""
        ...

    def image_name(self, index: int) -> str:
        """Unique short name of image ``index``: its file name if it has one."""
        ...

    def image_size(self, index: int) -> tuple[int, int]:
        """Height and width of image ``index`` in pixels, without decoding it."""
        ...

    def coco(self) -> dict[str, Any]:
        """Ground truth as a COCO dictionary with category ids 1…K."""
        ...


def coco_categories(classes: Sequence[str]) -> list[dict[str, Any]]:
    """COCO's ``categories`` of ``classes``, with ids 1…K in this order."""
    return [{"id": label, "name": name} for label, name in enumerate(classes, start=1)]


def drop_crowds(target: Target) -> Target:
    """``target`` without crowd regions, which detectors are not trained on."""
    keep = target["iscrowd"] == 0
    return {name: value[keep] if value.ndim else value for name, value in target.items()}
