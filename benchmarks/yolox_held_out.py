"""Evaluation of an extended level on held-out images, on pseudo labels of unlabeled images, and in a part of the image only."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from yolox_boxes import Boxes, MergeRule, concatenate_boxes, merge_boxes, select_candidates, to_coco_results
from yolox_cache import CELLS, INPUTS, MapCache, NamedImage, fill_cache, open_cache
from yolox_network import SIDE, STRIDES, YOLOXNano, letterbox, run_plain_pass
from yolox_stem import ImageStem

from featlift.evaluation.coco_metrics import coco_metrics

METRICS = ("ap", "ap50", "ap_small", "ap_medium", "ap_large", "ar_small")
LEVEL_STRIDE, LEVEL_MIN_SCORE = 4, 0.005
NUM_CLASSES = 80


@dataclass
class HeldOutSet:
    """Labeled images with stored maps (`INPUTS`) and boxes."""

    name: str
    cache: MapCache
    ground_truth: dict[str, Any]
    plain: list[Boxes]
    """Boxes of the plain detector."""
    native: list[Boxes]
    """Boxes of the finest level on the image letterboxed to 832 px (not enlarged from 416 px)."""
    folder: Path
    label: int | None
    """The only labeled class (0 is person), or None for all."""

    @property
    def category_ids(self) -> list[int]:
        """COCO ids in the order of the network's classes."""
        return sorted(category["id"] for category in self.ground_truth["categories"])


def only_label(ground_truth: dict[str, Any]) -> int | None:
    """0 if the ground truth has a single class (person), None otherwise."""
    return 0 if len(ground_truth["categories"]) == 1 else None


def open_held_out(folder: Path, name: str) -> HeldOutSet:
    """Open a set that `write_held_out` has written."""
    boxes = torch.load(folder / name / "boxes.pt", weights_only=False)
    ground_truth = json.loads((folder / name / "ground_truth.json").read_text())
    cache = open_cache(folder / name)
    return HeldOutSet(
        name, cache, ground_truth, boxes["plain"], boxes["native"], folder / name, only_label(ground_truth)
    )


@torch.no_grad()
def write_held_out(
    network: YOLOXNano, folder: Path, files: Sequence[Path], ground_truth: dict[str, Any], native: bool = False
) -> None:
    """Store maps, boxes and the letterboxed images of ``files``, the images of ``ground_truth`` in its order."""
    fill_cache(network, folder, [*INPUTS, "enlarged_reduce_conv1"], map(_read, files), len(files), native)
    entries = json.loads((folder / "images.json").read_text())
    label = only_label(ground_truth)
    plain, native, letterboxed = [], [], []
    for file, image, entry in zip(files, ground_truth["images"], entries, strict=True):
        _, pixels = _read(file)
        if pixels.shape[:2] != (image["height"], image["width"]):
            raise ValueError(f"{file} has another size than in the ground truth.")
        entry["image_id"] = image["id"]
        tensor, _ = letterbox(pixels)
        letterboxed.append(tensor[0].byte().numpy())
        plain.append(plain_boxes(run_plain_pass(network, tensor).outputs, label))
        native.append(_native_boxes(network, letterbox(pixels, 2 * SIDE)[0], label))
    (folder / "images.json").write_text(json.dumps(entries))
    (folder / "ground_truth.json").write_text(json.dumps(ground_truth))
    np.save(folder / "letterboxed.npy", np.stack(letterboxed))
    torch.save({"plain": plain, "native": native}, folder / "boxes.pt")


def _read(file: Path) -> NamedImage:
    import cv2

    return file.name, cv2.imread(str(file))


def _native_boxes(network: YOLOXNano, image: Tensor, label: int | None) -> Boxes:
    dark3 = network.compute_dark3(image)
    c3_p3 = network.compute_c3_p3(network.compute_top_down(dark3)[0], dark3)
    return select_candidates(network.compute_output(c3_p3)[0], LEVEL_STRIDE, LEVEL_MIN_SCORE, label)


def plain_boxes(outputs: Sequence[Tensor], label: int | None = None) -> Boxes:
    """Boxes of the three levels, ``[1, 85, h, w]`` each, before suppression."""
    return concatenate_boxes(
        [select_candidates(output[0], stride, label=label) for output, stride in zip(outputs, STRIDES, strict=True)]
    )


