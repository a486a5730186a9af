"""p2 of the image at twice the size as the level of small RoIs, against a literal computation."""

import pytest
import torch
from torch import nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import roi_align

from featlift import detectors
from featlift.backbones import Backbone
from featlift.detectors.double_size_level import DoubleSizeLevelDetector
from featlift.detectors.efpn import extend_detector
from featlift.interpolators import build_interpolators
from featlift.pyramids.efpn import ExtendedLevel
from featlift.pyramids.texture_transfers import FTT

C, LIMIT = 8, 30.0
IMAGE = torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(1))


def build(name="mask-rcnn", pyramid="fpn", **options):
    torch.manual_seed(0)
    levels = detectors.backbone_levels(name, pyramid)
    F = detectors.extractor(name, Backbone("resnet10t", levels), build_interpolators("nearest", C, 3), C, pyramid)
    head = {"anchor_scale": 4.0, "fc_dim": 16, "num_proposals": 30} if name.endswith("rcnn") else {}
    detector = detectors.detector(name, F, 3, **head, **options).eval()
    if name.endswith("rcnn"):
        detector.roi_heads.score_thresh = 0.0
    return detector


@torch.no_grad()
def literal(detector, image, box_head, box_predictor):
    """Detections with small RoIs pooled by ``roi_align`` from p2 of the 2x image, the others as torchvision does."""
    batch = detector.transform([image])[0]
    features = detector.backbone(batch.tensors)
    large = nn.functional.interpolate(image[None], scale_factor=2.0, mode="bilinear", recompute_scale_factor=True)
    p2x = detector.backbone(large)["p2"]
    rpn = getattr(detector.rpn, "rpn", detector.rpn)
    heads = getattr(detector.roi_heads, "coarse", detector.roi_heads)
    maps = {level: features[level] for level in ("p2", "p3", "p4", "p5", "p6")}
    (proposals,), _ = rpn(ImageList(batch.tensors, batch.image_sizes), maps)
    sizes = (proposals[:, 2:] - proposals[:, :2]).prod(1).sqrt()
    limit = float(sizes.median())
    small = sizes < limit
    assert 0 < small.sum() < len(small)
    pooled = roi_align(p2x, [proposals[small]], 7, 1 / 2, 2)
    coarse = heads.box_predictor(heads.box_head(heads.box_roi_pool(maps, [proposals[~small]], batch.image_sizes)))
    fine = box_predictor(box_head(pooled))
    logits, deltas = (torch.cat(pair) for pair in zip(coarse, fine, strict=True))
    ordered = torch.cat([proposals[~small], proposals[small]])
    boxes, scores, labels = heads.postprocess_detections(logits, deltas, [ordered], batch.image_sizes)
    return limit, {"boxes": boxes[0], "scores": scores[0], "labels": labels[0]}


def test_small_rois_of_a_plain_detector_have_its_own_head():
    detector = build()
    heads = detector.roi_heads
    limit, expected = literal(detector, IMAGE, heads.box_head, heads.box_predictor)
    (found,) = DoubleSizeLevelDetector(detector, limit).eval()([IMAGE])
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
    assert found["masks"].shape[1:] == (1, 64, 96)


def test_small_rois_of_an_efpn_have_its_new_head():
    T = extend_detector(build("faster-rcnn"), ExtendedLevel(64, C, FTT(C, hidden_channels=8))).eval()
    torch.manual_seed(2)
    for parameter in T.roi_heads.fine.parameters():
        nn.init.normal_(parameter, std=0.1)
    limit, expected = literal(T, IMAGE, *T.roi_heads.fine)
    (found,) = DoubleSizeLevelDetector(T, limit).eval()([IMAGE])
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_the_image_is_enlarged_from_the_original():
    """With a test size, p2x is computed from the image resized to twice the test size."""
    detector = build("faster-rcnn", test_size=(32, 96))
    seen = []
    detector.backbone.register_forward_hook(lambda module, inputs, output: seen.append(tuple(inputs[0].shape[-2:])))
    transform = detector.transform
    DoubleSizeLevelDetector(detector, LIMIT).eval()([IMAGE])
    assert seen == [(32, 64), (64, 96)]
    assert detector.transform is transform


def test_what_is_refused():
    with pytest.raises(TypeError, match="RetinaNet are NoneType"):
        DoubleSizeLevelDetector(build("retinanet"), LIMIT)
    with pytest.raises(TypeError, match="finest level of this detector is p3"):
        DoubleSizeLevelDetector(build("faster-rcnn", "bifpn"), LIMIT)
    with pytest.raises(ValueError, match="above 0"):
        DoubleSizeLevelDetector(build(), 0)
    with pytest.raises(RuntimeError, match="eval"):
        DoubleSizeLevelDetector(build(), LIMIT)([IMAGE])
