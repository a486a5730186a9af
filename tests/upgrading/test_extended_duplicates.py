"""Boxes of two sets that are the same object."""

import torch

from featlift.upgrading.extended_duplicates import find_duplicates


def test_of_two_that_overlap_with_one_label_the_lower_score_goes():
    first = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60], [80, 80, 90, 90]]])
    second = torch.tensor([[[0.0, 0, 10, 9], [50, 50, 60, 61], [84, 80, 94, 90]]])
    scores = (torch.tensor([[0.5, 0.5, 0.2, 0.9]]), torch.tensor([[0.4, 0.3, 0.1]]))
    labels = (torch.tensor([[1, 2, 1, 1]]), torch.tensor([[1, 1, 1]]))
    masks = find_duplicates((first, second), scores, labels)
    assert masks[0].tolist() == [[False, False, True, False]]
    assert masks[1].tolist() == [[True, False, False]], "the last overlaps by 3/7 only"


def test_of_equal_scores_the_first_set_stays_and_no_boxes_are_no_duplicates():
    boxes, scores, labels = torch.tensor([[[0.0, 0, 4, 4]]]), torch.tensor([[0.5]]), torch.tensor([[0]])
    masks = find_duplicates((boxes, boxes), (scores, scores), (labels, labels))
    assert [mask.item() for mask in masks] == [False, True]
    empty = find_duplicates((boxes, boxes[:, :0]), (scores, scores[:, :0]), (labels, labels[:, :0]))
    assert empty[0].tolist() == [[False]]
    assert empty[1].shape == (1, 0)
