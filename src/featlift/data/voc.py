"""PASCAL VOC: ``Annotations/*.xml``, ``ImageSets/Main/<split>.txt``, ``JPEGImages/*.jpg``."""

import xml.etree.ElementTree as xml
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from featlift.data.dataset import Sample, coco_categories, consecutive_ids
from featlift.data.image_io import read_image

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


@dataclass(frozen=True)
class VocAnnotation:
    """XML annotation: image size (height, width), and per object the label, the box xyxy in pixels and the difficult flag."""

    size: tuple[int, int]
    labels: list[int]
    boxes: list[list[float]]
    difficult: list[int]


class VocDataset:
    """The ``split`` ("train", "val", "trainval", "test") of a year's folder, such as ``VOCdevkit/VOC2007``.

    Difficult objects have ``iscrowd`` 1: like crowd regions they are excluded from training and ignored in evaluation.
    VOC's pixel coordinates start at 1 and include the last pixel; boxes here are edges starting at 0, of the same width.

    Raises:
        FileNotFoundError: naming the missing file.
        ValueError: naming the file and its unknown class.
    """

    def __init__(self, folder: str | PathLike[str], split: str = "trainval") -> None:
        self.classes: list[str] = list(VOC_CLASSES)
        self.category_ids = consecutive_ids(self.classes)
        self.folder = Path(folder)
        split_file = self.folder / "ImageSets" / "Main" / f"{split}.txt"
        if not split_file.is_file():
            splits = sorted(path.stem for path in split_file.parent.glob("*.txt") if "_" not in path.stem)
            raise FileNotFoundError(
                f"There is no {split_file}. Splits: {', '.join(splits) or 'none'}. Give a folder like VOC2007."
            )
        self._names = [line.split()[0] for line in split_file.read_text().splitlines() if line.strip()]
        self._annotations = [_read_annotation(self.folder / "Annotations" / f"{name}.xml") for name in self._names]

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Sample:
        """Image ``index`` [3, H, W] float32 in 0…1 and its target; see `featlift.data.dataset`."""
        annotation = self._annotations[index]
        boxes = torch.tensor(annotation.boxes, dtype=torch.float32).reshape(-1, 4)
        return read_image(self.folder / "JPEGImages" / self.image_name(index)), {
            "boxes": boxes,
            "labels": torch.tensor(annotation.labels, dtype=torch.int64),
            "iscrowd": torch.tensor(annotation.difficult, dtype=torch.int64),
            "area": (boxes[:, 2:] - boxes[:, :2]).prod(dim=1),
            "image_id": torch.tensor(index % len(self) + 1),
        }

    def image_name(self, index: int) -> str:
        """File name in ``JPEGImages``."""
        return f"{self._names[index]}.jpg"

    def image_size(self, index: int) -> tuple[int, int]:
        """Height and width in pixels, from the XML file."""
        return self._annotations[index].size

    def coco(self) -> dict[str, Any]:
        """Ground truth as a COCO dictionary; the difficult flag is stored as ``difficult`` and as ``iscrowd``."""
        images, annotations = [], []
        for index, annotation in enumerate(self._annotations):
            height, width = annotation.size
            images.append({"id": index + 1, "file_name": self.image_name(index), "height": height, "width": width})
            for label, (left, top, right, bottom), difficult in zip(
                annotation.labels, annotation.boxes, annotation.difficult, strict=True
            ):
                annotations.append({
                    "id": len(annotations) + 1, "image_id": index + 1, "category_id": label,
                    "bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top),
                    "iscrowd": difficult, "difficult": difficult,
                })  # fmt: skip
        return {"images": images, "annotations": annotations, "categories": coco_categories(self.classes)}


def _read_annotation(path: Path) -> VocAnnotation:
    if not path.is_file():
        raise FileNotFoundError(f"There is no {path}, which is listed in the split.")
    root = xml.parse(path).getroot()
    objects = root.findall("object")
    names = [_element_text(instance, "name") for instance in objects]
    for name in names:
        if name not in VOC_CLASSES:
            raise ValueError(
                f"{path}: '{name}' is not a class of PASCAL VOC; the classes are {', '.join(VOC_CLASSES)}."
            )
    return VocAnnotation(
        size=(int(_element_text(root, "size/height")), int(_element_text(root, "size/width"))),
        labels=[VOC_CLASSES.index(name) + 1 for name in names],
        boxes=[
            _pixel_box_to_edges(
                [float(_element_text(instance, f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax")]
            )
            for instance in objects
        ],
        difficult=[int(instance.findtext("difficult", "0")) for instance in objects],
    )


def _pixel_box_to_edges(box: list[float]) -> list[float]:
    """First and last pixel, counted from 1 → box edges, counted from 0."""
    return [box[0] - 1, box[1] - 1, box[2], box[3]]


def _element_text(element: xml.Element, path: str) -> str:
    text = element.findtext(path)
    if text is None:
        raise ValueError(f"A VOC annotation lacks <{path}> in <{element.tag}>.")
    return text.strip()
