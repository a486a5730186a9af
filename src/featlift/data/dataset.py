"""The dataset protocol `ImageDataset`, its samples, and helpers for COCO ground truth."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from featlift.features import Target

Sample = tuple[Tensor, Target]
"""Image ``[3, H, W]`` float32 in 0…1 and its target: ``boxes`` [N, 4] xyxy in pixels, float32; ``labels`` [N]
int64 in 1…K; ``iscrowd`` [N] int64; ``area`` [N] float32, of the mask if present; ``image_id`` 0-dim int64;
``masks`` [N, H, W] uint8 in {0, 1}, only if the dataset has masks; ``ignore`` [N] int64, 1 for ignored regions (which have ``iscrowd``
1, and label 0 if of every class), only in images that have some."""

FULL_SIZE = "full_size"
"""Key of a target whose image was decoded at a reduced size: height and width of the file ``[2]``, to which its boxes and masks refer."""


@runtime_checkable
class ImageDataset(Protocol):
    """Images with objects. Label ``k`` has the name ``classes[k - 1]``; 0 is the background.

    ``category_ids[k - 1]`` is the id of class ``k`` in the dataset's own annotation file, which `coco` and everything that
    is written (detections, evaluation files, submissions) uses; 1…K for formats without ids.
    """

    classes: list[str]
    category_ids: list[int]

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
        """Ground truth as a COCO dictionary with the dataset's own image and category ids."""
        ...


def consecutive_ids(classes: Sequence[str]) -> list[int]:
    """Category ids 1…K of ``classes``, for formats that have none."""
    return list(range(1, len(classes) + 1))


def coco_categories(classes: Sequence[str], category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """COCO's ``categories`` of ``classes`` with these ids; with ids 1…K by default."""
    ids = consecutive_ids(classes) if category_ids is None else category_ids
    return [{"id": id_, "name": name} for id_, name in zip(ids, classes, strict=True)]


def drop_crowds(target: Target) -> Target:
    """``target`` without crowd regions, which detectors are not trained on."""
    keep = target["iscrowd"] == 0
    return {name: value[keep] if value.ndim and name != FULL_SIZE else value for name, value in target.items()}


def frame_size(image: Tensor, target: Target) -> tuple[int, int]:
    """Height and width in pixels to which the boxes and masks of ``target`` refer: those of ``image``, unless it was decoded at less."""
    height, width = target[FULL_SIZE].tolist() if FULL_SIZE in target else image.shape[-2:]
    return height, width
