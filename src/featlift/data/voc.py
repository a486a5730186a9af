"""PASCAL VOC: ``Annotations/*.xml``, ``ImageSets/Main/<split>.txt``, ``JPEGImages/*.jpg``."""

import xml.etree.ElementTree as xml
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from featlift.data.dataset import Sample, coco_categories
from featlift.data.image_io import read_image

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


@dataclass(frozen=True)
class VocAnnotation:
    """One xml file: height and width, and per object label, box xyxy in px and whether it is marked difficult."""

    size: tuple[int, int]
    labels: list[int]
    boxes: list[list[float]]
    difficult: list[int]


class VocDataset:
    """The ``split`` ("train", "val", "trainval", "test") of a year's folder, such as ``VOCdevkit/VOC2007``.

    Difficult objects have ``iscrowd`` 1: like crowds they are no training targets, and finding them counts neither for nor against.
    VOC counts pixels from 1 and includes the last; boxes here are edges from 0, so widths are the same as VOC's.

    Raises:
        FileNotFoundError: naming what is missing.
        ValueError: naming the file and the class that is none of VOC's.
    """

    def __init__(self, folder: str | PathLike[str], split: str = "trainval") -> None:
        self.classes = list(VOC_CLASSES)
        self.folder = Path(folder)
        listed = self.folder / "ImageSets" / "Main" / f"{split}.txt"
        if not listed.is_file():
            found = sorted(path.stem for path in listed.parent.glob("*.txt") if "_" not in path.stem)
            raise FileNotFoundError(
                f"There is no {listed}. Splits there: {', '.join(found) or 'none'}. Name a folder like VOC2007."
            )
        self._names = [line.split()[0] for line in listed.read_text().splitlines() if line.strip()]
        self._annotations = [_read_annotation(self.folder / "Annotations" / f"{name}.xml") for name in self._names]

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Sample:
        """Picture ``index`` [3, H, W] float32 in 0…1 and its target; see `featlift.data.dataset`."""
        found = self._annotations[index]
        boxes = torch.tensor(found.boxes, dtype=torch.float32).reshape(-1, 4)
        return read_image(self.folder / "JPEGImages" / self.image_name(index)), {
            "boxes": boxes,
            "labels": torch.tensor(found.labels, dtype=torch.int64),
            "iscrowd": torch.tensor(found.difficult, dtype=torch.int64),
            "area": (boxes[:, 2:] - boxes[:, :2]).prod(dim=1),
            "image_id": torch.tensor(index % len(self) + 1),
        }

    def image_name(self, index: int) -> str:
        """The file name in ``JPEGImages``."""
        return f"{self._names[index]}.jpg"

    def image_size(self, index: int) -> tuple[int, int]:
        """Height and width in pixels, as the xml says."""
        return self._annotations[index].size

    def coco(self) -> dict[str, Any]:
        """The ground truth in COCO's form; ``difficult`` is kept, and repeated as ``iscrowd``."""
        images, annotations = [], []
        for index, found in enumerate(self._annotations):
            height, width = found.size
            images.append({"id": index + 1, "file_name": self.image_name(index), "height": height, "width": width})
            for label, (left, top, right, bottom), difficult in zip(
                found.labels, found.boxes, found.difficult, strict=True
            ):
                annotations.append({
                    "id": len(annotations) + 1, "image_id": index + 1, "category_id": label,
                    "bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top),
                    "iscrowd": difficult, "difficult": difficult,
                })  # fmt: skip
        return {"images": images, "annotations": annotations, "categories": coco_categories(self.classes)}


def _read_annotation(path: Path) -> VocAnnotation:
    if not path.is_file():
        raise FileNotFoundError(f"There is no {path}, though the split lists it.")
    root = xml.parse(path).getroot()
    things = root.findall("object")
    names = [_element_text(thing, "name") for thing in things]
    for name in names:
        if name not in VOC_CLASSES:
            raise ValueError(f"{path}: '{name}' is no class of PASCAL VOC; there are {', '.join(VOC_CLASSES)}.")
    return VocAnnotation(
        size=(int(_element_text(root, "size/height")), int(_element_text(root, "size/width"))),
        labels=[VOC_CLASSES.index(name) + 1 for name in names],
        boxes=[
            _pixel_box_to_edges(
                [float(_element_text(thing, f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")]
            )
            for thing in things
        ],
        difficult=[int(thing.findtext("difficult", "0")) for thing in things],
    )


def _pixel_box_to_edges(box: list[float]) -> list[float]:
    """First and last pixel, counted from 1 → left and right edge, from 0."""
    return [box[0] - 1, box[1] - 1, box[2], box[3]]


def _element_text(element: xml.Element, path: str) -> str:
    text = element.findtext(path)
    if text is None:
        raise ValueError(f"A VOC annotation lacks <{path}> in <{element.tag}>.")
    return text.strip()
