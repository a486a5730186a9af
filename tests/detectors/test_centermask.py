"""CenterMask: levels by area ratio, two scores, losses on images with and without objects."""

import torch
from torch import nn

from featlift.detectors import detector, extractor
from featlift.detectors.centermask import AreaRatioLevelMapper
from featlift.interpolators import NearestInterpolator


class Pools(nn.Module):
    """Backbone of average pooling and a convolution per level."""

    def __init__(self):
        super().__init__()
        self.channels = {"c3": 4, "c4": 4, "c5": 4}
        self.mean = torch.zeros(1, 3, 1, 1)
        self.convolutions = nn.ModuleDict({name: nn.Conv2d(3, 4, 1) for name in self.channels})

    def forward(self, x):
        pooled = {"c3": 8, "c4": 16, "c5": 32}
        return {n: c(nn.functional.avg_pool2d(x, pooled[n])) for n, c in self.convolutions.items()}


def centermask():
    torch.manual_seed(0)
    return detector("centermask", extractor("centermask", Pools(), [NearestInterpolator(16)], 16), 2, fc_dim=16)


def target(size, boxes):
    masks = torch.zeros(len(boxes), *size, dtype=torch.uint8)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = 1
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.arange(1, len(boxes) + 1),
        "masks": masks,
    }


def test_levels_by_share():
    """⌈5 - log2(A_image / A_RoI)⌉: the whole image is on p5, less than half on p4, less than a quarter on p3."""
    mapper = AreaRatioLevelMapper(["p3", "p4", "p5"], [(64, 64), (128, 64)])
    sides = [(64.0, 64.0), (64.0, 33.0), (64.0, 31.0), (32.0, 30.0), (4.0, 4.0)]
    boxes = torch.tensor([[0.0, 0.0, w, h] for w, h in sides])
    assert mapper([boxes, boxes[:1]]).tolist() == [2, 2, 1, 0, 0, 1]


def test_masks_have_their_own_score():
    detections = centermask().eval()([torch.rand(3, 70, 90)])[0]
    count = len(detections["boxes"])
    assert count
    assert detections["masks"].shape == (count, 1, 70, 90)
    assert detections["mask_scores"].shape == (count,)
    assert (detections["mask_scores"] <= detections["scores"]).all()
    assert (detections["scores"].diff() <= 1e-6).all()  # ranked by the box


def test_losses_of_equation_7():
    losses = centermask().train()([torch.rand(3, 64, 96)], [target((64, 96), [(8, 8, 40, 40), (30, 10, 90, 60)])])
    assert set(losses) == {"classification", "bbox_regression", "bbox_ctrness", "loss_mask", "loss_mask_iou"}
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())


def test_nothing_to_draw():
    losses = centermask().train()([torch.rand(3, 64, 96)], [target((64, 96), [])])
    assert losses["loss_mask"] == 0
    assert losses["loss_mask_iou"] == 0
    sum(losses.values()).backward()


def test_detections_do_not_carry_a_gradient_into_the_boxes():
    """Proposals are drawn from FCOS without gradient: the mask losses reach the pyramid, not the box tower."""
    network = centermask().train()
    losses = network([torch.rand(3, 64, 96)], [target((64, 96), [(8, 8, 40, 40)])])
    (losses["loss_mask"] + losses["loss_mask_iou"]).backward()
    assert all(p.grad is None for p in network.rpn.parameters())
    assert any(p.grad is not None for p in network.backbone.parameters())