@torch.no_grad()
def level_boxes(
    network: YOLOXNano, student: nn.Module, held_out: HeldOutSet, stem: ImageStem | None = None
) -> list[Boxes]:
    """Boxes of the extended level of every image, of all sizes. ``stem`` replaces the stem on the enlarged image."""
    boxes = []
    images = np.load(held_out.folder / "letterboxed.npy", mmap_mode="r") if stem else []
    student.eval()
    for index in range(len(held_out.cache)):
        maps = held_out.cache.read(list({*student.inputs, "enlarged_dark3"}), index)
        maps = {name: value.contiguous(memory_format=torch.channels_last) for name, value in maps.items()}
        if stem:
            image = torch.from_numpy(images[index].astype(np.float32))[None]
            stem_map = stem(image.contiguous(memory_format=torch.channels_last))
            maps["enlarged_dark3"] = network.compute_dark3_from_stem(stem_map)
        output = network.compute_output(network.compute_c3_p3(student(maps), maps["enlarged_dark3"]))
        boxes.append(select_candidates(output[0], LEVEL_STRIDE, LEVEL_MIN_SCORE, held_out.label))
    return boxes


def cached_level_boxes(network: YOLOXNano, student: nn.Module, held_out: HeldOutSet, name: str) -> list[Boxes]:
    """`level_boxes`, computed once per set and run."""
    path = held_out.folder / f"level_{name}.pt"
    if not path.exists():
        torch.save(level_boxes(network, student, held_out), path)
    return torch.load(path, weights_only=False)


def merge_all(held_out: HeldOutSet, added: Sequence[Boxes] | None, rule: MergeRule) -> list[dict[str, Any]]:
    """COCO results of the plain detector with the boxes ``added`` of an extended level; None: of the plain detector."""
    results = []
    for index, image in enumerate(held_out.cache.images):
        merged = merge_boxes(held_out.plain[index], None if added is None else added[index], rule)
        results += to_coco_results(merged, image["image_id"], image["scale"], held_out.category_ids)
    return results


def compute_metrics(held_out: HeldOutSet, results: list[dict[str, Any]]) -> dict[str, float]:
    """`METRICS` in percent."""
    metrics = coco_metrics(held_out.ground_truth, results)
    return {name: round(100 * metrics[name], 2) for name in METRICS}


def select_tiles(plain: Boxes, max_size: float, min_score: float, margin: int) -> Tensor:
    """``[13, 13]``, tiles of 32 px: those within ``margin`` tiles of a plain box below ``max_size`` px with a score above ``min_score``."""
    small = plain.select((plain.sizes < max_size) & (plain.scores > min_score))
    tiles = torch.zeros(1, 1, CELLS, CELLS)
    columns, rows = (small.centers / 32).long().clamp(0, CELLS - 1).unbind(1)
    tiles[0, 0, rows, columns] = 1
    return F.max_pool2d(tiles, 2 * margin + 1, 1, margin)[0, 0] > 0


def select_in_tiles(boxes: Boxes, tiles: Tensor) -> Boxes:
    """Boxes with their center in one of the selected ``tiles [13, 13]``."""
    columns, rows = (boxes.centers / 32).long().clamp(0, CELLS - 1).unbind(1)
    return boxes.select(tiles[rows, columns])


@torch.no_grad()
def pseudo_label(network: YOLOXNano, cache: MapCache, num_images: int, min_score: float) -> HeldOutSet:
    """Return the first ``num_images`` unlabeled images with the teacher's boxes above ``min_score`` as ground truth.

    The teacher is the plain detector with the level of the enlarged pass added.
    """
    images = [{**image, "image_id": index} for index, image in enumerate(cache.images[:num_images])]
    categories = [{"id": label, "name": str(label)} for label in range(NUM_CLASSES)]
    ground_truth: dict[str, Any] = {"images": [], "annotations": [], "categories": categories}
    held_out = HeldOutSet("pseudo", MapCache(cache.maps, images), ground_truth, [], [], Path(), None)
    for index, image in enumerate(images):
        maps = cache.read(["c3_p3", "reduce_conv1", "lateral_conv0", "enlarged_output"], index)
        features = network.compute_neck_maps(maps["c3_p3"], maps["reduce_conv1"], maps["lateral_conv0"])
        held_out.plain.append(plain_boxes([network.compute_output(x, level) for level, x in enumerate(features)]))
        held_out.native.append(select_candidates(maps["enlarged_output"][0], LEVEL_STRIDE, LEVEL_MIN_SCORE))
        height, width = (round(side / image["scale"]) for side in image["extent"])
        ground_truth["images"].append({"id": index, "file_name": image["file"], "height": height, "width": width})
    for number, result in enumerate(merge_all(held_out, held_out.native, MergeRule()), 1):
        if result["score"] > min_score:
            area = result["bbox"][2] * result["bbox"][3]
            ground_truth["annotations"].append({**result, "id": number, "area": area, "iscrowd": 0})
    return held_out
