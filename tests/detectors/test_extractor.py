import torch

from featlift.backbones import Backbone
from featlift.detectors.extractor import Extractor
from featlift.interpolators import interpolator
from featlift.pyramids import FPN, MaxPoolP6


def test_a_backbone_and_a_pyramid():
    backbone = Backbone("mobilenetv3_small_050")
    pyramid = FPN(backbone.channels, 8, [interpolator("nearest", 8)], MaxPoolP6())
    network = Extractor(backbone, pyramid).eval()
    image = torch.rand(2, 3, 70, 101)
    maps = network(image)
    assert tuple(maps) == network.levels == ("p2", "p3", "p4", "p5", "p6")
    assert network.out_channels == 8
    assert torch.equal(network.mean, backbone.mean)
    for level, expected in pyramid(backbone(image)).items():
        assert torch.equal(maps[level], expected)
    assert [tuple(x.shape[-2:]) for x in maps.values()] == [(18, 26), (9, 13), (5, 7), (3, 4), (2, 2)]
