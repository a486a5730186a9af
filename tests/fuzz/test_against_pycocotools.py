"""Random COCO data sets with gaps in their ids, crowds and ignored objects: our numbers are pycocotools' on the files we write.

200 data sets with ``make fuzz`` (``FEATLIFT_FUZZ=1``), 10 otherwise.
"""

import contextlib
import io
import json
import os

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn

from featlift.data.coco import CocoDataset
from featlift.evaluation.coco_files import write_coco_results
from featlift.evaluation.detection import evaluate_detector

NUMBER = 200 if os.environ.get("FEATLIFT_FUZZ") else 10
SIDE = 160


def write_random_dataset(folder, rng):
    """Up to four images that share a file, up to five categories with gaps in their ids.

    Annotation ids start at 1: pycocotools takes a match with annotation 0 for none.
    """
    Image.new("L", (SIDE, SIDE)).save(folder / "a.png")
    category_ids = rng.choice(200, size=int(rng.integers(1, 6)), replace=False)
    image_ids = rng.choice(10**6, size=int(rng.integers(1, 5)), replace=False)
    objects = []
    for image_id in image_ids:
        for _ in range(int(rng.integers(0, 12))):
            size = np.exp(rng.uniform(np.log(4), np.log(110), 2))
            corner = rng.uniform(0, SIDE - size)
            box = [round(float(value), 2) for value in (*corner, *size)]
            objects.append({
                "id": len(objects) + 1, "image_id": int(image_id), "category_id": int(rng.choice(category_ids)), "bbox": box,
                "area": box[2] * box[3] * float(rng.uniform(0.5, 1)), "iscrowd": int(rng.random() < 0.1),
                "ignore": int(rng.random() < 0.1),
            })  # fmt: skip
    document = {
        "images": [{"id": int(k), "file_name": "a.png", "width": SIDE, "height": SIDE} for k in image_ids],
        "annotations": objects,
        "categories": [{"id": int(k), "name": f"class {k}"} for k in category_ids],
    }
    (folder / "random.json").write_text(json.dumps(document))
    return CocoDataset(folder / "random.json", folder)


class NoisyDetector(nn.Module):
    """Answers with moved objects, and with some boxes anywhere; scores have ties."""

    def __init__(self, dataset, rng):
        super().__init__()
        self.answers = iter(
            [self.answer(dataset[index][1], len(dataset.classes), rng) for index in range(len(dataset))]
        )

    def answer(self, target, num_classes, rng):
        boxes = target["boxes"].numpy() + rng.normal(0, 2, (len(target["boxes"]), 4))
        anywhere = rng.uniform(0, SIDE / 2, (int(rng.integers(0, 5)), 4)) + np.repeat([0, SIDE / 2], 2)
        labels = [*target["labels"].tolist(), *rng.integers(1, num_classes + 1, len(anywhere)).tolist()]
        return {
            "boxes": torch.tensor(np.concatenate([boxes, anywhere]), dtype=torch.float32).reshape(-1, 4),
            "labels": torch.tensor(labels, dtype=torch.int64),
            "scores": torch.tensor(np.round(rng.random(len(labels)), 1), dtype=torch.float32),
        }

    def forward(self, images):
        return [next(self.answers) for _ in images]


def evaluate_with_pycocotools(truth, results):
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        evaluation = COCOeval(coco, coco.loadRes(str(results)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


@pytest.mark.parametrize("seed", range(NUMBER))
def test_our_numbers_are_those_of_pycocotools_on_our_files(tmp_path, seed, count, compare):
    count("random data sets", "data sets")
    rng = np.random.default_rng(seed)
    dataset = write_random_dataset(tmp_path, rng)
    evaluation = evaluate_detector(NoisyDetector(dataset, rng), dataset, device="cpu", progress=False)
    results = write_coco_results(tmp_path / "results.json", evaluation.detections)
    ignored = json.loads((tmp_path / "random.json").read_text())
    for annotation in ignored["annotations"]:  # pycocotools overwrites "ignore" by "iscrowd"
        annotation["iscrowd"] |= annotation["ignore"]
    (tmp_path / "user.json").write_text(json.dumps(ignored))
    (tmp_path / "ours.json").write_text(json.dumps(dataset.coco()))
    if not evaluation.detections:
        return
    metrics = evaluation.metrics["boxes"]
    ours = [
        metrics[key]
        for key in (
            "ap",
            "ap50",
            "ap75",
            "ap_small",
            "ap_medium",
            "ap_large",
            "ar",
            "ar_small",
            "ar_medium",
            "ar_large",
        )
    ]
    for truth in ("user.json", "ours.json"):
        stats = evaluate_with_pycocotools(tmp_path / truth, results)
        theirs = [*stats[:6], *stats[8:12]]
        numbers = [-1 if value is None else value for value in ours]
        compare(numbers, theirs)
        np.testing.assert_allclose(numbers, theirs, rtol=0, atol=1e-12)
