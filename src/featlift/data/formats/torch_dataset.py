"""Any ``torch.utils.data.Dataset`` with torchvision's contract as FeatLift's dataset, and datasets by name."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import to_dtype, to_image

from featlift.data.crops import DatasetSubset
from featlift.data.dataset import ImageDataset, Sample, coco_categories
from featlift.data.formats.splits import choose_split
from featlift.data.masks import mask_to_rle
from featlift.features import Target
from featlift.registry import look_up

PREFIX = "python:"
"""Beginning of the ``root`` of a registered dataset, as in ``python:cells``."""
HELD_OUT_STEP = 10
"""Every tenth image of a single dataset is for validation."""
_REGISTERED: dict[str, dict[str, ImageDataset]] = {}


class TorchDataset:
    """``dataset``, whose items are (image, target) as torchvision's detectors take them, as an `ImageDataset`.

    An image is a PIL image, a tensor ``[3, H, W]`` of floats in 0…1 or of uint8, or an array ``[H, W, 3]`` of uint8. A target has
    ``boxes`` [N, 4] xyxy in pixels and ``labels`` [N] in 1…K; optional are ``masks`` [N, H, W], ``area``, ``iscrowd`` and ``image_id``.
    Every item is checked when it is read.

    Args:
        dataset: The dataset; its items may be augmented, then `coco` is that of one reading.
        classes: Names of the labels 1…K.

    Raises:
        ValueError: If there are no classes.
    """

    def __init__(self, dataset: Any, classes: Sequence[str]) -> None:
        if not classes:
            raise ValueError(
                "A dataset needs the names of its classes; label k is classes[k - 1], 0 is the background."
            )
        self.classes, self.category_ids = list(classes), list(range(1, len(classes) + 1))
        self._dataset, self._truth = dataset, {}

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Sample:
        """Image ``index`` [3, H, W] float32 in 0…1 and its target; see `featlift.data.dataset`.

        Raises:
            ValueError: naming the item, if it breaks the contract.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        try:
            image, target = self._dataset[index]
            pixels = _to_pixels(image)
            return pixels, _to_target(target, pixels, index, len(self.classes))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"Item {index} of the dataset: {error}") from error

    def image_name(self, index: int) -> str:
        """Number of the item."""
        return f"{index:06d}"

    def image_size(self, index: int) -> tuple[int, int]:
        """Height and width in pixels, of ``get_height_and_width`` if the dataset has it."""
        if hasattr(self._dataset, "get_height_and_width"):
            height, width = self._dataset.get_height_and_width(index)
            return int(height), int(width)
        entry = self.coco()["images"][index]
        return entry["height"], entry["width"]

    def coco(self) -> dict[str, Any]:
        """Ground truth as a COCO dictionary; the first call reads all items."""
        if not self._truth:
            images, annotations = [], []
            for index in range(len(self)):
                pixels, target = self[index]
                height, width = pixels.shape[1:]
                image_id = int(target["image_id"])
                images.append({"id": image_id, "file_name": self.image_name(index), "height": height, "width": width})
                annotations += _to_annotations(target, image_id, len(annotations))
            self._truth = {"images": images, "annotations": annotations, "categories": coco_categories(self.classes)}
        return self._truth


def register_dataset(name: str, splits: Mapping[str, Any], classes: Sequence[str]) -> str:
    """Give Python datasets a ``name`` that ``--data`` and `DataConfig` accept in this process; return it, ``python:NAME``.

    Args:
        name: Name; a dataset of the same name is replaced.
        splits: Datasets by split, ``{"train": …, "val": …}``: an `ImageDataset`, or torchvision's contract (`TorchDataset`).
        classes: Names of the labels 1…K.
    """
    _REGISTERED[name] = {split: to_image_dataset(dataset, classes) for split, dataset in splits.items()}
    return f"{PREFIX}{name}"


def register_training_data(name: str, data: Any, classes: Sequence[str] = ()) -> str:
    """Give the datasets of a training a ``name`` as `register_dataset`; return it.

    Args:
        name: Name; that of the run, so that a resumed run finds them.
        data: ``{"train": …, "val": …}``, or one dataset: then every tenth of its images, at least one, is for validation.
        classes: Names of the labels 1…K; by default those of the attribute ``classes`` of the datasets.

    Raises:
        ValueError: If there are no names of classes, or a single dataset has less than two images.
    """
    splits = dict(data) if isinstance(data, Mapping) else _hold_out(data, classes)
    return register_dataset(name, splits, classes)


