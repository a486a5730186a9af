"""The pictures of a report: objects that were gained or lost, enlarged and side by side, and whole pictures before and
after.

They are chosen by rules that the page states, wins and losses by the same rule.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from featlift.evaluation.average_precision import Detection, GroundTruth, match_detections
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
    """What the pictures of a report are made from."""

    ground_truth: GroundTruth
    """In COCO's form."""
    load_image: Callable[[int], Tensor]
    """Image id → ``[3, H, W]`` in 0…1."""


@dataclass(frozen=True)
class ImagePair:
    """One object or picture as the first run saw it and as the second did."""

    first: AnnotatedImage
    second: AnnotatedImage
    caption: str


@dataclass(frozen=True)
class ComparisonExamples:
    """A comparison and all that is needed to draw it."""

    dataset: ReportDataset
    comparison: Comparison
    runs: tuple[RunRecord, RunRecord]

    def object_pairs(self, outcome: Outcome, max_count: int) -> list[ImagePair]:
        """The ``max_count`` objects with this outcome that were detected with the highest score, enlarged."""
        fates = sorted(self.comparison.object_changes.with_outcome(outcome), key=_best_score, reverse=True)
        return [self._object_pair(fate) for fate in fates[:max_count]]

    def image_pairs(self, max_count: int) -> list[ImagePair]:
        """The ``max_count`` pictures in which the most objects were gained or lost."""
        changed = Counter(
            fate.image_id for fate in self.comparison.object_changes.outcomes if fate.outcome in ("gained", "lost")
        )
        return [self._image_pair(image_id) for image_id, _ in changed.most_common(max_count)]

    def image_boxes(self, image_id: int) -> tuple[list[StyledBox], list[StyledBox]]:
        """What to draw on a picture for the first and for the second run, each at its threshold."""
        first, second = (
            build_styled_boxes(self.dataset.ground_truth, run.detections, image_id, threshold, style)
            for run, threshold, style in zip(
                self.runs, self.comparison.object_changes.score_thresholds, ("first", "second"), strict=True
            )
        )
        return first, second

    def _object_pair(self, fate: ObjectOutcome) -> ImagePair:
        image = self.dataset.load_image(fate.image_id)
        part = crop_around(fate.box, (image.shape[1], image.shape[2]))
        first, second = (annotate_image(image, outlines, part) for outlines in self.image_boxes(fate.image_id))
        width, height = fate.box[2:]
        before, after = (f"IoU {iou:.2f}" if iou else "not found" for iou in fate.ious)
        what = f"{fate.category}, {width:.0f} × {height:.0f} px"
        return ImagePair(first, second, f"{what} · {before} → {after} · picture {fate.image_id}")

    def _image_pair(self, image_id: int) -> ImagePair:
        image, outcomes = self.dataset.load_image(image_id), Counter[str]()
        outcomes.update(fate.outcome for fate in self.comparison.object_changes.outcomes if fate.image_id == image_id)
        marks = [
            make_styled_box(fate.box, fate.outcome)
            for fate in self.comparison.object_changes.outcomes
            if fate.image_id == image_id and fate.outcome in ("gained", "lost")
        ]
        first, second = (annotate_image(image, outlines + marks) for outlines in self.image_boxes(image_id))
        return ImagePair(first, second, f"picture {image_id}: {outcomes['gained']} gained, {outcomes['lost']} lost")


def _best_score(fate: ObjectOutcome) -> float:
    return max(detection["score"] for detection in (fate.first_detection, fate.second_detection) if detection)


def build_run_examples(dataset: ReportDataset, run: RunRecord, max_count: int) -> list[AnnotatedImage]:
    """The ``max_count`` pictures with the most objects: what ``run`` found, missed and saw in nothing, at its best-F1 threshold.

    The colors of EFPN's Fig. 8: "found" are detections, "missed" objects, "false" detections.
    """
    truth = dataset.ground_truth
    marks, threshold = classify_detections(truth, run.detections)
    objects = Counter(annotation["image_id"] for annotation in truth["annotations"])
    said = f"detections with a score of at least {threshold:.2f}" if threshold <= 1 else "nothing was found anywhere"
    return [
        annotate_image(dataset.load_image(image_id), marks.get(image_id, []), caption=f"picture {image_id}, {said}")
        for image_id, _ in objects.most_common(max_count)
    ]


def classify_detections(
    ground_truth: GroundTruth, detections: Sequence[Detection]
) -> tuple[dict[int, list[StyledBox]], float]:
    """For each picture the missed objects, then the detections that count, found and false, with class and score.

    What counts is what has at least the score with the best F1, the second thing returned; above 1 nothing was found anywhere.
    """
    by_class = match_detections(ground_truth, detections)
    threshold = best_f1_threshold(by_class)
    names = {category["id"]: category["name"] for category in ground_truth["categories"]}
    found: set[int] = set()
    judged: dict[int, str] = {}
    for one in by_class:
        sure = one.score >= threshold
        found |= set(one.annotation_id[sure & one.true_positive[0]].tolist())
        judged |= dict.fromkeys(one.detection_index[sure & one.true_positive[0]].tolist(), "found")
        judged |= dict.fromkeys(one.detection_index[sure & one.false_positive[0]].tolist(), "false")
    marks: dict[int, list[StyledBox]] = {}
    for annotation in ground_truth["annotations"]:
        if annotation["id"] not in found and not annotation.get("iscrowd"):
            marks.setdefault(annotation["image_id"], []).append(make_styled_box(annotation["bbox"], "missed"))
    for place, style in judged.items():
        one = detections[place]
        label = f"{names[one['category_id']]} {100 * one['score']:.0f}"
        marks.setdefault(one["image_id"], []).append(make_styled_box(one["bbox"], style, label))
    return marks, threshold
