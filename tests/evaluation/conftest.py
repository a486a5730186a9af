"""Random ground truth and detections for comparisons with pycocotools."""

from typing import Any

import numpy as np
import pytest


def _box(random: np.random.Generator, side: int) -> list[float]:
    width, height = random.choice([8, 14, 28, 50, 110]) * random.uniform(0.8, 1.2, 2)
    return [
        float(random.uniform(0, side - width)),
        float(random.uniform(0, side - height)),
        float(width),
        float(height),
    ]


def _rle(box: list[float], side: int) -> dict[str, Any]:
    from pycocotools import mask

    x, y, width, height = (round(value) for value in box)
    pixels = np.zeros((side, side), np.uint8, order="F")
    pixels[y : y + height, x : x + width] = 1
    pixels[y : y + height // 3, x : x + width // 3] = 0
    encoded = mask.encode(pixels)
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def make_ground_truth(seed: int, num_images: int = 12, classes: int = 3, side: int = 160) -> dict[str, Any]:
    """Random objects of all sizes, including crowds, and images without objects; ids neither sorted nor contiguous."""
    random, annotations = np.random.default_rng(seed), []
    ids = [int(i) for i in random.permutation(np.arange(3, 3 + 2 * num_images, 2))]
    for image_id in ids[2:]:
        for _ in range(random.integers(1, 7)):
            box = _box(random, side)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": int(random.integers(1, classes + 1)),
                    "bbox": box,
                    "area": box[2] * box[3] * 0.9,
                    "iscrowd": int(random.random() < 0.1),
                    "segmentation": _rle(box, side),
                }
            )
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": side, "height": side} for i in ids],
        "annotations": annotations,
        "categories": [{"id": k, "name": f"class {k}"} for k in range(1, classes + 1)],
    }


def make_detections(
    ground_truth: dict[str, Any], seed: int, jitter: float = 0.08, recall: float = 0.8
) -> list[dict[str, Any]]:
    """Detections: most objects, shifted and rescaled by about ``jitter``, some duplicated, some of a wrong class, and false positives."""
    random, results = np.random.default_rng(seed), []
    side = ground_truth["images"][0]["width"]
    classes = len(ground_truth["categories"])
    for annotation in ground_truth["annotations"] * 2:
        if random.random() > recall * 0.7:
            continue
        box = np.array(annotation["bbox"])
        box[:2] += random.normal(0, jitter, 2) * box[2:]
        box[2:] *= np.exp(random.normal(0, jitter, 2))
        box = np.clip(box, 0, side - 1)
        box[2:] = np.maximum(np.minimum(box[2:], side - box[:2]), 3)
        label = annotation["category_id"] if random.random() < 0.85 else int(random.integers(1, classes + 1))
        results.append(_result(annotation["image_id"], label, box.tolist(), float(random.uniform(0.2, 1)), side))
    for image in ground_truth["images"]:
        for _ in range(random.integers(0, 3)):
            label = int(random.integers(1, classes + 1))
            results.append(_result(image["id"], label, _box(random, side), float(random.uniform(0, 0.7)), side))
    return results


def _result(image_id: int, label: int, box: list[float], score: float, side: int) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": label, "bbox": box, "score": score, "segmentation": _rle(box, side)}


@pytest.fixture
def random_ground_truth():
    return make_ground_truth


@pytest.fixture
def random_detections():
    return make_detections
