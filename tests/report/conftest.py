"""Two small runs on eight images: the second finds more."""

import pytest
import torch

from featlift.evaluation.coco_metrics import coco_metrics
from featlift.evaluation.comparison import compare_detections
from featlift.profiling import Latency, ModelProfile
from featlift.report import ReportDataset, RunRecord

SIDE = 64


def _truth():
    objects = [
        {
            "id": i + 1,
            "image_id": i // 2 + 1,
            "category_id": 1 + i % 2,
            "bbox": [5 + 30 * (i % 2), 6, s, s],
            "area": s * s,
            "iscrowd": 0,
        }
        for i, s in enumerate([8, 12, 14, 20] * 4)
    ]
    images = [{"id": i, "width": SIDE, "height": SIDE} for i in range(1, 9)]
    return {
        "images": images,
        "annotations": objects,
        "categories": [{"id": 1, "name": "sign"}, {"id": 2, "name": "<lamp>"}],
    }


def _detections(truth, ids, score):
    return [
        {key: annotation[key] for key in ("image_id", "category_id", "bbox")} | {"score": score}
        for annotation in truth["annotations"]
        if annotation["id"] in ids
    ]


def _run(name, truth, detections, seconds):
    log = [
        {"stage": "gan", "step": i, "time": 0.1 * i, "discriminator": 1 / (i + 1), "discriminator_accuracy_real": 0.5}
        for i in range(50)
    ]
    return RunRecord(
        name,
        {"boxes": coco_metrics(truth, detections)},
        ModelProfile(3_900_000, 1.25, Latency(seconds, seconds / 2), 50_000_000, (64, 48), "cpu"),
        12.5,
        log,
        detections,
        {"interpolator": name, "optimizer": {"lr": 0.01}},
        {"commit": "abc1234", "seed": 0},
    )


@pytest.fixture
def truth():
    return _truth()


@pytest.fixture
def runs(truth):
    first = _run("nearest", truth, _detections(truth, range(1, 9), 0.6), 0.050)
    second = _run("afi", truth, _detections(truth, range(3, 15), 0.8), 0.075)
    return first, second


@pytest.fixture
def comparison(truth, runs):
    return compare_detections(truth, runs[0].detections, runs[1].detections, ("nearest", "afi"), n_resamples=50)


@pytest.fixture
def dataset(truth):
    def load_image(image_id):
        return torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(image_id))

    return ReportDataset(truth, load_image)


@pytest.fixture
def features():
    def pyramid(seed):
        random = torch.Generator().manual_seed(seed)
        maps = {f"p{i}": torch.randn(1, 6, SIDE >> i, SIDE >> i, generator=random) for i in (2, 3)}
        return {"image": torch.rand(1, 3, SIDE, SIDE), **maps}

    return {"nearest": pyramid(0), "afi": pyramid(1)}
