"""COCO's average precision and recall for boxes and masks, with one more bin of size for tiny objects.

The protocol is COCO's (Lin et al., "Microsoft COCO", 2014, and its published evaluation code): IoU 0.50 … 0.95 in steps
of 0.05, 101 recalls, at most 100 detections a picture, crowds neither found nor missed. hotcoco computes it; no other
file of this library knows it.

Ground truth is a dict in COCO's form (``images``, ``annotations``, ``categories``), detections a list of COCO results
(``image_id``, ``category_id``, ``bbox`` xywh in px, ``score``, and for masks ``segmentation`` as RLE). Masks are ranked by
``mask_score`` where a detection has one, as CenterMask's do (Lee and Park, CVPR 2020, Sec. 3.3); boxes always by ``score``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

GroundTruth = Mapping[str, Any]
Detection = dict[str, Any]
Kind = Literal["boxes", "masks"]
Metrics = dict[str, Any]

SIZES: dict[str, tuple[float, float]] = {
    "all": (0.0, 1e10),
    "tiny": (0.0, 16.0**2),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
"""Areas in px² (of the annotation's ``area``: its mask's where there is one). *tiny lies inside small*, which keeps
COCO's [0, 32²].
"""

IOUS = np.linspace(0.5, 0.95, 10)
KINDS: dict[Kind, str] = {"boxes": "bbox", "masks": "segm"}


def average_precision(
    truth: GroundTruth, detections: Sequence[Detection], kind: Kind = "boxes", most: int = 100
) -> Metrics:
    """``ap ap50 ap75 ap_tiny ap_small ap_medium ap_large``, the same ``ar…`` without thresholds, and ``per_class``
    (class name → AP).

    Each is in 0…1, or None where the ground truth has no object of that size or class (COCO's code says −1 there).
    ``ar`` is COCO's AR@``most``; ``most`` is how many detections of a picture and class count, best first.

    Raises:
        ValueError: if a detection names a picture or a class that the ground truth lacks, or ``kind`` cannot be
            measured on it.
    """
    found = _evaluated(truth, detections, kind, most, SIZES)
    found.accumulate()
    precision, recall = np.asarray(found.eval["precision"])[..., -1], np.asarray(found.eval["recall"])[..., -1]
    metrics: Metrics = {
        "ap": _mean(precision[..., 0]),
        "ap50": _mean(precision[0, ..., 0]),
        "ap75": _mean(precision[5, ..., 0]),
    }
    sizes = list(enumerate(SIZES))[1:]
    metrics |= {f"ap_{size}": _mean(precision[..., i]) for i, size in sizes}
    metrics |= {"ar": _mean(recall[..., 0])} | {f"ar_{size}": _mean(recall[..., i]) for i, size in sizes}
    metrics["per_class"] = {name: _mean(precision[:, :, k, 0]) for k, name in enumerate(_classes(truth).values())}
    return metrics


def at_half(truth: GroundTruth, detections: Sequence[Detection], kind: Kind = "boxes", most: int = 100) -> Metrics:
    """``ap50 ap50_tiny ap50_small ap50_medium ap50_large`` and the same ``ar50…``: precision and recall at IoU 0.5 alone, by size.

    Numbers as in `average_precision`, which raises as this does. It is what papers on traffic signs report (EFPN, Table VIII).
    """
    found = _evaluated(truth, detections, kind, most, SIZES)
    found.accumulate()
    precision, recall = np.asarray(found.eval["precision"])[0, ..., -1], np.asarray(found.eval["recall"])[0, ..., -1]
    endings = ["" if size == "all" else f"_{size}" for size in SIZES]
    numbers = {f"ap50{ending}": _mean(precision[..., i]) for i, ending in enumerate(endings)}
    return numbers | {f"ar50{ending}": _mean(recall[..., i]) for i, ending in enumerate(endings)}


@dataclass(frozen=True)
class ClassMatches:
    """The detections of one class, pictures in the order of their ids and best first in each, as COCO's greedy matching
    left them.
    """

    category_id: int
    image: NDArray[np.int64]
    """[n] position of the picture in the sorted ids."""
    detection: NDArray[np.int64]
    """[n] position in the list of detections."""
    score: NDArray[np.float64]
    """[n]"""
    hit: NDArray[np.bool_]
    """[10, n] true where the detection found an object that counts, for each of the IoUs."""
    miss: NDArray[np.bool_]
    """[10, n] true where it is a false alarm. What is neither (a crowd, another size) does not count."""
    annotation: NDArray[np.int64]
    """[n] id of the annotation found at IoU 0.5, −1 where none was or it does not count."""
    objects: NDArray[np.int64]
    """[pictures] objects that count in each picture."""


def matches(
    truth: GroundTruth, detections: Sequence[Detection], kind: Kind = "boxes", size: str = "all", most: int = 100
) -> list[ClassMatches]:
    """Who found what, for each class in the order of their ids, at the ten IoUs; ``size`` is a name of `SIZES`.

    Raises:
        ValueError: as `average_precision`.
    """
    entries = _evaluated(truth, detections, kind, most, {size: SIZES[size]}).eval_imgs
    position = {image_id: i for i, image_id in enumerate(sorted(image["id"] for image in truth["images"]))}
    by_class: dict[int, list[dict[str, Any]]] = {category: [] for category in _classes(truth)}
    for entry in filter(None, entries):
        by_class[entry["category_id"]].append(entry)
    return [_class_matches(category, of_class, position) for category, of_class in by_class.items()]


def _class_matches(category: int, entries: list[dict[str, Any]], position: dict[int, int]) -> ClassMatches:
    entries = sorted(entries, key=lambda entry: position[entry["image_id"]])
    objects = np.zeros(len(position), np.int64)
    for entry in entries:
        objects[position[entry["image_id"]]] = len(entry["gtIgnore"]) - sum(entry["gtIgnore"])
    entries = [entry for entry in entries if entry["dtIds"]]
    if not entries:
        none, never = np.zeros(0, np.int64), np.zeros((len(IOUS), 0), bool)
        return ClassMatches(category, none, none, np.zeros(0), never, never, none, objects)
    matched = np.concatenate([np.asarray(entry["dtMatched"], bool) for entry in entries], axis=1)
    counts = ~np.concatenate([np.asarray(entry["dtIgnore"], bool) for entry in entries], axis=1)
    annotation = np.concatenate([np.asarray(entry["dtMatches"][0], np.int64) for entry in entries])
    return ClassMatches(
        category,
        np.concatenate([np.full(len(entry["dtIds"]), position[entry["image_id"]], np.int64) for entry in entries]),
        np.concatenate([np.asarray(entry["dtIds"], np.int64) - 1 for entry in entries]),
        np.concatenate([np.asarray(entry["dtScores"], np.float64) for entry in entries]),
        matched & counts,
        ~matched & counts,
        np.where((matched & counts)[0], annotation, -1),
        objects,
    )


def encode(mask: NDArray[np.uint8]) -> dict[str, Any]:
    """``mask [H, W]`` of 0 and 1 as COCO's compressed run lengths: ``{"size": [H, W], "counts": str}``, ready for
    JSON.
    """
    import hotcoco

    encoded = hotcoco.mask.encode(np.asfortranarray(mask))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode("ascii")}


def decode(segmentation: Any, size: tuple[int, int]) -> NDArray[np.uint8]:
    """COCO's segmentation (polygons or run lengths) as a mask ``[H, W]`` of 0 and 1, for a picture of ``size`` (H,
    W).
    """
    import hotcoco

    encoded = hotcoco.mask.fr_py_objects(segmentation, *size)
    return hotcoco.mask.decode(hotcoco.mask.merge(encoded) if isinstance(encoded, list) else encoded)


def overlap(truth: GroundTruth, annotation: Mapping[str, Any], detection: Detection, kind: Kind = "boxes") -> float:
    """IoU in 0…1 of an annotation of ``truth`` with a detection on the same picture, between their boxes or their
    masks.
    """
    import hotcoco

    if kind == "boxes":
        return float(hotcoco.mask.bbox_iou([detection["bbox"]], [annotation["bbox"]], [False])[0][0])
    height, width = next((i["height"], i["width"]) for i in truth["images"] if i["id"] == annotation["image_id"])
    mask = encode(decode(annotation["segmentation"], (height, width)))
    return float(hotcoco.mask.iou([detection["segmentation"]], [mask], [False])[0][0])


def has_masks(truth: GroundTruth) -> bool:
    """Whether any annotation has a segmentation (many data sets of boxes carry an empty list there)."""
    return any(annotation.get("segmentation") for annotation in truth["annotations"])


def _evaluated(
    truth: GroundTruth, detections: Sequence[Detection], kind: Kind, most: int, sizes: Mapping[str, tuple[float, float]]
) -> Any:
    import hotcoco

    _check(truth, detections, kind)
    results = [_as_measured(detection, kind) for detection in detections]
    objects = hotcoco.COCO(dict(truth))
    evaluator = hotcoco.COCOeval(objects, objects.load_res(results), KINDS[kind])
    evaluator.params.area_rng = [list(sizes[name]) for name in sizes]
    evaluator.params.area_rng_lbl = list(sizes)
    evaluator.params.max_dets = [most]
    evaluator.evaluate()
    return evaluator


def _as_measured(detection: Detection, kind: Kind) -> Detection:
    """A detection without what belongs to the other kind: with a box beside it, COCO's code would take a mask's area from the box."""
    unused = ("mask_score", "segmentation" if kind == "boxes" else "bbox")
    score = detection.get("mask_score", detection["score"]) if kind == "masks" else detection["score"]
    return {key: value for key, value in detection.items() if key not in unused} | {"score": score}


def _check(truth: GroundTruth, detections: Sequence[Detection], kind: Kind) -> None:
    if kind not in KINDS:
        raise ValueError(f"Unknown kind '{kind}'; choose one of {', '.join(KINDS)}.")
    if kind == "masks" and truth["annotations"] and not has_masks(truth):
        raise ValueError(
            "The ground truth has no masks (every 'segmentation' is empty or missing); measure kind='boxes'."
        )
    pictures, classes = {image["id"] for image in truth["images"]}, _classes(truth)
    for i, detection in enumerate(detections):
        if detection["image_id"] not in pictures:
            raise ValueError(
                f"Detection {i} is on picture {detection['image_id']}, which is not among the {len(pictures)} pictures "
                "of the ground truth. Are they of the same data set and split?"
            )
        if detection["category_id"] not in classes:
            raise ValueError(f"Detection {i} is of class {detection['category_id']}, which {_known(classes)}")
        if kind == "masks" and "segmentation" not in detection:
            raise ValueError(f"Detection {i} has no 'segmentation'; masks need it (or measure kind='boxes').")


def _known(classes: dict[int, str]) -> str:
    first = ", ".join(f"{k} {name}" for k, name in list(classes.items())[:10])
    return (
        f"the ground truth lacks (it has {first}{', …' if len(classes) > 10 else ''}). Detector and data must number "
        "classes alike: 1…K in the order of dataset.classes."
    )


def _classes(truth: GroundTruth) -> dict[int, str]:
    return {
        category["id"]: category["name"]
        for category in sorted(truth["categories"], key=lambda category: category["id"])
    }


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[values > -1]
    return float(known.mean()) if known.size else None
