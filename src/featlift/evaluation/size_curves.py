"""AP and AR of objects by their size, in finer steps than COCO's small, medium and large (EFPN, Fig. 1b)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from featlift.evaluation.coco_metrics import Detection, GroundTruth, IoUType, run_coco_eval

SIZE_EDGES = (0.0, 8.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0, 256.0, 1e5)
"""Edges of the ranges of √area in px; COCO's limits 32 and 96 are among them."""


@dataclass(frozen=True)
class SizeRange:
    """AP and AR (IoU 0.5 … 0.95, in 0…1) of the objects with √area from ``low`` to ``high`` px; None without objects."""

    low: float
    high: float
    num_objects: int
    ap: float | None
    ar: float | None


def metrics_by_size(
    ground_truth: GroundTruth,
    detections: Sequence[Detection],
    edges: Sequence[float] = SIZE_EDGES,
    iou_type: IoUType = "boxes",
    max_detections: int = 100,
) -> list[SizeRange]:
    """Compute AP and AR for each range between two ``edges`` of √area in px, by COCO's protocol for sizes.

    Detections of another size are neither right nor wrong, as for COCO's AP of small objects.

    Raises:
        ValueError: If ``edges`` do not rise, or as `coco_metrics`.
    """
    if len(edges) < 2 or any(low >= high for low, high in pairwise(edges)):
        raise ValueError(
            f"The edges of the sizes are {', '.join(map(str, edges))}; give at least two rising numbers of px."
        )
    ranges = list(pairwise(edges))
    areas = {str(number): (low**2, high**2) for number, (low, high) in enumerate(ranges)}
    evaluator = run_coco_eval(ground_truth, detections, iou_type, max_detections, areas)
    evaluator.accumulate()
    precision, recall = (np.asarray(evaluator.eval[name])[..., -1] for name in ("precision", "recall"))
    sizes = np.sqrt([a["area"] for a in ground_truth["annotations"] if not a.get("iscrowd")])
    return [
        SizeRange(
            low, high, int(((sizes >= low) & (sizes <= high)).sum()), _mean(precision[..., i]), _mean(recall[..., i])
        )
        for i, (low, high) in enumerate(ranges)
    ]


def _mean(values: np.ndarray) -> float | None:
    valid = values[values > -1]
    return float(valid.mean()) if valid.size else None
