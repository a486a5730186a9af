"""Box losses per RoI and online hard example mining."""

import torch
from torchvision.models.detection.roi_heads import fastrcnn_loss

from featlift.detectors.ohem import box_head_losses, ohem_select


def rois(count=12, classes=3):
    torch.manual_seed(2)
    labels = torch.arange(count) % (classes + 1)
    return torch.randn(count, classes + 1), torch.randn(count, 4 * classes + 4), labels, torch.randn(count, 4)


def test_box_losses_add_up_to_torchvisions():
    logits, deltas, labels, targets = rois()
    losses = [loss.sum() / len(labels) for loss in box_head_losses(logits, deltas, labels, targets)]
    expected = fastrcnn_loss(logits, deltas, [labels], [targets])
    torch.testing.assert_close(losses, list(expected))


def test_ohem_by_hand():
    labels = torch.tensor([1, 0, 2, 0, 1, 0, 0])
    classification = torch.tensor([0.1, 0.9, 0.5, 0.2, 0.3, 0.4, 0.8])
    box = torch.tensor([3.0, 9.0, 0.0, 9.0, 0.1, 9.0, 9.0])
    for num_rois, expected in ((4, [0, 1, 5, 6]), (8, [0, 1, 2, 3, 5, 6]), (100, list(range(7)))):
        assert ohem_select(classification, box, labels, num_rois).nonzero().flatten().tolist() == expected
    assert ohem_select(classification, box, torch.ones(7).long(), 8).sum() == 2  # no background
    assert ohem_select(classification[:0], box[:0], labels[:0], 8).tolist() == []
