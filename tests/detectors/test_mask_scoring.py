"""The parts of CenterMask's mask branch against hand-made masks."""

import torch

from featlift.detectors.mask_scoring import MaskIoUHead, SpatialAttention, mask_iou_loss, mask_ious


def square(top, left, bottom, right, side=112):
    mask = torch.zeros(side, side, dtype=torch.uint8)
    mask[top:bottom, left:right] = 1
    return mask


def test_a_mask_is_compared_with_the_whole_object():
    """The box is the left half of a 56x56 object: a perfect mask inside it covers half of the object."""
    masks = torch.stack([square(0, 0, 56, 56)])
    boxes = torch.tensor([[0.0, 0.0, 56.0, 56.0], [0.0, 0.0, 28.0, 56.0]])
    mask_logits = torch.ones(2, 28, 28)
    ious = mask_ious(mask_logits, masks, boxes, torch.tensor([0, 0]))
    torch.testing.assert_close(ious, torch.tensor([1.0, 0.5]), atol=1e-3, rtol=0)


def test_an_empty_mask_has_no_iou_and_no_part_in_the_loss():
    masks, boxes = torch.stack([square(0, 0, 56, 56)]), torch.tensor([[0.0, 0.0, 56.0, 56.0]])
    true = mask_ious(-torch.ones(1, 28, 28), masks, boxes, torch.tensor([0]))
    assert true.item() == 0
    assert mask_iou_loss(torch.tensor([0.7]), true).item() == 0
    torch.testing.assert_close(mask_iou_loss(torch.tensor([0.7, 0.9]), torch.tensor([0.0, 0.5])), torch.tensor(0.08))
    assert mask_iou_loss(torch.zeros(0), torch.zeros(0)).item() == 0


def test_attention_is_one_factor_for_each_place():
    torch.manual_seed(0)
    attention, x = SpatialAttention(), torch.rand(2, 5, 14, 14) + 0.1
    factor = attention(x) / x
    torch.testing.assert_close(factor, factor[:, :1].expand_as(factor))
    assert sum(p.numel() for p in attention.parameters()) == 18


def test_the_prediction_depends_on_the_mask():
    torch.manual_seed(0)
    head, pooled = MaskIoUHead(4, num_classes=3, fc_dim=8), torch.rand(1, 4, 14, 14)
    first, second = (head(pooled, torch.full((1, 1, 28, 28), value)) for value in (0.0, 1.0))
    assert first.shape == (1, 4)
    assert not torch.allclose(first, second)
