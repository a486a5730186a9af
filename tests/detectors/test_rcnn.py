"""Anchors, RoI pooling and parameter counts of the R-CNNs."""

import pytest
import torch
from torch import nn
from torchvision.ops import roi_align

from featlift.backbones import Backbone
from featlift.detectors import detector, extractor
from featlift.detectors.rcnn import ASPECT_RATIOS, PyramidRoIAlign, build_anchor_generator
from featlift.interpolators import interpolator


@pytest.mark.parametrize(("scale", "octaves"), [(8.0, 1), (4.0, 3)])
def test_anchors_have_the_promised_sides_and_ratios(scale, octaves):
    generator = build_anchor_generator(("p3", "p4"), scale, octaves)
    for cell_anchors, stride in zip(generator.cell_anchors, (8, 16), strict=True):
        width, height = (cell_anchors[:, 2:] - cell_anchors[:, :2]).T
        expected = sorted(scale * stride * 2 ** (k / octaves) for k in range(octaves) for _ in ASPECT_RATIOS)
        torch.testing.assert_close((width * height).sqrt().sort().values, torch.tensor(expected), rtol=0.02, atol=0)
        ratios = sorted(ASPECT_RATIOS * octaves)
        torch.testing.assert_close((height / width).sort().values, torch.tensor(ratios), rtol=0.05, atol=0)
        assert (cell_anchors[:, :2] + cell_anchors[:, 2:]).abs().max() == 0


def test_default_anchors_are_32_to_512_pixels():
    generator = build_anchor_generator(("p2", "p3", "p4", "p5", "p6"), 8.0)
    assert [size for (size,) in generator.sizes] == [32, 64, 128, 256, 512]


def pooled_level(side: float) -> int:
    """Which of p2 … p5 a square RoI of this side is pooled from, found from maps that contain their level number."""
    maps = {f"p{n}": torch.full((1, 1, 512 // 2**n, 512 // 2**n), float(n)) for n in (2, 3, 4, 5)}
    box = torch.tensor([[0.0, 0.0, side, side]])
    return int(PyramidRoIAlign(list(maps), 1)(maps, [box], [(512, 512)]).item())


def test_each_roi_is_pooled_from_its_level():
    assert [pooled_level(side) for side in (20, 111, 113, 223, 225, 447, 449, 500)] == [2, 2, 3, 3, 4, 4, 5, 5]


def test_a_tiny_padded_image_is_pooled_at_the_right_place():
    """20x20 pixels padded to 32x32: torchvision estimates stride 2 from 8 / 20 cells per pixel."""
    maps = {"p2": torch.randn(1, 3, 8, 8), "p3": torch.randn(1, 3, 4, 4)}
    box = torch.tensor([[4.0, 2.0, 16.0, 18.0]])
    expected = roi_align(maps["p2"], [box], 7, spatial_scale=1 / 4, sampling_ratio=2)
    torch.testing.assert_close(PyramidRoIAlign(list(maps), 7)(maps, [box], [(20, 20)]), expected)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_mask_rcnn_on_resnet50_has_the_papers_parameters():
    """44,343,216 with nearest, 52,177,840 with AFI in Detectron2; torchvision's heads have an additional background class."""
    backbone = Backbone("resnet50")
    network = extractor("mask-rcnn", backbone, [interpolator("nearest", 256)])
    background = 4 * (1024 + 1) + 256 + 1  # a box and a mask
    nearest = count(detector("mask-rcnn", network, num_classes=80))
    assert nearest == 44_343_216 + background
    with torch.device("meta"):
        assert nearest + count(interpolator("afi", 256)) == 52_177_840 + background
