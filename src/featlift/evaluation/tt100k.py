"""Accuracy and recall as in the official tool of Tsinghua-Tencent 100K (Zhu et al., CVPR 2016; EFPN, Sec. IV-A and Tables II to VI).

Implemented here because no library provides it: boxes are matched by IoU, not by score, sizes are the long side in pixels of the
original image, and counts are pooled over classes and images. (EFPN's text refers to areas; its numbers are those of the tool.)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featlift.evaluation.iou import box_iou_xywh

TT100KBox = Mapping[str, Any]
"""``image_id``, ``category_id``, ``bbox`` xywh in px of the original image, and for a detection ``score``."""

TT100K_CLASSES = (
    "i2", "i4", "i5", "il100", "il60", "il80", "io", "ip", "p10", "p11", "p12", "p19", "p23", "p26", "p27", "p3", "p5", "p6", "pg",
    "ph4", "ph4.5", "ph5", "pl100", "pl120", "pl20", "pl30", "pl40", "pl5", "pl50", "pl60", "pl70", "pl80", "pm20", "pm30", "pm55",
    "pn", "pne", "po", "pr40", "w13", "w32", "w55", "w57", "w59", "wo",
)  # fmt: skip
"""The 45 classes that are evaluated; the others are used in training only."""

TT100K_SIZE_RANGES = {"all": (0.0, 400.0), "small": (0.0, 32.0), "medium": (32.0, 96.0), "large": (96.0, 400.0)}
"""Long side of a box in px: half-open intervals, upper bound excluded."""

MIN_IOU = 0.5


@dataclass(frozen=True)
class DetectionCounts:
    """Numbers of true positives, detections and signs in a size range, over all images and classes."""

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
        """Precision: the fraction of detections that are correct, in 0…1; 1 if there are none."""
        return self.true_positives / self.num_detections if self.num_detections else 1.0

    @property
    def recall(self) -> float:
        """The fraction of signs that are detected, in 0…1; 1 if there are none."""
        return self.true_positives / self.num_objects if self.num_objects else 1.0

    @property
    def f1(self) -> float:
        """The harmonic mean of accuracy and recall (EFPN, Eq. (9))."""
        total = self.accuracy + self.recall
        return 2 * self.accuracy * self.recall / total if total else 0.0


def count_tt100k_matches(
    ground_truth: Mapping[str, Any],
    detections: Sequence[TT100KBox],
    score_threshold: float = 0.5,
    size_range: tuple[float, float] = TT100K_SIZE_RANGES["all"],
    classes: Sequence[str] = TT100K_CLASSES,
) -> DetectionCounts:
    """Match detections with a score of at least ``score_threshold`` to signs, and count those of a size range.

    Signs and detections of other classes are removed first, so a detection on a sign of another class is a false positive. Pairs of the
    same class with an IoU *above* 0.5 are matched greedily, largest IoU first. A pair has the size of its sign, an unmatched detection its
    own.

    Args:
        ground_truth: Ground truth in COCO format, boxes in px of the original images.
        detections: COCO results.
        score_threshold: Minimum score of a detection.
        size_range: Range of the long side in px, upper bound excluded; see :data:`TT100K_SIZE_RANGES`.
        classes: Names of the classes that are evaluated.
    """
    category_ids = {c["id"] for c in ground_truth["categories"] if c["name"] in classes}
    signs = _group_by_image([a for a in ground_truth["annotations"] if a["category_id"] in category_ids])
    detected = _group_by_image(
        [d for d in detections if d["category_id"] in category_ids and d["score"] >= score_threshold]
    )
    image_ids = dict.fromkeys([*signs, *detected])
    return sum((_count_image(signs.get(i, []), detected.get(i, []), size_range) for i in image_ids), DetectionCounts())


def accuracy_recall_curve(
    ground_truth: Mapping[str, Any],
    detections: Sequence[TT100KBox],
    score_thresholds: Sequence[float] = tuple(i / 100 for i in range(1, 100)),
    classes: Sequence[str] = TT100K_CLASSES,
) -> dict[str, list[tuple[float, DetectionCounts]]]:
    """Compute the tool's accuracy-recall curves: for each of :data:`TT100K_SIZE_RANGES`, a list of (score threshold, counts)."""
    return {
        name: [
            (threshold, count_tt100k_matches(ground_truth, detections, threshold, size_range, classes))
            for threshold in score_thresholds
        ]
        for name, size_range in TT100K_SIZE_RANGES.items()
    }


def filter_classes(
    ground_truth: Mapping[str, Any], detections: Sequence[TT100KBox], classes: Sequence[str] = TT100K_CLASSES
) -> tuple[dict[str, Any], list[Any]]:
    """Return ground truth and detections of ``classes`` only, for AP over the 45 classes (EFPN, Table VIII)."""
    categories = [category for category in ground_truth["categories"] if category["name"] in classes]
    category_ids = {category["id"] for category in categories}
    annotations = [a for a in ground_truth["annotations"] if a["category_id"] in category_ids]
    detections = [d for d in detections if d["category_id"] in category_ids]
    return {**ground_truth, "categories": categories, "annotations": annotations}, detections


def best_accuracy_recall_threshold(points: Sequence[tuple[float, DetectionCounts]]) -> float:
    """Return the score threshold with the largest F1; ties: the lowest. Use held-out training images, never the reported test set.

    Raises:
        ValueError: If there are no points.
    """
    if not points:
        raise ValueError("There are no points to choose from; give accuracy_recall_curve(...)['all'].")
    return max(points, key=lambda point: (point[1].f1, -point[0]))[0]


def _count_image(
    signs: Sequence[TT100KBox], detections: Sequence[TT100KBox], size_range: tuple[float, float]
) -> DetectionCounts:
    pairs = _match_boxes(signs, detections)
    matched_signs = set(pairs.values())
    tp = sum(_is_in_size_range(signs[sign], size_range) for sign in pairs.values())
    fp = sum(_is_in_size_range(detection, size_range) for i, detection in enumerate(detections) if i not in pairs)
    fn = sum(_is_in_size_range(sign, size_range) for i, sign in enumerate(signs) if i not in matched_signs)
    return DetectionCounts(tp, tp + fp, tp + fn)


def _match_boxes(signs: Sequence[TT100KBox], detections: Sequence[TT100KBox]) -> dict[int, int]:
    """Map the index of each matched detection to that of its sign."""
    candidates = [
        (iou, i, j)
        for i, detection in enumerate(detections)
        for j, sign in enumerate(signs)
        if detection["category_id"] == sign["category_id"]
        and (iou := box_iou_xywh(detection["bbox"], sign["bbox"])) > MIN_IOU
    ]
    pairs: dict[int, int] = {}
    for _, i, j in sorted(candidates, key=lambda candidate: -candidate[0]):
        if i not in pairs and j not in pairs.values():
            pairs[i] = j
    return pairs


def _group_by_image(boxes: Sequence[TT100KBox]) -> dict[int, list[TT100KBox]]:
    groups: dict[int, list[TT100KBox]] = {}
    for box in boxes:
        groups.setdefault(box["image_id"], []).append(box)
    return groups


def _is_in_size_range(box: TT100KBox, size_range: tuple[float, float]) -> bool:
    return size_range[0] <= max(box["bbox"][2:]) < size_range[1]
