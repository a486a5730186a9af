"""Mutated COCO files: read right, or refused with file and entry; nothing is lost without a line.

All of them with ``make fuzz`` (``FEATLIFT_FUZZ=1``), every twentieth otherwise.
"""

import copy
import json
import math
import os

import numpy as np
import pytest
from PIL import Image

from featlift.data.coco import CocoDataset
from featlift.data.problems import KEPT, DatasetError
from featlift.evaluation.coco_metrics import coco_metrics

DELETED = object()
VALUES = [
    DELETED, None, "", "x", "7", True, False, 0, 1, -1, 3, 7, 0.5, 1.5, 1e308, -1e308, math.nan, math.inf, 2**53 + 1, 2**63, -(2**63),
    10**400, [], {}, [1], [[]], {"a": 1}, "\ud800", "a" * 300, "a\x00b", "..", [[1, 2], [3, 4]], [1, 2, 3, 4], [0.1, 0.2, 0.3, 0.4],
]  # fmt: skip
POLYGON = [[4, 4, 14, 4, 14, 12, 4, 12], [5, 5, 8, 5, 8, 8]]


def make_document():
    boxes = {1: [4, 4, 10, 8], 2: [20, 3, 12, 20], 3: [0, 0, 24, 24], 4: [2, 10, 9, 9]}
    objects = [
        {"id": k, "image_id": 11 if k == 3 else 10, "category_id": 7 if k % 2 else 3, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for k, box in boxes.items()
    ]  # fmt: skip
    objects[0]["segmentation"] = POLYGON
    objects[1] |= {
        "segmentation": {"size": [30, 40], "counts": [630, 500, 70]},
        "iscrowd": 1,
        "bbox": [21, 0, 17, 30],
        "area": 500,
    }
    objects[3]["ignore"] = 1
    return {
        "images": [
            {"id": 10, "file_name": "a.png", "width": 40, "height": 30},
            {"id": 11, "file_name": "b.png", "width": 24, "height": 24},
        ],
        "annotations": objects,
        "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
    }


def list_places(value, path=()):
    """Path of every value of a document, inner values first."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from list_places(inner, (*path, key))
        yield (*path, key)


def mutate(path, value):
    document = copy.deepcopy(make_document())
    container = document
    for key in path[:-1]:
        container = container[key]
    if value is DELETED:
        del container[path[-1]]
    else:
        container[path[-1]] = value
    return document


MUTATIONS = [(path, value) for path in list_places(make_document()) for value in VALUES]
STEP = 1 if os.environ.get("FEATLIFT_FUZZ") else 20
CHUNKS = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("fuzz")
    for name, shape in (("a.png", (30, 40)), ("b.png", (24, 24))):
        Image.fromarray(np.full(shape, 99, np.uint8)).save(root / name)
    return root


def test_there_are_enough_mutations():
    assert len(MUTATIONS) >= 1000


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_every_mutation(folder, chunk, count):
    for path, value in MUTATIONS[::STEP][chunk::CHUNKS]:
        document = mutate(path, value)
        (folder / "mutated.json").write_text(json.dumps(document))
        for skip_broken in (False, True):
            name = f"{path} = {'deleted' if value is DELETED else repr(value)[:60]}, skip_broken={skip_broken}"
            outcome = check_mutation(folder, document, skip_broken, name)
            count("mutated annotation files, with and without --skip-broken", outcome)


def check_mutation(folder, document, skip_broken, name):
    """Return whether the mutated file was "read" or "refused"."""
    dataset, refusal = open_or_refuse(folder, skip_broken, name)
    if dataset is None:
        assert "mutated.json" in str(refusal), name
        assert refusal.problems or "no usable image" in str(refusal), name
        return "refused"
    check_targets(dataset, name)
    check_losses(dataset, document, skip_broken, name)
    assert coco_metrics(dataset.coco(), [])["ap"] in (0.0, None), name
    return "read"


def open_or_refuse(folder, skip_broken, name):
    try:
        return CocoDataset(folder / "mutated.json", folder, skip_broken), None
    except DatasetError as error:
        return None, error
    except Exception as error:
        raise AssertionError(f"{name}: {type(error).__name__}: {error}") from error


def check_targets(dataset, name):
    for index in range(len(dataset)):
        _, target = dataset[index]
        height, width = dataset.image_size(index)
        boxes = target["boxes"]
        assert boxes.isfinite().all(), name
        assert (boxes[:, 2:] > boxes[:, :2]).all(), name
        assert (boxes >= 0).all(), name
        assert (boxes[:, 2] <= width).all(), name
        assert (boxes[:, 3] <= height).all(), name
        assert (target["area"] > 0).all(), name
        assert target["area"].isfinite().all(), name
        trained = target["iscrowd"] == 0
        assert (target["labels"][trained] >= 1).all(), name
        if "masks" in target:
            assert (target["masks"].flatten(1).sum(1) > 0).all(), name


def check_losses(dataset, document, skip_broken, name):
    """Every annotation is an object or a region, or a problem names what became of it; without skipping there is no problem."""
    problems = dataset.report.problems
    assert skip_broken or not problems, name
    num_regions = sum(len(dataset[index][1]["boxes"]) for index in range(len(dataset)))
    lost = len(document["annotations"]) - num_regions
    assert lost == 0 or any(problem.effect != KEPT for problem in problems), (
        f"{name}: {lost} annotations lost without a line"
    )
    trained = sum(int((dataset[index][1]["iscrowd"] == 0).sum()) for index in range(len(dataset)))
    assert trained == dataset.report.num_objects, name
