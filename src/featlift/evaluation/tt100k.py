"""Accuracy and recall as Tsinghua-Tencent 100K's own tool counts them (Zhu et al., CVPR 2016; EFPN, Sec. IV-A and Tables II to VI).

Written out because no library does it: pairs are matched by overlap and not by score, sizes are the long side in pixels of the original
picture, and all counts are taken over classes and pictures together. (EFPN's text speaks of areas; its numbers are the tool's.)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TT100KBox = Mapping[str, Any]
"""``image_id``, ``category_id``, ``bbox`` xywh in px of the original picture, and for a detection ``score``."""

TT100K_CLASSES = (
    "i2", "i4", "i5", "il100", "il60", "il80", "io", "ip", "p10", "p11", "p12", "p19", "p23", "p26", "p27", "p3", "p5", "p6", "pg",
    "ph4", "ph4.5", "ph5", "pl100", "pl120", "pl20", "pl30", "pl40", "pl5", "pl50", "pl60", "pl70", "pl80", "pm20", "pm30", "pm55",
    "pn", "pne", "po", "pr40", "w13", "w32", "w55", "w57", "w59", "wo",
)  # fmt: skip
"""The 45 that are measured; signs of all others are trained on but not asked for."""

TT100K_SIZE_RANGES = {"all": (0.0, 400.0), "small": (0.0, 32.0), "medium": (32.0, 96.0), "large": (96.0, 400.0)}
"""Long side of a box in px: from … up to, without the end."""

MIN_IOU = 0.5


@dataclass(frozen=True)
class DetectionCounts:
    """Signs found, detections that count, and signs that count, over all pictures and classes."""

    true_positives: int = 0
    num_detections: int = 0
    num_objects: int = 0

    def __add__(self, other: "DetectionCounts") -> "DetectionCounts":
        return DetectionCounts(
            self.true_positives + other.true_positives,
            self.num_detections + other.num_detections,
            self.num_objects + other.num_objects,
        )

    @property
    def accuracy(self) -> float:
        """The share of detections that are right, in 0…1; 1 if there are none."""
        return self.true_positives / self.num_detections if self.num_detections else 1.0

    @property
    def recall(self) -> float:
        """The share of signs that are found, in 0…1; 1 if there are none."""
        return self.true_positives / self.num_objects if self.num_objects else 1.0

    @property
    def f1(self) -> float:
        """The harmonic mean of both (EFPN, Eq. 9)."""
        both = self.accuracy + self.recall
        return 2 * self.accuracy * self.recall / both if both else 0.0


def count_tt100k_matches(
    ground_truth: Mapping[str, Any],
    detections: Sequence[TT100KBox],
    score_threshold: float = 0.5,
    size_range: tuple[float, float] = TT100K_SIZE_RANGES["all"],
    classes: Sequence[str] = TT100K_CLASSES,
) -> DetectionCounts:
    """What detections with a score of ``score_threshold`` or more make of the signs of a size.

    Signs and detections of other classes are left out first; so a detection on a sign of another class is wrong. Pairs of one class that
    overlap by *more* than one half are made greedily, the largest overlap first; a pair belongs to the size of its sign, a detection
    without partner to its own.

    Args:
        ground_truth: COCO's form, boxes in px of the original pictures.
        detections: COCO results.
        score_threshold: the smallest score that counts.
        size_range: long sides in px, from … up to (without): one of :data:`TT100K_SIZE_RANGES`.
        classes: those that are measured.
    """
    asked = {c["id"] for c in ground_truth["categories"] if c["name"] in classes}
    signs = _group_by_image([a for a in ground_truth["annotations"] if a["category_id"] in asked])
    said = _group_by_image([d for d in detections if d["category_id"] in asked and d["score"] >= score_threshold])
    pictures = dict.fromkeys([*signs, *said])
    return sum((_count_image(signs.get(i, []), said.get(i, []), size_range) for i in pictures), DetectionCounts())


def accuracy_recall_curve(
    ground_truth: Mapping[str, Any],
    detections: Sequence[TT100KBox],
    score_thresholds: Sequence[float] = tuple(i / 100 for i in range(1, 100)),
    classes: Sequence[str] = TT100K_CLASSES,
) -> dict[str, list[tuple[float, DetectionCounts]]]:
    """For each of :data:`TT100K_SIZE_RANGES`, (limit, count) at every limit: the tool's accuracy-recall curves."""
    return {
        name: [
            (limit, count_tt100k_matches(ground_truth, detections, limit, sizes, classes)) for limit in score_thresholds
        ]
        for name, sizes in TT100K_SIZE_RANGES.items()
    }


def filter_classes(
    ground_truth: Mapping[str, Any], detections: Sequence[TT100KBox], classes: Sequence[str] = TT100K_CLASSES
) -> tuple[dict[str, Any], list[Any]]:
    """Ground truth and detections of ``classes`` alone: what average precision over the 45 is measured on (EFPN, Table VIII)."""
    categories = [category for category in ground_truth["categories"] if category["name"] in classes]
    asked = {category["id"] for category in categories}
    annotations = [a for a in ground_truth["annotations"] if a["category_id"] in asked]
    kept = [one for one in detections if one["category_id"] in asked]
    return {**ground_truth, "categories": categories, "annotations": annotations}, kept


def best_accuracy_recall_threshold(points: Sequence[tuple[float, DetectionCounts]]) -> float:
    """The limit with the largest F1, the lowest of equals. Choose it on held-out training pictures, never on those that are reported.

    Raises:
        ValueError: if there are no points.
    """
    if not points:
        raise ValueError("There are no points to choose from; give curve(...)['all'].")
    return max(points, key=lambda point: (point[1].f1, -point[0]))[0]


def _count_image(
    signs: Sequence[TT100KBox], detections: Sequence[TT100KBox], size_range: tuple[float, float]
) -> DetectionCounts:
    pairs = _match_boxes(signs, detections)
    taken = set(pairs.values())
    right = sum(_is_in_size_range(signs[sign], size_range) for sign in pairs.values())
    wrong = sum(_is_in_size_range(one, size_range) for i, one in enumerate(detections) if i not in pairs)
    missed = sum(_is_in_size_range(one, size_range) for i, one in enumerate(signs) if i not in taken)
    return DetectionCounts(right, right + wrong, right + missed)


def _match_boxes(signs: Sequence[TT100KBox], detections: Sequence[TT100KBox]) -> dict[int, int]:
    """Which detection belongs to which sign."""
    near = [
        (overlap, i, j)
        for i, one in enumerate(detections)
        for j, sign in enumerate(signs)
        if one["category_id"] == sign["category_id"] and (overlap := _box_iou(one["bbox"], sign["bbox"])) > MIN_IOU
    ]
    pairs: dict[int, int] = {}
    for _, i, j in sorted(near, key=lambda pair: -pair[0]):
        if i not in pairs and j not in pairs.values():
            pairs[i] = j
    return pairs


def _group_by_image(boxes: Sequence[TT100KBox]) -> dict[int, list[TT100KBox]]:
    found: dict[int, list[TT100KBox]] = {}
    for box in boxes:
        found.setdefault(box["image_id"], []).append(box)
    return found


def _is_in_size_range(box: TT100KBox, size_range: tuple[float, float]) -> bool:
    return size_range[0] <= max(box["bbox"][2:]) < size_range[1]


def _box_iou(a: Sequence[float], b: Sequence[float]) -> float:
    """IoU of two boxes xywh."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared) if shared else 0.0
