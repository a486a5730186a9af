"""Cells, anchors and scores of RetinaNet and FCOS."""

import pytest
import torch

from featlift.backbones import Backbone
from featlift.detectors import Extractor, extractor
from featlift.detectors.dense import fcos, retinanet
from featlift.interpolators import interpolator


def small(name: str) -> Extractor:
    backbone = Backbone("mobilenetv3_small_050", levels=("c3", "c4", "c5"))
    return extractor(name, backbone, [interpolator("nearest", 64)], channels=64)


def test_retinanet_has_nine_anchors_per_cell_from_32_to_813_pixels():
    detector = retinanet(small("retinanet"), num_classes=3)
    sides = [[round(side) for side in sizes] for sizes in detector.anchor_generator.sizes]
    assert sides[0] == [32, 40, 51]
    assert sides[-1] == [512, 645, 813]
    assert detector.anchor_generator.num_anchors_per_location() == [9] * 5


def test_fcos_has_one_point_per_cell():
    detector = fcos(small("fcos"), num_classes=3)
    assert detector.anchor_generator.num_anchors_per_location() == [1] * 5
    sides = [(cell[0, 2:] - cell[0, :2]).tolist() for cell in detector.anchor_generator.cell_anchors]
    assert sides == [[8, 8], [16, 16], [32, 32], [64, 64], [128, 128]]


@pytest.mark.parametrize(("build", "most"), [(retinanet, 0.012), (fcos, 0.12)])
def test_a_fresh_detector_believes_in_little(build, most):
    """The prior of the focal loss is 0.01; FCOS takes the root of it times a centerness near ½."""
    detector = build(small(build.__name__), num_classes=3).eval()
    detector.score_thresh = 0.0
    assert 0 < detector([torch.rand(3, 64, 64)])[0]["scores"].max() < most


@pytest.mark.parametrize("build", [retinanet, fcos])
def test_the_background_is_no_class(build):
    detector = build(small(build.__name__), num_classes=3)
    target = {"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]), "labels": torch.tensor([3])}
    losses = detector.train()([torch.rand(3, 64, 64)], [target])
    sum(losses.values()).backward()
    per_anchor = detector.head.classification_head.cls_logits.bias.grad.view(-1, 4)
    assert not per_anchor[:, 0].any()
    assert per_anchor[:, 1:].any(dim=0).all()
    detector.eval().score_thresh = 0.0
    assert 0 not in detector([torch.rand(3, 64, 64)])[0]["labels"]


def test_more_classes_are_more_rows():
    logits = retinanet(small("retinanet"), num_classes=5).head.classification_head.cls_logits
    assert logits.out_channels == 9 * (5 + 1)


def test_labels_up_to_k_can_be_learned():
    """Label K must have a row of its own: a target with it gives that row a gradient."""
    detector = fcos(small("fcos"), num_classes=3).train()
    target = {"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]), "labels": torch.tensor([3])}
    detector([torch.rand(3, 64, 64)], [target])["classification"].backward()
    gradient = detector.head.classification_head.cls_logits.bias.grad
    assert gradient[3] < 0  # up
    assert (gradient[1:3] > 0).all()  # the others down
