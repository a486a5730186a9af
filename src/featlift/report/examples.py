"""Example images of a report: enlarged objects that were gained or lost, and whole images before and after.

The page states the selection rule, which is the same for gains and losses.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from featlift.evaluation.coco_metrics import Detection, GroundTruth, match_detections
from featlift.evaluation.comparison import Comparison
from featlift.evaluation.object_changes import ObjectOutcome, Outcome, best_f1_threshold
from featlift.report.annotated_crops import (
    AnnotatedImage,
    StyledBox,
    annotate_image,
    build_styled_boxes,
    crop_around,
    make_styled_box,
)
from featlift.report.records import RunRecord


@dataclass(frozen=True)
class ReportDataset:
    """Ground truth and images for the examples of a report."""

    ground_truth: GroundTruth
    """COCO format."""
    load_image: Callable[[int], Tensor]
    """Image id → ``[3, H, W]`` in 0…1."""


@dataclass(frozen=True)
class ImagePair:
    """An object or an image with the detections of the first and of the second run."""

    first: AnnotatedImage
    second: AnnotatedImage
    caption: str


@dataclass(frozen=True)
class ComparisonExamples:
    """A comparison of two runs with the data needed to draw its examples."""

    dataset: ReportDataset
    comparison: Comparison
    runs: tuple[RunRecord, RunRecord]

    def object_pairs(self, outcome: Outcome, max_count: int) -> list[ImagePair]:
        """Return enlarged crops of the ``max_count`` objects with this outcome, highest detection score first."""
        outcomes = sorted(self.comparison.object_changes.with_outcome(outcome), key=_best_score, reverse=True)
        return [self._object_pair(object_outcome) for object_outcome in outcomes[:max_count]]

    def image_pairs(self, max_count: int) -> list[ImagePair]:
        """Return the ``max_count`` images with the most gained or lost objects."""
        changed = Counter(
            object_outcome.image_id
            for object_outcome in self.comparison.object_changes.outcomes
            if object_outcome.outcome in ("gained", "lost")
        )
        return [self._image_pair(image_id) for image_id, _ in changed.most_common(max_count)]

    def image_boxes(self, image_id: int) -> tuple[list[StyledBox], list[StyledBox]]:
        """Return the boxes of an image for the first and for the second run, each at its score threshold."""
        first, second = (
            build_styled_boxes(self.dataset.ground_truth, run.detections, image_id, threshold, style)
            for run, threshold, style in zip(
                self.runs, self.comparison.object_changes.score_thresholds, ("first", "second"), strict=True
            )
        )
        return first, second

    def _object_pair(self, object_outcome: ObjectOutcome) -> ImagePair:
        image_id = object_outcome.image_id
        image = self.dataset.load_image(image_id)
        crop = crop_around(object_outcome.box, (image.shape[1], image.shape[2]))
        first, second = (annotate_image(image, boxes, crop) for boxes in self.image_boxes(image_id))
        width, height = object_outcome.box[2:]
        before, after = (f"IoU {iou:.2f}" if iou else "not found" for iou in object_outcome.ious)
        label = f"{object_outcome.category}, {width:.0f} × {height:.0f} px"
        return ImagePair(first, second, f"{label} · {before} → {after} · image {image_id}")

    def _image_pair(self, image_id: int) -> ImagePair:
        image, outcomes = self.dataset.load_image(image_id), Counter[str]()
        objects = [
            object_outcome
            for object_outcome in self.comparison.object_changes.outcomes
            if object_outcome.image_id == image_id
        ]
        outcomes.update(object_outcome.outcome for object_outcome in objects)
        marks = [
            make_styled_box(object_outcome.box, object_outcome.outcome)
            for object_outcome in objects
            if object_outcome.outcome in ("gained", "lost")
        ]
        first, second = (annotate_image(image, boxes + marks) for boxes in self.image_boxes(image_id))
        return ImagePair(first, second, f"image {image_id}: {outcomes['gained']} gained, {outcomes['lost']} lost")


def _best_score(object_outcome: ObjectOutcome) -> float:
    detections = (object_outcome.first_detection, object_outcome.second_detection)
    return max(detection["score"] for detection in detections if detection)


def build_run_examples(dataset: ReportDataset, run: RunRecord, max_count: int) -> list[AnnotatedImage]:
    """Return the ``max_count`` images with the most objects and their true positives, missed objects and false positives.

    Detections count from the score threshold of the best F1. Styles as in EFPN, Fig. 8: "found" and "false" detections, "missed" objects.
    """
    truth = dataset.ground_truth
    marks, threshold = classify_detections(truth, run.detections)
    objects = Counter(annotation["image_id"] for annotation in truth["annotations"])
    note = f"detections with a score of at least {threshold:.2f}" if threshold <= 1 else "no detections in any image"
    return [
        annotate_image(dataset.load_image(image_id), marks.get(image_id, []), caption=f"image {image_id}, {note}")
        for image_id, _ in objects.most_common(max_count)
    ]


def classify_detections(
    ground_truth: GroundTruth, detections: Sequence[Detection], score_threshold: float | None = None
) -> tuple[dict[int, list[StyledBox]], float]:
    """Return image id → boxes of missed objects ("missed"), true positives ("found") and false positives ("false"), and the threshold.

    Detections count from ``score_threshold``; None is that of the best F1, and above 1 if no object was found in any image.
    """
    by_class = match_detections(ground_truth, detections)
    threshold = best_f1_threshold(by_class) if score_threshold is None else score_threshold
    names = {category["id"]: category["name"] for category in ground_truth["categories"]}
    found: set[int] = set()
    styles: dict[int, str] = {}
    for matches in by_class:
        confident = matches.score >= threshold
        found |= set(matches.annotation_id[confident & matches.true_positive[0]].tolist())
        styles |= dict.fromkeys(matches.detection_index[confident & matches.true_positive[0]].tolist(), "found")
        styles |= dict.fromkeys(matches.detection_index[confident & matches.false_positive[0]].tolist(), "false")
    marks: dict[int, list[StyledBox]] = {}
    for annotation in ground_truth["annotations"]:
        if annotation["id"] not in found and not annotation.get("iscrowd"):
            marks.setdefault(annotation["image_id"], []).append(make_styled_box(annotation["bbox"], "missed"))
    for index, style in styles.items():
        detection = detections[index]
        label = f"{names[detection['category_id']]} {100 * detection['score']:.0f}"
        marks.setdefault(detection["image_id"], []).append(make_styled_box(detection["bbox"], style, label))
    return marks, threshold
