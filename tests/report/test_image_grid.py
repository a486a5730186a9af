import torch

from featlift.report.image_grid import CAPTION, FALSE, FOUND, MISSED, Panel, outlines, sheet

TRUTH = {"boxes": torch.tensor([[10.0, 10, 20, 20], [30, 10, 40, 20]]), "labels": torch.tensor([1, 2])}


def found(boxes, labels, scores):
    return {
        "boxes": torch.tensor(boxes).float().reshape(-1, 4),
        "labels": torch.tensor(labels),
        "scores": torch.tensor(scores),
    }


def colours(answers, score=0.5):
    return [colour for _, colour in outlines(answers, TRUTH, score)]


def test_right_wrong_and_missed():
    assert colours(found([[10, 10, 20, 20]], [1], [0.9])) == [MISSED, FOUND]
    assert colours(found([[10, 10, 20, 20]], [2], [0.9])) == [MISSED, MISSED, FALSE]
    assert colours(found([[10, 10, 20, 20], [11, 10, 20, 20], [30, 10, 40, 20]], [1, 1, 2], [0.9, 0.8, 0.7])) == [
        FOUND,
        FALSE,
        FOUND,
    ]
    assert colours(found([[10, 10, 20, 20]], [1], [0.4])) == [MISSED, MISSED]


def test_best_score_takes_the_object():
    drawn = outlines(found([[11, 10, 20, 20], [10, 10, 20, 20]], [1, 1], [0.6, 0.9]), TRUTH)
    assert drawn[1:] == [([10, 10, 20, 20], FOUND), ([11, 10, 20, 20], FALSE)]


def test_panels_in_a_row_at_their_places():
    image = torch.zeros(3, 40, 50)
    panels = [Panel(image, "one"), Panel(image, "two", found([[10, 10, 20, 20]], [1], [0.9]))]
    whole = sheet(panels, TRUTH, (5, 5, 30, 40), zoom=3)
    assert whole.size == (2 * 120 + 4, 90 + 2 * CAPTION)
    assert whole.getpixel((124 + 15, CAPTION + 15)) == FOUND
    assert whole.getpixel((124 + 75, CAPTION + 15)) == MISSED
    assert whole.getpixel((15, CAPTION + 15)) == (0, 0, 0)


def test_many_panels_stand_in_rows_of_equal_length():
    """Nine do not fit into one row of seven: five and four."""
    panels = [Panel(torch.full((3, 40, 50), i / 10), "") for i in range(9)]
    whole = sheet(panels, TRUTH, (5, 5, 30, 40), zoom=1)
    assert whole.size == (5 * 40 + 4 * 4, 2 * (30 + CAPTION) + CAPTION)
    assert whole.getpixel((4 * 44 + 5, CAPTION + 5)) == (102, 102, 102)
    assert whole.getpixel((3 * 44 + 5, CAPTION + 30 + CAPTION + 5)) == (204, 204, 204)


def test_boxes_outside_the_window_are_left_out_and_those_across_its_edge_are_cut():
    answers = found([[0, 0, 3, 3], [60, 60, 70, 70], [0, 12, 9, 16]], [1, 1, 1], [0.9, 0.9, 0.9])
    whole = sheet([Panel(torch.zeros(3, 80, 80), "", answers)], TRUTH, (5, 5, 30, 40), zoom=3)
    assert whole.getpixel((12, CAPTION + 25)) == FALSE
    assert whole.getpixel((115, CAPTION + 85)) == (0, 0, 0)
