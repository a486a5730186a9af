"""Photographs with what YOLOX-Nano gains and loses by the extended level: ``python benchmarks/coco_level_photograph.py --out OUT``.

Reads the detections that ``coco_level.py evaluate --out OUT`` has stored. Both detectors count from the score threshold of the plain
detector's best F1. ``docs/images/small_objects_coco.png`` shows two of the held-out images under CC BY 2.0 or without restrictions: first
the one with the largest gain (most objects gained minus lost; ties: the highest score of a gained object), then the one with the largest
loss or, if no object is lost in any image, with the most added detections that are wrong. Results:
``benchmarks/results/coco_level_photograph.json``, with the counts of all held-out images.
"""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from coco_level_data import open_held_out
from photograph import build_photograph, pick_image
from photograph_figure import plot_photographs
from run import collect_metadata, write_result

from featlift.evaluation.coco_metrics import Detection, coco_metrics
from featlift.evaluation.detection import EvaluationResult
from featlift.evaluation.object_changes import ObjectChanges, compare_objects
from featlift.report.examples import classify_detections
from featlift.runs.evaluate import build_report_dataset

IMAGE_FILE = Path(__file__).parents[1] / "docs" / "images" / "small_objects_coco.png"
PANEL_NAMES = ("YOLOX-Nano, COCO weights", "the same with the extended level")
FREE_LICENSES = {4: "CC BY 2.0", 7: "no known copyright restrictions", 8: "United States Government Work"}
"""COCO's number of a license → its name, of those under which an image may be shown with boxes drawn in."""
Names = dict[str, list[Detection]]


def build_rows(found: Names, truth: dict[str, Any], changes: ObjectChanges) -> list[dict[str, Any]]:
    """Rows of the table: AP, and the objects of all images at the common threshold."""
    count = Counter(item.outcome for item in changes.outcomes)
    rows: list[dict[str, Any]] = []
    for name, only, wrong in zip(found, ("lost", "gained"), changes.false_positives, strict=True):
        metrics = coco_metrics(truth, found[name])
        ap = {title: round(100 * metrics[key], 1) for title, key in (("AP", "ap"), ("AP small", "ap_small"))}
        right = count["shifted"] + count["unchanged"] + count[only]
        rows.append({"": name, **ap, "objects found": right, "false positives": wrong})
    rows[1] |= {"objects gained": count["gained"], "objects lost": count["lost"]}
    return rows


def pick_most_wrong(truth: dict[str, Any], found: Names, threshold: float, allowed: set[int]) -> int:
    """Return the image of ``allowed`` to which the second detector adds the most wrong detections; the first of equal ones."""
    before, after = (
        Counter({image: sum(box.style == "false" for box in boxes) for image, boxes in marks.items()})
        for marks in (classify_detections(truth, one, threshold)[0] for one in found.values())
    )
    return max(sorted(allowed), key=lambda image: after[image] - before[image])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="Folder of coco_level.py")
    parser.add_argument("--run", default="nearest+guided_600_seed0_score0.1", help="Stored detections of the level")
    args = parser.parse_args()
    images = open_held_out("coco80", args.out)
    truth = images.dataset.coco()
    licenses = {one["id"]: one for one in json.loads((args.out / "coco80.json").read_text())["images"]}
    files = (args.out / "detections_coco80" / f"{name}.json" for name in ("plain", args.run))
    found = dict(zip(PANEL_NAMES, (json.loads(file.read_text()) for file in files), strict=True))
    threshold = classify_detections(truth, found[PANEL_NAMES[0]])[1]
    changes = compare_objects(truth, *found.values(), score_thresholds=(threshold, threshold))
    free = [item for item in changes.outcomes if licenses[item.image_id].get("license") in FREE_LICENSES]
    ids = {"Largest gain": pick_image(free, "gained", "lost")}
    if any(item.outcome == "lost" for item in changes.outcomes):
        ids["Largest loss"] = pick_image(free, "lost", "gained")
    else:
        allowed = {item.image_id for item in free}
        ids["Most wrong detections added"] = pick_most_wrong(truth, found, threshold, allowed)
    results = {name: EvaluationResult(detections=detections) for name, detections in found.items()}
    examples = build_report_dataset(images.dataset)
    photographs = [build_photograph(examples, results, changes, rule, image_id) for rule, image_id in ids.items()]
    print(plot_photographs(IMAGE_FILE, photographs, PANEL_NAMES))
    caption = f"{len(images.dataset)} COCO images, one seed; {len(changes.outcomes)} objects at IoU 0.5, score at least {threshold:.2f}"
    table = {"caption": caption, "rows": build_rows(found, truth, changes)}
    credits = {
        rule: {key: licenses[image_id][key] for key in ("id", "license", "flickr_url")}
        | {"license": FREE_LICENSES[licenses[image_id]["license"]]}
        for rule, image_id in ids.items()
    }
    command = f"python benchmarks/coco_level_photograph.py --out OUT --run {args.run}"
    metadata = collect_metadata(torch.device("cpu"), command)
    print(table, write_result("coco_level_photograph", [table], metadata, details={"images": credits}))


if __name__ == "__main__":
    main()