def _hold_out(dataset: Any, classes: Sequence[str]) -> dict[str, ImageDataset]:
    images = to_image_dataset(dataset, classes)
    if len(images) < 2:
        raise ValueError(f"The dataset has {len(images)} images; one is for training and one for validation.")
    held_out = list(range(0, len(images), HELD_OUT_STEP))
    rest = [index for index in range(len(images)) if index % HELD_OUT_STEP]
    return {"train": DatasetSubset(images, rest), "val": DatasetSubset(images, held_out)}


def to_image_dataset(dataset: Any, classes: Sequence[str] = ()) -> ImageDataset:
    """Return ``dataset`` itself if it is an `ImageDataset`, else a `TorchDataset` of it; ``classes`` default to its attribute."""
    if isinstance(dataset, ImageDataset):
        return dataset
    return TorchDataset(dataset, classes or getattr(dataset, "classes", ()))


def open_registered(root: str, split: str) -> ImageDataset:
    """Return the ``split`` of the dataset registered as ``root``.

    Raises:
        ValueError: If no dataset of this name was registered in this process.
        FileNotFoundError: If it has no such split.
    """
    if not _REGISTERED:
        raise ValueError(f"{root} is a dataset of another process: call register_dataset first, or give --data FOLDER.")
    datasets = look_up(_REGISTERED, str(root).removeprefix(PREFIX), "dataset")
    return datasets[choose_split(Path(root), split, datasets)]


def _to_pixels(image: Any) -> Tensor:
    pixels = image if isinstance(image, Tensor) else to_image(image)
    if pixels.ndim == 3 and pixels.shape[0] == 1:
        pixels = pixels.expand(3, -1, -1)
    if pixels.ndim != 3 or pixels.shape[0] != 3:
        raise ValueError(f"the image has the shape {list(pixels.shape)}; it is [3, H, W]")
    pixels = to_dtype(pixels, torch.float32, scale=True).as_subclass(Tensor)
    if not 0 <= pixels.min() <= pixels.max() <= 1:
        raise ValueError(
            f"the image has values from {pixels.min():g} to {pixels.max():g}; they are in 0…1, not normalized"
        )
    return pixels


def _to_target(target: Mapping[str, Any], image: Tensor, index: int, num_classes: int) -> Target:
    boxes = torch.as_tensor(target["boxes"], dtype=torch.float32).reshape(-1, 4).as_subclass(Tensor)
    labels = torch.as_tensor(target["labels"], dtype=torch.int64)
    _check_objects(boxes, labels, image, num_classes)
    sides = boxes[:, 2:] - boxes[:, :2]
    checked = {
        "boxes": boxes,
        "labels": labels,
        "iscrowd": torch.as_tensor(target.get("iscrowd", torch.zeros(len(boxes))), dtype=torch.int64),
        "area": torch.as_tensor(target.get("area", sides.prod(dim=1)), dtype=torch.float32),
        "image_id": torch.tensor(int(target.get("image_id", index + 1))),
    }
    if "masks" in target:
        masks = (torch.as_tensor(target["masks"]) > 0).to(torch.uint8).as_subclass(Tensor)
        if masks.shape != (len(boxes), *image.shape[1:]):
            raise ValueError(f"masks have the shape {list(masks.shape)}; it is {[len(boxes), *image.shape[1:]]}")
        checked["masks"] = masks
    return checked


def _check_objects(boxes: Tensor, labels: Tensor, image: Tensor, num_classes: int) -> None:
    height, width = image.shape[1:]
    if len(boxes) != len(labels):
        raise ValueError(f"it has {len(boxes)} boxes and {len(labels)} labels")
    if len(labels) and not 1 <= int(labels.min()) <= int(labels.max()) <= num_classes:
        raise ValueError(f"labels are {sorted(set(labels.tolist()))}; they are in 1…{num_classes}, 0 is the background")
    for box in boxes.tolist():
        left, top, right, bottom = box
        if not (-1 <= left < right <= width + 1 and -1 <= top < bottom <= height + 1):
            raise ValueError(
                f"the box {box} is no xyxy box in the image of {width}x{height} pixels: 0 ≤ left < right ≤ width, 0 ≤ top < bottom ≤ height"
            )


def _to_annotations(target: Target, image_id: int, first: int) -> list[dict[str, Any]]:
    annotations = []
    for k, (left, top, right, bottom) in enumerate(target["boxes"].tolist()):
        annotations.append({
            "id": first + k + 1, "image_id": image_id, "category_id": int(target["labels"][k]),
            "bbox": [left, top, right - left, bottom - top], "area": float(target["area"][k]), "iscrowd": int(target["iscrowd"][k]),
        })  # fmt: skip
        if "masks" in target:
            annotations[-1]["segmentation"] = mask_to_rle(target["masks"][k].numpy())
    return annotations
