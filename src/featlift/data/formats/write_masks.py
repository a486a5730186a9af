"""Write datasets as YOLO, LabelMe and mask images."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from featlift.data.formats.export import ExportImage, ExportObject, ExportSplit, Losses
from featlift.data.formats.labelme import IGNORE_FLAG
from featlift.data.formats.mask_polygons import mask_to_polygon
from featlift.data.formats.split_source import polygons_box
from featlift.data.formats.write_boxes import write_class_file
from featlift.data.masks import rle_to_mask

MAX_MASK_VALUE = 65_535


def write_yolo(splits: Mapping[str, ExportSplit], folder: Path, losses: Losses) -> None:
    """Write ``data.yaml``, ``images/<split>/`` and ``labels/<split>/`` into ``folder``.

    If every object has a mask the labels are polygons, else boxes: readers of YOLO's files expect one of both.
    """
    import yaml

    objects = [instance for split in splits.values() for instance in split.objects if not instance.ignore]
    with_masks = bool(objects) and all(instance.rle for instance in objects)
    if not with_masks:
        losses.add(
            "masks are left out, since not all objects have one", sum(instance.rle is not None for instance in objects)
        )
    for split, content in splits.items():
        for name in ("images", "labels"):
            (folder / name / split).mkdir(parents=True)
        for image in content.images:
            image.write(folder / "images" / split)
            lines = [_to_yolo(instance, image, with_masks, losses) for instance in image.objects if not instance.ignore]
            (folder / "labels" / split / f"{image.name}.txt").write_text("".join(lines))
        losses.add("crowd or difficult regions are left out: YOLO trains them as background", _count_ignored(content))
    classes = next(iter(splits.values())).classes
    paths = {split: f"images/{split}" for split in splits}
    text = yaml.safe_dump({**paths, "names": dict(enumerate(classes))}, sort_keys=False, allow_unicode=True)
    (folder / "data.yaml").write_text(text, encoding="utf-8")


def write_labelme(splits: Mapping[str, ExportSplit], folder: Path, losses: Losses) -> None:
    """Write ``<split>/`` with the images and a JSON file for each: polygons of masks, rectangles of boxes."""
    for split, content in splits.items():
        (folder / split).mkdir()
        for image in content.images:
            shapes = [_to_shape(instance, content.classes) for instance in image.objects]
            document = {
                "version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": image.write(folder / split).name, "imageData": None,
                "imageHeight": image.size[0], "imageWidth": image.size[1],
            }  # fmt: skip
            (folder / split / f"{image.name}.json").write_text(json.dumps(document), encoding="utf-8")
            for instance in image.objects:
                _count_loose_box(instance, losses)
    write_class_file(splits, folder)


def write_mask_images(splits: Mapping[str, ExportSplit], folder: Path, losses: Losses) -> None:
    """Write ``<split>/images`` and ``<split>/masks/<class>/``: 16-bit PNG in which value k is the k-th object of the class.

    Raises:
        ValueError: If a class name is no folder name, or an image has more than 65,535 objects of a class.
    """
    for split, content in splits.items():
        for name in ("images", *(f"masks/{_folder_name(name)}" for name in content.classes)):
            (folder / split / name).mkdir(parents=True)
        for image in content.images:
            image.write(folder / split / "images")
            masked = [instance for instance in image.objects if instance.rle and not instance.ignore]
            losses.add("objects without a mask are left out", sum(not instance.rle for instance in image.objects))
            for label, name in enumerate(content.classes):
                values = _paint([instance for instance in masked if instance.label == label], image, losses)
                Image.fromarray(values).save(folder / split / "masks" / name / f"{image.name}.png")
        losses.add("crowd or difficult regions are left out: they become background", _count_ignored(content))
    write_class_file(splits, folder)


def _to_yolo(instance: ExportObject, image: ExportImage, with_masks: bool, losses: Losses) -> str:
    height, width = image.size
    if with_masks and instance.rle:
        _count_loose_box(instance, losses)
        values = np.array(mask_to_polygon(rle_to_mask(instance.rle))).reshape(-1, 2) / (width, height)
        return f"{instance.label} {' '.join(f'{value:.8g}' for value in values.ravel())}\n"
    left, top, right, bottom = instance.box
    box = ((left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width, (bottom - top) / height)
    return f"{instance.label} {' '.join(f'{value:.8g}' for value in box)}\n"


def _to_shape(instance: ExportObject, classes: list[str]) -> dict:
    if instance.rle:
        points = np.array(mask_to_polygon(rle_to_mask(instance.rle))).reshape(-1, 2).tolist()
    else:
        left, top, right, bottom = instance.box
        points = [[left, top], [right, bottom]]
    flags = {IGNORE_FLAG: True} if instance.ignore else {}
    kind = "polygon" if instance.rle else "rectangle"
    return {"label": classes[instance.label], "points": points, "group_id": None, "shape_type": kind, "flags": flags}


def _count_loose_box(instance: ExportObject, losses: Losses) -> None:
    """Count a box that is not the one around its mask, which formats of polygons derive."""
    if instance.rle:
        around = polygons_box([mask_to_polygon(rle_to_mask(instance.rle))])
        is_loose = any(abs(a - b) > 1 for a, b in zip(around, instance.box, strict=True))
        losses.add("boxes differ by more than 1 px from their mask's; the mask's is kept", int(is_loose))


def _paint(objects: list[ExportObject], image: ExportImage, losses: Losses) -> np.ndarray:
    """Values ``[H, W]``; small objects are painted over large ones."""
    if len(objects) > MAX_MASK_VALUE:
        raise ValueError(f"{image.name} has {len(objects)} objects of one class; 16-bit masks hold {MAX_MASK_VALUE}.")
    values = np.zeros(image.size, dtype=np.uint16)
    masks = [rle_to_mask(instance.rle) > 0 for instance in objects if instance.rle]
    for value, mask in enumerate(sorted(masks, key=np.sum, reverse=True), 1):
        losses.add("pixels are covered by another object of the class", int((values[mask] > 0).sum()))
        values[mask] = value
    losses.add("objects are covered by others of the class", len(masks) - len(np.unique(values[values > 0])))
    return values


def _count_ignored(split: ExportSplit) -> int:
    return sum(instance.ignore for instance in split.objects)


def _folder_name(name: str) -> str:
    if "/" in name or "\\" in name or name in ("", ".", ".."):
        raise ValueError(f"The class '{name}' cannot name a folder of masks; rename it, or choose another format.")
    return name
