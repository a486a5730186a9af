"""What every dataset of this library is: `Pictures`, and what it says of its objects in COCO's form."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from featlift.resolution import Target

Sample = tuple[Tensor, Target]
"""A picture ``[3, H, W]`` float32 in 0…1, and its target: ``boxes`` [N, 4] xyxy in pixels, float32; ``labels`` [N]
int64 in 1…K; ``iscrowd`` [N] int64; ``area`` [N] float32, of the mask where there is one; ``image_id`` 0-dim int64;
``masks`` [N, H, W] uint8 in {0, 1}, only if the data have masks."""


@runtime_checkable
class ImageDataset(Protocol):
    """A dataset of pictures with objects. Label ``k`` is called ``classes[k - 1]``; 0 is left to the background."""

    classes: list[str]

    def __len__(self) -> int:
        """How many pictures there are."""
        ...

    def __getitem__(self, index: int) -> Sample:
        """Picture ``index`` and its target; crowd regions are among the objects, with ``iscrowd`` 1."""
        ...

    def image_name(self, index: int) -> str:
        """A short name of picture ``index``, unique in this dataset: its file name where there is one."""
        ...

    def image_size(self, index: int) -> tuple[int, int]:
        """Height and width of picture ``index`` in pixels, without reading it."""
        ...

    def coco(self) -> dict[str, Any]:
        """The ground truth as a COCO dictionary, with this dataset's own category ids 1…K."""
        ...


def coco_categories(classes: Sequence[str]) -> list[dict[str, Any]]:
    """COCO's ``categories`` for ``classes``: ids 1…K in their order."""
    return [{"id": number, "name": name} for number, name in enumerate(classes, start=1)]


def drop_crowds(target: Target) -> Target:
    """``target`` without its crowd regions: no detector is trained on "many people, somewhere here"."""
    keep = target["iscrowd"] == 0
    return {name: value[keep] if value.ndim else value for name, value in target.items()}
