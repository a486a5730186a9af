"""The photographs of the README: which images are chosen, and how they are drawn."""

import numpy as np
import pytest
import torch
from photograph import BASE, EFPN, build_photograph, build_table, pick_image
from photograph_figure import STYLES, plot_photographs
from PIL import Image

from featlift.evaluation.detection import EvaluationResult, compute_metrics
from featlift.evaluation.object_changes import compare_objects
from featlift.report.examples import ReportDataset

SIZE = 64
BOXES = ([4.0, 4, 12, 12], [40.0, 40, 12, 12])
"""Objects of every image."""


def detection(image_id, box, score):
    return {"image_id": image_id, "category_id": 1, "bbox": box, "score": score}


@pytest.fixture
def examples():
    """Four images with two objects each."""
    ids = range(1, 5)
    objects = [(image_id, box) for image_id in ids for box in BOXES]
    annotations = [
        {"id": i, "image_id": image_id, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for i, (image_id, box) in enumerate(objects, 1)
    ]
    images = [{"id": image_id, "file_name": f"{image_id}.png", "height": SIZE, "width": SIZE} for image_id in ids]
    truth = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "sign"}]}
    return ReportDataset(truth, lambda image_id: torch.full((3, SIZE, SIZE), image_id / 8))


@pytest.fixture
def results(examples):
    """Image 1: one gained, one lost. 2: one gained. 3: one gained with a higher score. 4: one lost, and a wrong detection."""
    left, right = BOXES
    first = [detection(1, left, 0.9), detection(4, right, 0.8), detection(2, left, 0.6)]
    second = [detection(1, right, 0.9), detection(2, left, 0.7), detection(2, right, 0.6)]
    second += [detection(3, left, 0.7), detection(4, [20.0, 4, 12, 12], 0.9), detection(3, right, 0.2)]
    runs = {BASE: EvaluationResult(first), EFPN: EvaluationResult(second)}
    return {name: compute_metrics(run, examples.ground_truth) for name, run in runs.items()}


@pytest.fixture
def changes(examples, results):
    detections = (run.detections for run in results.values())
    return compare_objects(examples.ground_truth, *detections, score_thresholds=(0.5, 0.5))


def test_the_images_with_the_largest_gain_and_loss(changes):
    assert pick_image(changes.outcomes, "gained", "lost") == 3, "as many as in image 2, with a higher score"
    assert pick_image(changes.outcomes, "lost", "gained") == 4


def test_what_is_drawn_of_an_image(examples, results, changes):
    photograph = build_photograph(examples, results, changes, "Largest loss", 4)
    assert photograph.title == "Largest loss: 0 gained, 1 lost (image 4)"
    assert [[box.style for box in boxes] for boxes in photograph.boxes] == [
        ["truth", "truth", "found"],
        ["truth", "truth", "false"],
    ]
    assert photograph.objects == [tuple(BOXES[1])]


def test_the_counts(results, changes):
    table = build_table(results, changes, 4)
    assert [(row["objects found"], row["false positives"]) for row in table["rows"]] == [(3, 0), (4, 1)]
    assert (table["rows"][1]["objects gained"], table["rows"][1]["objects lost"]) == (3, 2)
    assert "4 images, 1 seed; 8 objects" in table["caption"]


def test_the_drawing(examples, results, changes, tmp_path):
    photographs = [build_photograph(examples, results, changes, "Image", image_id) for image_id in (3, 4)]
    path = plot_photographs(tmp_path / "new" / "a.png", photographs, ("first", "second"))
    assert list(path.parent.iterdir()) == [path]
    pixels = np.array(Image.open(path).convert("RGB")).astype(int)
    assert abs(pixels.shape[1] - 1350) < 2
    color = [int(STYLES["false"][0][i : i + 2], 16) for i in (1, 3, 5)]
    drawn = (np.abs(pixels - color) < 12).all(-1)[: int(0.95 * len(pixels))]  # without the legend
    assert not drawn[: len(drawn) // 2].any(), "image 3 has no wrong detection"
    assert drawn[:, drawn.shape[1] // 2 :].sum() > 50
