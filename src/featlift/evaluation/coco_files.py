"""Detections as files that COCO's tools read: a list of results, and a full COCO file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from featlift.checkpoints.json_io import write_json

RESULT_KEYS = ("image_id", "category_id", "bbox", "segmentation", "score")


def write_coco_results(path: str | Path, detections: Sequence[Mapping[str, Any]]) -> Path:
    """Write ``detections`` as a list of COCO results, which ``COCO(ground_truth).loadRes(path)`` and COCO's server read."""
    return write_json(path, [{key: d[key] for key in RESULT_KEYS if key in d} for d in detections])


def write_coco_file(
    path: str | Path,
    images: Sequence[Mapping[str, Any]],
    categories: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    **other: Any,
) -> Path:
    """Write ``detections`` with their images and categories as a COCO file, which ``COCO(path)`` opens; ``other`` lists are added."""
    content = {"images": list(images), "categories": list(categories), "annotations": to_annotations(detections)}
    return write_json(path, content | other)


def to_annotations(detections: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Convert COCO results to COCO annotations with ids 1…N, area in px² (of the mask if there is one) and ``iscrowd`` 0."""
    return [
        {"id": number, **detection, "area": _area(detection), "iscrowd": 0}
        for number, detection in enumerate(detections, start=1)
    ]


def _area(detection: Mapping[str, Any]) -> float:
    if "segmentation" in detection:
        import hotcoco.mask

        return float(hotcoco.mask.area(detection["segmentation"]))
    return detection["bbox"][2] * detection["bbox"][3]
