"""One annotation: an object, an ignored region, or nothing that is known."""

import numpy as np
import pytest

from featlift.data.coco_objects import area_is_consistent, finish_masks, parse_object
from featlift.data.coco_reader import CocoImage
from featlift.data.masks import rle_to_mask

SIZE, LABELS = (30, 40), {3: 1, 7: 2}
GOOD = {"id": 1, "image_id": 1, "category_id": 7, "bbox": [2, 3, 10, 8]}
SQUARE = [[2.0, 3, 12, 3, 12, 11, 2, 11]]


def test_a_good_annotation_has_no_problem():
    parsed = parse_object(GOOD, SIZE, LABELS)
    assert parsed.problems == []
    assert parsed.instance is not None
    assert (parsed.instance.label, parsed.instance.area, parsed.instance.is_ignored) == (2, 80, False)


@pytest.mark.parametrize("change", [{"category_id": 4}, {"category_id": "7"}, {"iscrowd": 3}, {"ignore": 1}])
def test_what_cannot_be_used_is_ignored(change):
    instance = parse_object(GOOD | change, SIZE, LABELS).instance
    assert instance is not None
    assert instance.is_ignored
    assert instance.box == (2, 3, 12, 11)


@pytest.mark.parametrize(
    ("area", "measured", "has_mask", "is_consistent"),
    [
        (80, 80, True, True), (60, 80, True, True), (10, 80, True, False), (10, 80, False, True), (200, 80, False, False),
        (0, 80, True, False),
    ],
)  # fmt: skip
def test_areas(area, measured, has_mask, is_consistent):
    assert area_is_consistent(area, (2, 3, 12, 11), measured, has_mask) == is_consistent


def test_regions_without_a_mask_get_that_of_their_box():
    annotations = [GOOD | {"segmentation": SQUARE}, GOOD | {"segmentation": [[]]}, GOOD | {"iscrowd": 1}]
    objects = [parse_object(annotation, SIZE, LABELS).instance for annotation in annotations]
    image = CocoImage(1, "a.png", None, SIZE, objects)  # type: ignore[arg-type]
    assert finish_masks([image])
    assert [o.is_ignored for o in image.objects] == [False, True, False]
    for instance in image.objects:
        mask = np.zeros(SIZE)
        mask[3:11, 2:12] = 1
        np.testing.assert_array_equal(rle_to_mask(instance.rle), mask)
