"""Accuracy and recall as Tsinghua-Tencent 100K's own tool counts them (Zhu et al., CVPR 2016; EFPN, Sec. IV-A and Tables II to VI).

Written out because no library does it: pairs are matched by overlap and not by score, sizes are the long side in pixels of the original
picture, and all counts are taken over classes and pictures together. (EFPN's text speaks of areas; its numbers are the tool's.)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Box = Mapping[str, Any]
"""``image_id``, ``category_id``, ``bbox`` xywh in px of the original picture, and for a detection ``score``."""

CLASSES = (
    "i2", "i4", "i5", "il100", "il60", "il80", "io", "ip", "p10", "p11", "p12", "p19", "p23", "p26", "p27", "p3", "p5", "p6", "pg",
    "ph4", "ph4.5", "ph5", "pl100", "pl120", "pl20", "pl30", "pl40", "pl5", "pl50", "pl60", "pl70", "pl80", "pm20", "pm30", "pm55",
    "pn", "pne", "po", "pr40", "w13", "w32", "w55", "w57", "w59", "wo",
)  # fmt: skip
"""The 45 that are measured; signs of all others are trained on but not asked for."""

SIZES = {"all": (0.0, 400.0), "small": (0.0, 32.0), "medium": (32.0, 96.0), "large": (96.0, 400.0)}
"""Long side of a box in px: from … up to, without the end."""

OVERLAP = 0.5


@dataclass(frozen=True)
class Count:
    """Signs found, detections that count, and signs that count, over all pictures and classes."""

    found: int = 0
    detections: int = 0
    signs: int = 0

    def __add__(self, other: "Count") -> "Count":
        return Count(self.found + other.found, self.detections + other.detections, self.signs + other.signs)

    @property
    def accuracy(self) -> float:
        """The share of detections that are right, in 0…1; 1 if there are none."""
        return self.found / self.detections if self.detections else 1.0

    @property
    def recall(self) -> float:
        """The share of signs that are found, in 0…1; 1 if there are none."""
        return self.found / self.signs if self.signs else 1.0

    @property
    def f1(self) -> float:
        """The harmonic mean of both (EFPN, Eq. 9)."""
        both = self.accuracy + self.recall
        return 2 * self.accuracy * self.recall / both if both else 0.0


def accuracy_recall(
    truth: Mapping[str, Any],
    detections: Sequence[Box],
    limit: float = 0.5,
    sizes: tuple[float, float] = SIZES["all"],
    classes: Sequence[str] = CLASSES,
) -> Count:
    """What detections with a score of ``limit`` or more make of the signs of a size.

    Signs and detections of other classes are left out first; so a detection on a sign of another class is wrong. Pairs of one class that
    overlap by *more* than one half are made greedily, the largest overlap first; a pair belongs to the size of its sign, a detection
    without partner to its own.

    Args:
        truth: COCO's form, boxes in px of the original pictures.
        detections: COCO results.
        limit: the smallest score that counts.
        sizes: long sides in px, from … up to (without): one of :data:`SIZES`.
        classes: those that are measured.
    """
    asked = {c["id"] for c in truth["categories"] if c["name"] in classes}
    signs = _by_picture([a for a in truth["annotations"] if a["category_id"] in asked])
    said = _by_picture([d for d in detections if d["category_id"] in asked and d["score"] >= limit])
    pictures = dict.fromkeys([*signs, *said])
    return sum((_picture(signs.get(i, []), said.get(i, []), sizes) for i in pictures), Count())


def curve(
    truth: Mapping[str, Any],
    detections: Sequence[Box],
    limits: Sequence[float] = tuple(i / 100 for i in range(1, 100)),
    classes: Sequence[str] = CLASSES,
) -> dict[str, list[tuple[float, Count]]]:
    """For each of :data:`SIZES`, (limit, count) at every limit: the tool's accuracy-recall curves."""
    return {
        name: [(limit, accuracy_recall(truth, detections, limit, sizes, classes)) for limit in limits]
        for name, sizes in SIZES.items()
    }


def only(
    truth: Mapping[str, Any], detections: Sequence[Box], classes: Sequence[str] = CLASSES
) -> tuple[dict[str, Any], list[Any]]:
    """Ground truth and detections of ``classes`` alone: what average precision over the 45 is measured on (EFPN, Table VIII)."""
    categories = [category for category in truth["categories"] if category["name"] in classes]
    asked = {category["id"] for category in categories}
    annotations = [a for a in truth["annotations"] if a["category_id"] in asked]
    kept = [one for one in detections if one["category_id"] in asked]
    return {**truth, "categories": categories, "annotations": annotations}, kept


def best_limit(points: Sequence[tuple[float, Count]]) -> float:
    """The limit with the largest F1, the lowest of equals. Choose it on held-out training pictures, never on those that are reported.

    Raises:
        ValueError: if there are no points.
    """
    if not points:
        raise ValueError("There are no points to choose from; give curve(...)['all'].")
    return max(points, key=lambda point: (point[1].f1, -point[0]))[0]


def _picture(signs: Sequence[Box], said: Sequence[Box], sizes: tuple[float, float]) -> Count:
    pairs = _pairs(signs, said)
    taken = set(pairs.values())
    right = sum(_within(signs[sign], sizes) for sign in pairs.values())
    wrong = sum(_within(one, sizes) for i, one in enumerate(said) if i not in pairs)
    missed = sum(_within(one, sizes) for i, one in enumerate(signs) if i not in taken)
    return Count(right, right + wrong, right + missed)


def _pairs(signs: Sequence[Box], said: Sequence[Box]) -> dict[int, int]:
    """Which detection belongs to which sign."""
    near = [
        (overlap, i, j)
        for i, one in enumerate(said)
        for j, sign in enumerate(signs)
        if one["category_id"] == sign["category_id"] and (overlap := _overlap(one["bbox"], sign["bbox"])) > OVERLAP
    ]
    pairs: dict[int, int] = {}
    for _, i, j in sorted(near, key=lambda pair: -pair[0]):
        if i not in pairs and j not in pairs.values():
            pairs[i] = j
    return pairs


def _by_picture(boxes: Sequence[Box]) -> dict[int, list[Box]]:
    found: dict[int, list[Box]] = {}
    for box in boxes:
        found.setdefault(box["image_id"], []).append(box)
    return found


def _within(box: Box, sizes: tuple[float, float]) -> bool:
    return sizes[0] <= max(box["bbox"][2:]) < sizes[1]


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """IoU of two boxes xywh."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared) if shared else 0.0
