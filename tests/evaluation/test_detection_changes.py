import itertools

import torch
from torchvision.ops import box_iou

from featlift.evaluation.detection_changes import find_detection_changes


def test_boxes_that_appeared_and_vanished():
    first = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]])
    second = torch.tensor([[1.0, 0, 11, 10], [20, 0, 30, 10], [80, 0, 90, 10]])
    vanished, appeared = find_detection_changes((first, second), (["cat", "cat", "cat"], ["cat", "dog", "cat"]))
    assert vanished.tolist() == [False, True, True]  # the second is a dog now
    assert appeared.tolist() == [False, True, True]


def test_pairs_are_one_to_one():
    """Two boxes of the first on one of the second: the one with the larger IoU is its partner."""
    first, second = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9]]), torch.tensor([[0.0, 0, 10, 10]])
    vanished, appeared = find_detection_changes((first, second), (["a", "a"], ["a"]))
    assert vanished.tolist() == [False, True]
    assert appeared.tolist() == [False]


def test_no_detections():
    empty, box = torch.zeros(0, 4), torch.tensor([[0.0, 0, 1, 1]])
    assert [each.tolist() for each in find_detection_changes((empty, empty), ([], []))] == [[], []]
    assert [each.tolist() for each in find_detection_changes((empty, box), ([], ["a"]))] == [[], [True]]


def test_as_a_literal_loop_over_sorted_pairs():
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(2, 30, 2, generator=generator) * 40
    boxes = tuple(torch.cat([each, each + 15], dim=1) for each in corners)
    classes = tuple(["ab"[i % 2] for i in range(30)] for _ in range(2))
    iou = box_iou(*boxes)
    pairs = sorted(itertools.product(range(30), range(30)), key=lambda pair: -float(iou[pair]))
    rows, columns = set(), set()
    for row, column in pairs:
        if (
            iou[row, column] >= 0.3
            and classes[0][row] == classes[1][column]
            and row not in rows
            and column not in columns
        ):
            rows.add(row)
            columns.add(column)
    vanished, appeared = find_detection_changes(boxes, classes, min_iou=0.3)  # type: ignore[arg-type]
    assert 0 < len(rows) < 30
    assert {i for i in range(30) if not vanished[i]} == rows
    assert {i for i in range(30) if not appeared[i]} == columns
