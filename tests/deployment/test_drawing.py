import torch

from featlift.deployment.drawing import draw_detections


def test_boxes_and_masks_are_drawn():
    boxes = torch.tensor([[4.0, 4.0, 20.0, 20.0]])
    masks = torch.zeros(1, 64, 64)
    masks[0, 8:16, 8:16] = 1
    drawn = draw_detections(torch.zeros(3, 64, 64), boxes, ["a"], torch.tensor([1]), masks)
    assert (drawn.shape, drawn.dtype) == ((3, 64, 64), torch.uint8)
    assert drawn[:, 4, 10].sum() > 0
    assert drawn[:, 14, 14].sum() > 0
    assert drawn[:, 28:, 28:].sum() == 0


def test_classes_have_different_colors():
    boxes = torch.tensor([[4.0, 4.0, 20.0, 20.0], [34.0, 34.0, 50.0, 50.0]])
    drawn = draw_detections(torch.zeros(3, 64, 64), boxes, ["a", "b"], torch.tensor([1, 2]))
    assert not torch.equal(drawn[:, 20, 12], drawn[:, 50, 42])


def test_nothing_to_draw():
    empty = torch.zeros(0)
    drawn = draw_detections(torch.ones(3, 8, 8), empty.reshape(0, 4), [], empty.long(), torch.zeros(0, 8, 8))
    assert (drawn == 255).all()
