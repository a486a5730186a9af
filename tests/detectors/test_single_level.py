"""Detection on one map against the same network run literally: on a pyramid of one level, and on the image at twice the size."""

import copy

import pytest
import torch
from torch import nn
from torchvision.ops import roi_align

from featlift import detectors
from featlift.backbones import Backbone
from featlift.detectors.efpn import extend_detector
from featlift.detectors.single_level import detect_on_level, single_level_pooling
from featlift.interpolators import build_interpolators
from featlift.pyramids.efpn import ExtendedLevel
from featlift.pyramids.texture_transfers import FTT

C = 8
OPTIONS = {"anchor_scale": 4.0, "fc_dim": 16, "num_proposals": 30}


def build(name="mask-rcnn", pyramid="fpn", **options):
    torch.manual_seed(0)
    levels = detectors.backbone_levels(name, pyramid)
    F = detectors.extractor(name, Backbone("resnet10t", levels), build_interpolators("nearest", C, 3), C, pyramid)
    detector = detectors.detector(name, F, 3, **OPTIONS, **options).eval()
    detector.roi_heads.score_thresh = 0.0
    return detector


def build_efpn(inputs="inner"):
    detector = build("faster-rcnn")
    return extend_detector(detector, ExtendedLevel(64, C, FTT(C, hidden_channels=8), inputs=inputs)).eval()


IMAGE = [torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(1))]


@pytest.mark.parametrize("aligned", [False, True])
def test_all_rois_are_pooled_from_the_level(aligned):
    detector = build(aligned=aligned)
    whole = copy.deepcopy(detector)
    detect_on_level(detector, "p3")
    pooled = []
    detector.roi_heads.box_head.register_forward_hook(lambda module, inputs, output: pooled.append(inputs[0]))
    seen = []
    detector.rpn.register_forward_hook(lambda module, inputs, output: seen.append((inputs[1], output[0])))
    (detections,) = detector(IMAGE)
    ((features, (proposals,)),) = seen
    assert list(features) == ["p3"]
    assert torch.equal(features["p3"], whole.backbone(IMAGE[0][None])["p3"])
    expected = roi_align(features["p3"], [proposals], 7, 1 / 8, 2, aligned=aligned)
    torch.testing.assert_close(pooled[0], expected)
    assert detections["masks"].shape[1:] == (1, 64, 96)
    assert len(detections["boxes"])


def test_the_anchors_are_those_of_the_level():
    detector = build()
    anchors = detector.rpn.anchor_generator.cell_anchors
    detect_on_level(detector, "p3")
    (single,) = detector.rpn.anchor_generator.cell_anchors
    assert torch.equal(single, anchors[1])


@pytest.mark.parametrize("inputs", ["inner", "outputs"])
def test_p3x_is_detected_as_p3_of_the_image_at_twice_the_size(inputs):
    """With p3x made equal to the map of the 2x image, the detections are those of the 2x image, at half the coordinates."""
    T = build_efpn(inputs)
    F = T.backbone
    large = nn.functional.interpolate(IMAGE[0][None], scale_factor=2.0, mode="bilinear")
    expected_map = F(large)["inner3"]

    class Perfect(nn.Module):
        def __init__(self):
            super().__init__()
            self.inputs = inputs

        def forward(self, inner3, inner2, c2x):
            return {"p3x": expected_map, "p2x": c2x}

    F.extension = Perfect()
    reference = build("faster-rcnn")
    detect_on_level(reference, "p3")
    (expected,) = reference([large[0]])
    detect_on_level(T, "p3x")
    (found,) = T(IMAGE)
    assert len(found["boxes"])
    torch.testing.assert_close(2 * found["boxes"], expected["boxes"], atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(found["scores"], expected["scores"])


def test_p2x_is_classified_by_the_new_head():
    T = build_efpn()
    fine = T.roi_heads.fine
    detect_on_level(T, "p2x")
    assert T.roi_heads.box_head is fine[0]
    assert T.roi_heads.box_predictor is fine[1]
    assert list(T.backbone(IMAGE[0][None])) == ["p2x"]
    assert T(IMAGE)[0]["boxes"].shape[1] == 4


def test_what_cannot_be_detected_on():
    with pytest.raises(ValueError, match="no map 'p3x'; choose one of p2, p3, p4, p5, p6"):
        detect_on_level(build(), "p3x")
    with pytest.raises(TypeError, match="Linear has no RPN"):
        detect_on_level(nn.Linear(1, 1), "p3")


def test_pooling_keeps_size_and_points():
    pooling = single_level_pooling(build().roi_heads.mask_roi_pool, "p4")
    x = torch.rand(1, C, 4, 6)
    boxes = [torch.tensor([[3.0, 5, 40, 50]])]
    assert torch.equal(pooling({"p4": x}, boxes, []), roi_align(x, boxes, 14, 1 / 16, 2))
