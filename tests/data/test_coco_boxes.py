"""Boxes in pixels, clipped, and recognized in other forms."""

import pytest

from featlift.data.coco_boxes import box_iou_xyxy, is_finite_number, is_normalized, parse_box

SIZE = (30, 40)


@pytest.mark.parametrize(
    ("bbox", "box", "effect"),
    [
        ([5, 6, 10, 8], (5, 6, 15, 14), None),
        ([-0.5, 6, 10, 8], (0, 6, 9.5, 14), None),
        ([-3, 6, 10, 8], (0, 6, 7, 14), "kept"),
        ([-6, 6, 10, 8], (0, 6, 4, 14), "object ignored"),
        ([5.5, 6, 0, 8], (5, 6, 6, 14), "object ignored"),
        ([60, 6, 10, 8], None, "image left out"),
        ([5, 6, -1, 8], None, "image left out"),
        (None, None, "image left out"),
    ],
)
def test_boxes_are_clipped_or_ignored(bbox, box, effect):
    found, was_clipped, problem = parse_box({"bbox": bbox}, SIZE, None)
    assert found == box
    assert (problem and problem[2]) == effect
    assert was_clipped == (box is not None and bbox[:2] != list(box[:2])) or box is None


def test_the_mask_stands_in_for_an_unreadable_box():
    extent = (1.0, 2.0, 3.0, 4.0)
    assert parse_box({"bbox": None}, SIZE, extent) == (extent, False, None)
    box, _, problem = parse_box({"bbox": ["x"]}, SIZE, extent)
    assert (box, problem and problem[2]) == (extent, "object ignored")


def test_fractions_are_told_from_pixels():
    assert is_normalized([0.2, 0.3, 0.5, 0.6], SIZE)
    assert not is_normalized([0, 0, 1, 1], SIZE)
    assert not is_normalized([2, 0.3, 0.5, 0.6], SIZE)


@pytest.mark.parametrize("value", [True, "1", None, float("nan"), float("inf"), 10**400])
def test_what_is_no_finite_number(value):
    assert not is_finite_number(value)


def test_iou_by_hand():
    assert box_iou_xyxy((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert box_iou_xyxy((0, 0, 2, 2), (2, 0, 3, 2)) == 0
