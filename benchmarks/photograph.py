"""Photographs with the objects that EFPN's extended level gains and loses: ``python benchmarks/photograph.py``.

Trains the base detector of ``efpn.py gtsdb --start 4`` and EFPN (``ftt``) with one seed. Both count from the score threshold of the base
detector's best F1. ``docs/images/small_objects.png`` shows two of all validation images: first the one with the largest gain (most objects
gained minus lost; ties: the highest score of a gained object), then the one with the largest loss (lost minus gained; ties likewise).
Results: ``benchmarks/results/photograph.json``. Runs can be resumed.
"""

import argparse
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from efpn import scale_case
from efpn_baselines import BASE, CASES, train_detector, train_efpn
from photograph_figure import NUM_CROPS, Photograph, plot_photographs
from run import collect_metadata, write_result
from torch import nn

from featlift.data.config import build_dataset
from featlift.detectors.checkpoint import DETECTOR_FILE
from featlift.evaluation.detection import EvaluationResult, compute_metrics, detect_dataset
from featlift.evaluation.object_changes import ObjectChanges, ObjectOutcome, Outcome, compare_objects
from featlift.papers.efpn.settings import Settings
from featlift.report.annotated_crops import make_styled_box
from featlift.report.examples import ReportDataset, classify_detections
from featlift.runs.evaluate import build_report_dataset

EFPN = "EFPN, ftt"
IMAGE_FILE = Path(__file__).parents[1] / "docs" / "images" / "small_objects.png"
PANEL_NAMES = ("Faster R-CNN with an FPN", "the same with the extended level (EFPN)")


def train_both(settings: Settings, folder: Path, seed: int) -> dict[str, nn.Module]:
    """Train the base detector and EFPN in subfolders of ``folder``; finished runs are loaded."""
    base = train_detector(settings, settings.detector, folder / "start", seed)
    from_base = replace(settings, detector_from=str(folder / "start" / DETECTOR_FILE))
    return {BASE: base.detector, EFPN: train_efpn(from_base, folder / "efpn-ftt", seed).detector}


def pick_image(outcomes: Sequence[ObjectOutcome], wanted: Outcome, opposite: Outcome) -> int:
    """Return the id of the image with the largest number of ``wanted`` minus ``opposite`` outcomes ("gained", "lost")."""
    difference: Counter[int] = Counter()
    best_score: dict[int, float] = defaultdict(float)
    for item in outcomes:
        difference[item.image_id] += (item.outcome == wanted) - (item.outcome == opposite)
        if item.outcome == wanted:
            score = (item.first_detection or item.second_detection or {})["score"]  # the other one is None
            best_score[item.image_id] = max(best_score[item.image_id], score)
    return max(difference, key=lambda image_id: (difference[image_id], best_score[image_id]))


def build_photograph(
    dataset: ReportDataset, results: Mapping[str, EvaluationResult], changes: ObjectChanges, rule: str, image_id: int
) -> Photograph:
    """Collect what the figure shows of an image: all objects, both detectors' detections, the objects that changed most."""
    truth, threshold = dataset.ground_truth, changes.score_thresholds[0]
    objects = [make_styled_box(item.box, "truth") for item in changes.outcomes if item.image_id == image_id]
    marks = [classify_detections(truth, result.detections, threshold)[0] for result in results.values()]
    first, second = ([box for box in mark.get(image_id, []) if box.style != "missed"] for mark in marks)
    changed = [item for item in changes.outcomes if item.image_id == image_id and item.outcome in ("gained", "lost")]
    gained = sum(item.outcome == "gained" for item in changed)
    title = f"{rule}: {gained} gained, {len(changed) - gained} lost (image {image_id})"
    zoomed = [item.box for item in sorted(changed, key=lambda item: -abs(item.iou_change))[:NUM_CROPS]]
    return Photograph(title, dataset.load_image(image_id), (objects + first, objects + second), zoomed)


def build_table(results: Mapping[str, EvaluationResult], changes: ObjectChanges, num_images: int) -> dict[str, Any]:
    """Build the table of AP, and of the objects at the common threshold."""
    count = Counter(item.outcome for item in changes.outcomes)
    rows: list[dict[str, Any]] = []
    for name, only, wrong in zip(results, ("lost", "gained"), changes.false_positives, strict=True):
        metrics = results[name].metrics["boxes"]
        ap = {title: round(100 * metrics[key], 1) for title, key in (("AP", "ap"), ("AP small", "ap_small"))}
        found = count["shifted"] + count["unchanged"] + count[only]
        rows.append({"": name, **ap, "objects found": found, "false positives": wrong})
    rows[1] |= {"objects gained": count["gained"], "objects lost": count["lost"]}
    caption = f"gtsdb_start4: box AP in percent on {num_images} images, 1 seed; {len(changes.outcomes)} objects"
    return {"caption": f"{caption} at IoU 0.5, score at least {changes.score_thresholds[0]:.2f}", "rows": rows}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs/photograph"), help="Folder of the runs")
    args = parser.parse_args()
    metadata = collect_metadata(torch.device("cpu"), f"python benchmarks/photograph.py --seed {args.seed}")
    settings = scale_case(CASES["gtsdb"](), step_scale=1.0, num_images=0, base_scale=4.0).settings
    detectors = train_both(settings, args.runs, args.seed)
    dataset = build_dataset(settings.data, "val")
    truth = dataset.coco()
    results = {name: compute_metrics(detect_dataset(model, dataset), truth) for name, model in detectors.items()}
    threshold = classify_detections(truth, results[BASE].detections)[1]
    changes = compare_objects(truth, *(r.detections for r in results.values()), score_thresholds=(threshold, threshold))
    gain, loss = (pick_image(changes.outcomes, *pair) for pair in (("gained", "lost"), ("lost", "gained")))
    ids = {"Largest gain": gain, "Largest loss": loss}
    print(__doc__, ids)
    examples = build_report_dataset(dataset)
    photographs = [build_photograph(examples, results, changes, rule, image_id) for rule, image_id in ids.items()]
    print(plot_photographs(IMAGE_FILE, photographs, PANEL_NAMES))
    table = build_table(results, changes, len(dataset))
    print(table, write_result("photograph", [table], {**metadata, "seed": args.seed}, details={"images": ids}))


if __name__ == "__main__":
    main()
