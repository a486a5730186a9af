"""FeatLift's FCOS and RetinaNet: the level with the true coarsest map is the detector on the enlarged image."""

import pytest
import torch
from featlift.upgrading.extended_family import enlarge

import featlift
from featlift.detectors.config import DetectorConfig, build_detector
from featlift.upgrading import enable_level, level_distillation_loss
from featlift.upgrading.extended_extractor import ExtractorDenseFamily


def small_detector(name, **options):
    config = DetectorConfig(
        name, "test_byobnet", "random", "batch", 0, pyramid_channels=16, detector_options={}, **options
    )
    detector = build_detector(config, 3).eval()
    for parameter in detector.head.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.05)
    return detector


@pytest.mark.parametrize("name", ["fcos", "retinanet"])
@pytest.mark.parametrize("interpolator", ["nearest", "deconv"])
@torch.no_grad()
def test_with_the_true_coarsest_map_the_level_is_p3_of_the_enlarged_image(name, interpolator):
    detector, image = small_detector(name, interpolator=interpolator), torch.rand(1, 3, 64, 96)
    family, large = ExtractorDenseFamily(), enlarge(image)
    assert family.matches(detector)
    early = family.early_maps(detector, large)
    maps = family.finest_maps(detector, early, family.coarse_map(detector, early))
    expected = detector.backbone(large)
    torch.testing.assert_close(maps[0], expected["p3"])
    predictions = family.predict(detector, maps, (64, 96))
    images = detector.transform([large[0]])[0]
    anchors = detector.anchor_generator(images, list(expected.values()))[0]
    logits = detector.head(list(expected.values()))
    count = predictions.boxes.shape[1]
    regression = logits["bbox_regression"][:, :count]
    decode = detector.box_coder.decode if name == "fcos" else detector.box_coder.decode_single
    expected_boxes = (
        decode(regression, anchors[None, :count]) if name == "fcos" else decode(regression[0], anchors[:count])[None]
    )
    torch.testing.assert_close(predictions.boxes, expected_boxes / 2)
    torch.testing.assert_close(predictions.class_logits, logits["cls_logits"][:, :count])


@pytest.mark.parametrize("name", ["fcos", "retinanet"])
def test_the_level_is_trained_alone_and_adds_small_boxes(name):
    detector, image = small_detector(name), torch.rand(1, 3, 64, 64)
    plain = detector([image[0]])[0]
    featlift.upgrade(detector, level="p3x", width=8, num_blocks=1)
    unchanged = detector([image[0]])[0]
    assert all(torch.equal(plain[key], unchanged[key]) for key in plain)
    losses = level_distillation_loss(detector, image)
    gradients = torch.autograd.grad(sum(losses.values()), list(detector.added_level.parameters()), allow_unused=True)
    assert any(g is not None and g.abs().sum() > 0 for g in gradients)
    detector.score_thresh, detector.detections_per_img, detector.topk_candidates = 0.0, 100_000, 100_000
    before = detector([image[0]])[0]["boxes"]
    enable_level(detector, 16.0)
    after = detector([image[0]])[0]["boxes"]
    assert len(after) > len(before)


def test_other_pyramids_and_detectors_do_not_match():
    assert not ExtractorDenseFamily().matches(small_detector("fcos", pyramid="pafpn"))
    assert not ExtractorDenseFamily().matches(torch.nn.Conv2d(3, 3, 1))
