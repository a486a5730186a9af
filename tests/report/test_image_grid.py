import torch

from featlift.report.image_grid import (
    CAPTION_HEIGHT,
    FALSE_NEGATIVE_COLOR,
    FALSE_POSITIVE_COLOR,
    TRUE_POSITIVE_COLOR,
    ImagePanel,
    color_boxes,
    make_image_grid,
)

TRUTH = {"boxes": torch.tensor([[10.0, 10, 20, 20], [30, 10, 40, 20]]), "labels": torch.tensor([1, 2])}


def detections(boxes, labels, scores):
    return {
        "boxes": torch.tensor(boxes).float().reshape(-1, 4),
        "labels": torch.tensor(labels),
        "scores": torch.tensor(scores),
    }


def colors(found, score=0.5):
    return [color for _, color in color_boxes(found, TRUTH, score)]


def test_true_positives_false_positives_and_missed_objects():
    assert colors(detections([[10, 10, 20, 20]], [1], [0.9])) == [FALSE_NEGATIVE_COLOR, TRUE_POSITIVE_COLOR]
    assert colors(detections([[10, 10, 20, 20]], [2], [0.9])) == [
        FALSE_NEGATIVE_COLOR,
        FALSE_NEGATIVE_COLOR,
        FALSE_POSITIVE_COLOR,
    ]
    assert colors(detections([[10, 10, 20, 20], [11, 10, 20, 20], [30, 10, 40, 20]], [1, 1, 2], [0.9, 0.8, 0.7])) == [
        TRUE_POSITIVE_COLOR,
        FALSE_POSITIVE_COLOR,
        TRUE_POSITIVE_COLOR,
    ]
    assert colors(detections([[10, 10, 20, 20]], [1], [0.4])) == [FALSE_NEGATIVE_COLOR, FALSE_NEGATIVE_COLOR]


def test_best_score_takes_the_object():
    drawn = color_boxes(detections([[11, 10, 20, 20], [10, 10, 20, 20]], [1, 1], [0.6, 0.9]), TRUTH)
    assert drawn[1:] == [([10, 10, 20, 20], TRUE_POSITIVE_COLOR), ([11, 10, 20, 20], FALSE_POSITIVE_COLOR)]


def test_panels_in_a_row_at_their_places():
    image = torch.zeros(3, 40, 50)
    panels = [ImagePanel(image, "one"), ImagePanel(image, "two", detections([[10, 10, 20, 20]], [1], [0.9]))]
    grid = make_image_grid(panels, TRUTH, (5, 5, 30, 40), zoom=3)
    assert grid.size == (2 * 120 + 4, 90 + 2 * CAPTION_HEIGHT)
    assert grid.getpixel((124 + 15, CAPTION_HEIGHT + 15)) == TRUE_POSITIVE_COLOR
    assert grid.getpixel((124 + 75, CAPTION_HEIGHT + 15)) == FALSE_NEGATIVE_COLOR
    assert grid.getpixel((15, CAPTION_HEIGHT + 15)) == (0, 0, 0)


def test_many_panels_stand_in_rows_of_equal_length():
    """Nine do not fit into one row of seven: five and four."""
    panels = [ImagePanel(torch.full((3, 40, 50), i / 10), "") for i in range(9)]
    grid = make_image_grid(panels, TRUTH, (5, 5, 30, 40), zoom=1)
    assert grid.size == (5 * 40 + 4 * 4, 2 * (30 + CAPTION_HEIGHT) + CAPTION_HEIGHT)
    assert grid.getpixel((4 * 44 + 5, CAPTION_HEIGHT + 5)) == (102, 102, 102)
    assert grid.getpixel((3 * 44 + 5, CAPTION_HEIGHT + 30 + CAPTION_HEIGHT + 5)) == (204, 204, 204)


def test_boxes_outside_the_crop_are_left_out_and_those_across_its_edge_are_clipped():
    found = detections([[0, 0, 3, 3], [60, 60, 70, 70], [0, 12, 9, 16]], [1, 1, 1], [0.9, 0.9, 0.9])
    grid = make_image_grid([ImagePanel(torch.zeros(3, 80, 80), "", found)], TRUTH, (5, 5, 30, 40), zoom=3)
    assert grid.getpixel((12, CAPTION_HEIGHT + 25)) == FALSE_POSITIVE_COLOR
    assert grid.getpixel((115, CAPTION_HEIGHT + 85)) == (0, 0, 0)
