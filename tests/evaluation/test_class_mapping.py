"""Detectors of other libraries number COCO's classes in their own ways; names agree."""

from types import SimpleNamespace

import pytest
import torch
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from featlift.data.formats.voc import VOC_CLASSES
from featlift.evaluation.class_mapping import (
    find_detector_labels,
    label_names,
    match_classes,
    match_known_classes,
)

OFFICIAL = {1: "person", 3: "car", 13: "stop sign", 90: "toothbrush"}
"""Some of COCO's categories."""


def make_dataset(categories=None):
    categories = OFFICIAL if categories is None else categories
    return SimpleNamespace(classes=list(categories.values()), category_ids=list(categories))


def coco_dataset():
    """All 80 categories, with COCO's ids, from torchvision's list: it has an entry per id up to 90, some of them "N/A"."""
    names = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    return make_dataset({id_: name for id_, name in enumerate(names) if id_ and name != "N/A"})


def test_the_91_labels_of_torchvision_are_the_ids_of_coco():
    dataset = coco_dataset()
    mapping = match_classes(FasterRCNN_ResNet50_FPN_Weights.COCO_V1, dataset)
    assert len(mapping) == 80
    assert all(label == id_ for label, id_ in mapping.items())
    assert mapping == match_classes(FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"], dataset)


@pytest.mark.parametrize(
    "source",
    [
        SimpleNamespace(config=SimpleNamespace(id2label={0: "person", 1: "car", 2: "stop sign", 3: "toothbrush"})),
        SimpleNamespace(names={0: "person", 1: "car", 2: "stop sign", 3: "toothbrush"}),
        SimpleNamespace(thing_classes=["person", "car", "stop sign", "toothbrush"]),
        {"0": "person", "1": "car", "2": "Stop_Sign", "3": "toothbrush"},
    ],
    ids=["hugging face", "ultralytics", "detectron2", "json"],
)
def test_labels_from_0_are_mapped_by_name(source):
    assert match_classes(source, make_dataset()) == {0: 1, 1: 3, 2: 13, 3: 90}


def test_a_list_of_names_starts_at_label_1():
    assert match_classes(["car", "person", "toothbrush", "stop sign"], make_dataset()) == {1: 3, 2: 1, 3: 90, 4: 13}


def test_a_mapping_can_be_given():
    classes = ["human", "bicycle", "car", "sign", "toothbrush"]
    mapping = match_classes(classes, make_dataset(), {"human": "person", "sign": "stop sign"})
    assert mapping == {1: 1, 2: None, 3: 3, 4: 13, 5: 90}


COCO_OF_VOC = {
    "aeroplane": 5, "bicycle": 2, "bird": 16, "boat": 9, "bottle": 44, "bus": 6, "car": 3, "cat": 17, "chair": 62, "cow": 21,
    "diningtable": 67, "dog": 18, "horse": 19, "motorbike": 4, "person": 1, "pottedplant": 64, "sheep": 20, "sofa": 63, "train": 7,
    "tvmonitor": 72,
}  # fmt: skip
"""Labels of torchvision's detectors for VOC's classes, from COCO's list of categories."""


def test_a_detector_of_coco_finds_the_classes_of_voc():
    dataset = make_dataset(dict(enumerate(VOC_CLASSES, 1)))
    mapping = match_known_classes(FasterRCNN_ResNet50_FPN_Weights.COCO_V1, dataset)
    assert {label: id_ for label, id_ in mapping.items() if id_} == {
        COCO_OF_VOC[name]: id_ for id_, name in enumerate(VOC_CLASSES, 1)
    }
    assert len(mapping) == 80
    labels = find_detector_labels(FasterRCNN_ResNet50_FPN_Weights.COCO_V1, dataset)
    assert labels == {k: COCO_OF_VOC[name] for k, name in enumerate(VOC_CLASSES, 1)}


def test_the_dataset_may_have_no_class_that_the_detector_does_not_know():
    with pytest.raises(ValueError, match="does not know traffic cone"):
        match_known_classes(FasterRCNN_ResNet50_FPN_Weights.COCO_V1, make_dataset({1: "car", 2: "traffic cone"}))
    renamed = {"stop sign": "sign"}
    labels = find_detector_labels(FasterRCNN_ResNet50_FPN_Weights.COCO_V1, make_dataset({8: "sign", 9: "car"}), renamed)
    assert labels == {1: 13, 2: 3}


@pytest.mark.parametrize(
    ("classes", "renamed", "message"),
    [
        (["person", "car"], None, "does not know stop sign, toothbrush"),
        (["person", "car", "stop sign", "toothbrush", "cat"], None, "does not have cat"),
        (["person", "car", "stop sign", "toothbrush", "Car"], None, "one name"),
        (["person", "car", "stop sign", "toothbrush"], {"cat": "car"}, "no class cat"),
        (["person", "car", "stop sign", "brush"], {"brush": "tooth brush"}, "dataset has no class tooth brush"),
    ],
)
def test_a_mismatch_is_refused_with_the_names(classes, renamed, message):
    with pytest.raises(ValueError, match=message):
        match_classes(classes, make_dataset(), renamed)


def test_an_object_without_names_is_refused():
    with pytest.raises(TypeError, match="No class names in Linear"):
        label_names(torch.nn.Linear(1, 1))
