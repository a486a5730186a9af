"""Objects and detections as files that FiftyOne imports, in its format ``FiftyOneImageDetectionDataset``.

A manifest ``data.json`` maps the ids of the images to their files; each field of the samples has a labels file of its own.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from featlift.checkpoints.json_io import write_json

FIFTYONE_MANIFEST = "data.json"
LabelAttributes = Mapping[str, Any]
"""Attributes of an object or detection, which FiftyOne shows and filters by."""


def write_fiftyone_manifest(folder: Path, files: Mapping[int, str | Path]) -> Path:
    """Write ``data.json`` of the image ``files`` by image id; paths are absolute or relative to ``folder``."""
    return write_json(folder / FIFTYONE_MANIFEST, {str(image_id): str(path) for image_id, path in files.items()})


def write_fiftyone_labels(
    path: Path, ground_truth: Mapping[str, Any], labels: Iterable[tuple[Mapping[str, Any], LabelAttributes]]
) -> Path:
    """Write ``labels``, objects or COCO results with their attributes, as a labels file with an entry for every image.

    Args:
        path: JSON file.
        ground_truth: COCO ground truth with the images and categories of ``labels``.
        labels: Pairs of a COCO annotation or result (``bbox`` xywh in px) and its attributes.
    """
    sizes = {image["id"]: (image["width"], image["height"]) for image in ground_truth["images"]}
    names = {category["id"]: category["name"] for category in ground_truth["categories"]}
    by_image: dict[str, list[dict[str, Any]]] = {str(image_id): [] for image_id in sizes}
    for label, attributes in labels:
        width, height = sizes[label["image_id"]]
        left, top, box_width, box_height = label["bbox"]
        entry = {
            "label": names[label["category_id"]],
            "bounding_box": [left / width, top / height, box_width / width, box_height / height],
            "attributes": dict(attributes),
        }
        if "score" in label:
            entry["confidence"] = label["score"]
        by_image[str(label["image_id"])].append(entry)
    return write_json(path, {"classes": list(names.values()), "labels": by_image})
