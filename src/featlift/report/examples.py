"""The pictures of a report: objects that were gained or lost, enlarged and side by side, and whole pictures before and
after.

They are chosen by rules that the page states, wins and losses by the same rule.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from featlift.evaluation.average_precision import Detection, GroundTruth, matches
from featlift.evaluation.comparison import Comparison
from featlift.evaluation.object_changes import Fate, Outcome, best_f1
from featlift.report.annotated_crops import Outline, View, outline, outlines_of, view, window
from featlift.report.records import RunRecord


@dataclass(frozen=True)
class Evidence:
    """What the pictures of a report are made from."""

    truth: GroundTruth
    """In COCO's form."""
    picture: Callable[[int], Tensor]
    """Image id → ``[3, H, W]`` in 0…1."""


@dataclass(frozen=True)
class Pair:
    """One object or picture as the first run saw it and as the second did."""

    first: View
    second: View
    caption: str


@dataclass(frozen=True)
class Scenes:
    """A comparison and all that is needed to draw it."""

    evidence: Evidence
    comparison: Comparison
    runs: tuple[RunRecord, RunRecord]

    def objects(self, outcome: Outcome, most: int) -> list[Pair]:
        """The ``most`` objects with this outcome that were detected with the highest score, enlarged."""
        fates = sorted(self.comparison.gains.of(outcome), key=_score, reverse=True)
        return [self._enlarged(fate) for fate in fates[:most]]

    def wholes(self, most: int) -> list[Pair]:
        """The ``most`` pictures in which the most objects were gained or lost."""
        changed = Counter(fate.image_id for fate in self.comparison.gains.fates if fate.outcome in ("gained", "lost"))
        return [self._whole(image_id) for image_id, _ in changed.most_common(most)]

    def outlines(self, image_id: int) -> tuple[list[Outline], list[Outline]]:
        """What to draw on a picture for the first and for the second run, each at its threshold."""
        first, second = (
            outlines_of(self.evidence.truth, run.detections, image_id, threshold, style)
            for run, threshold, style in zip(
                self.runs, self.comparison.gains.thresholds, ("first", "second"), strict=True
            )
        )
        return first, second

    def _enlarged(self, fate: Fate) -> Pair:
        image = self.evidence.picture(fate.image_id)
        part = window(fate.box, (image.shape[1], image.shape[2]))
        first, second = (view(image, outlines, part) for outlines in self.outlines(fate.image_id))
        width, height = fate.box[2:]
        before, after = (f"IoU {iou:.2f}" if iou else "not found" for iou in fate.iou)
        what = f"{fate.category}, {width:.0f} × {height:.0f} px"
        return Pair(first, second, f"{what} · {before} → {after} · picture {fate.image_id}")

    def _whole(self, image_id: int) -> Pair:
        image, outcomes = self.evidence.picture(image_id), Counter[str]()
        outcomes.update(fate.outcome for fate in self.comparison.gains.fates if fate.image_id == image_id)
        marks = [
            outline(fate.box, fate.outcome)
            for fate in self.comparison.gains.fates
            if fate.image_id == image_id and fate.outcome in ("gained", "lost")
        ]
        first, second = (view(image, outlines + marks) for outlines in self.outlines(image_id))
        return Pair(first, second, f"picture {image_id}: {outcomes['gained']} gained, {outcomes['lost']} lost")


def _score(fate: Fate) -> float:
    return max(detection["score"] for detection in (fate.first, fate.second) if detection)


def single(evidence: Evidence, run: RunRecord, most: int) -> list[View]:
    """The ``most`` pictures with the most objects: what ``run`` found, missed and saw in nothing, at its best-F1 threshold.

    The colours of EFPN's Fig. 8: "found" are detections, "missed" objects, "false" detections.
    """
    truth = evidence.truth
    marks, threshold = verdicts(truth, run.detections)
    objects = Counter(annotation["image_id"] for annotation in truth["annotations"])
    said = f"detections with a score of at least {threshold:.2f}" if threshold <= 1 else "nothing was found anywhere"
    return [
        view(evidence.picture(image_id), marks.get(image_id, []), caption=f"picture {image_id}, {said}")
        for image_id, _ in objects.most_common(most)
    ]


def verdicts(truth: GroundTruth, detections: Sequence[Detection]) -> tuple[dict[int, list[Outline]], float]:
    """For each picture the missed objects, then the detections that count, found and false, with class and score.

    What counts is what has at least the score with the best F1, the second thing returned; above 1 nothing was found anywhere.
    """
    by_class = matches(truth, detections)
    threshold = best_f1(by_class)
    names = {category["id"]: category["name"] for category in truth["categories"]}
    found: set[int] = set()
    judged: dict[int, str] = {}
    for one in by_class:
        sure = one.score >= threshold
        found |= set(one.annotation[sure & one.hit[0]].tolist())
        judged |= dict.fromkeys(one.detection[sure & one.hit[0]].tolist(), "found")
        judged |= dict.fromkeys(one.detection[sure & one.miss[0]].tolist(), "false")
    marks: dict[int, list[Outline]] = {}
    for annotation in truth["annotations"]:
        if annotation["id"] not in found and not annotation.get("iscrowd"):
            marks.setdefault(annotation["image_id"], []).append(outline(annotation["bbox"], "missed"))
    for place, style in judged.items():
        one = detections[place]
        label = f"{names[one['category_id']]} {100 * one['score']:.0f}"
        marks.setdefault(one["image_id"], []).append(outline(one["bbox"], style, label))
    return marks, threshold
