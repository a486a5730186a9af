"""Write datasets as COCO, PASCAL VOC and Hugging Face folders."""

import json
import xml.etree.ElementTree as xml
from collections.abc import Mapping
from pathlib import Path

from featlift.data.dataset import coco_categories
from featlift.data.formats.export import ExportImage, ExportObject, ExportSplit, Losses
from featlift.data.formats.hugging_face import METADATA_FILE
from featlift.data.masks import rle_to_mask


def write_coco(splits: Mapping[str, ExportSplit], folder: Path, losses: Losses) -> None:
    """Write ``instances_<split>.json`` and ``<split>/`` into ``folder``; ids are kept, masks are run lengths."""
    for split, content in splits.items():
        (folder / split).mkdir()
        images, annotations = [], []
        for image in content.images:
            name, (height, width) = image.write(folder / split).name, image.size
            images.append({"id": image.image_id, "file_name": name, "height": height, "width": width})
            for instance in image.objects:
                annotations.append({
                    "id": len(annotations) + 1, "image_id": image.image_id, "category_id": content.category_ids[instance.label],
                    "bbox": _to_xywh(instance), "area": _area(instance), "iscrowd": int(instance.ignore),
                })  # fmt: skip
                if instance.rle:
                    annotations[-1]["segmentation"] = instance.rle
        categories = coco_categories(content.classes, content.category_ids)
        document = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"instances_{split}.json").write_text(json.dumps(document), encoding="utf-8")


def write_voc(splits: Mapping[str, ExportSplit], folder: Path, losses: Losses) -> None:
    """Write ``Annotations``, ``JPEGImages`` and ``ImageSets/Main/<split>.txt`` into ``folder``; ignored objects are difficult."""
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    for split, content in splits.items():
        for image in content.images:
            file = image.write(folder / "JPEGImages")
            tree = xml.ElementTree(_to_xml(image, file.name, content.classes))
            xml.indent(tree)
            tree.write(folder / "Annotations" / f"{image.name}.xml", encoding="utf-8")
        names = "".join(f"{image.name}\n" for image in content.images)
        (folder / "ImageSets/Main" / f"{split}.txt").write_text(names, encoding="utf-8")
    write_class_file(splits, folder)
    losses.add("masks are left out", _count_masks(splits))


def write_hugging_face(splits: Mapping[str, ExportSplit], folder: Path, losses: Losses) -> None:
    """Write an image folder for Hugging Face's ``load_dataset``: ``<split>/`` with the images and ``metadata.jsonl``."""
    for split, content in splits.items():
        target = folder / {"val": "validation"}.get(split, split)
        target.mkdir()
        rows = []
        for image in content.images:
            objects = {
                "bbox": [_to_xywh(instance) for instance in image.objects],
                "category": [content.classes[instance.label] for instance in image.objects],
                "area": [_area(instance) for instance in image.objects],
                "iscrowd": [int(instance.ignore) for instance in image.objects],
            }
            row = {
                "file_name": image.write(target).name,
                "image_id": image.image_id,
                "width": image.size[1],
                "height": image.size[0],
            }
            rows.append(json.dumps({**row, "objects": objects}) + "\n")
        (target / METADATA_FILE).write_text("".join(rows), encoding="utf-8")
    write_class_file(splits, folder)
    losses.add("masks are left out", _count_masks(splits))


def write_class_file(splits: Mapping[str, ExportSplit], folder: Path) -> None:
    """Write ``classes.txt``, so that classes without objects and their order are kept."""
    classes = next(iter(splits.values())).classes
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")


def _to_xml(image: ExportImage, file_name: str, classes: list[str]) -> xml.Element:
    root = xml.Element("annotation")
    xml.SubElement(root, "filename").text = file_name
    size = xml.SubElement(root, "size")
    for name, value in (("width", image.size[1]), ("height", image.size[0]), ("depth", 3)):
        xml.SubElement(size, name).text = str(value)
    for instance in image.objects:
        element = xml.SubElement(root, "object")
        xml.SubElement(element, "name").text = classes[instance.label]
        xml.SubElement(element, "difficult").text = str(int(instance.ignore))
        box = xml.SubElement(element, "bndbox")
        for name, value in zip(("xmin", "ymin", "xmax", "ymax"), _to_pixel_indices(instance, image), strict=True):
            xml.SubElement(box, name).text = str(value)
    return root


def _to_pixel_indices(instance: ExportObject, image: ExportImage) -> list[int]:
    """First and last pixel of the box, counted from 1; at least one pixel in the image."""
    height, width = image.size
    left, top, right, bottom = (round(edge) for edge in instance.box)
    left, top = min(left, width - 1), min(top, height - 1)
    return [left + 1, top + 1, max(right, left + 1), max(bottom, top + 1)]


def _to_xywh(instance: ExportObject) -> list[float]:
    left, top, right, bottom = instance.box
    return [left, top, right - left, bottom - top]


def _area(instance: ExportObject) -> float:
    """Area in pixels, of the mask if there is one."""
    left, top, right, bottom = instance.box
    return float(rle_to_mask(instance.rle).sum()) if instance.rle else (right - left) * (bottom - top)


def _count_masks(splits: Mapping[str, ExportSplit]) -> int:
    return sum(instance.rle is not None for split in splits.values() for instance in split.objects)
