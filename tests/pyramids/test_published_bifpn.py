"""Published BiFPN: its differences to EfficientDet's, each against an explicit case."""

import torch
from torch import nn

from featlift.interpolators import NearestInterpolator
from featlift.pyramids.published_bifpn import PublishedBiFPN, PublishedBiFPNLayer, RawWeightedFusion


def test_weights_are_not_normalized():
    fusion = RawWeightedFusion(2, 2, lambda channels: nn.Identity())
    fusion.weights.data = torch.tensor([2.0, 3.0])
    torch.testing.assert_close(fusion.normalized_weights(), torch.tensor([2.0, 3.0]))


def test_pooling_pads_with_zeros_on_the_right():
    x = -torch.arange(16.0).reshape(1, 1, 4, 4)
    assert PublishedBiFPNLayer(1).downsample(x - 1)[0, 0].tolist() == [[-1, 0], [0, 0]]


def test_odd_sizes_are_rounded_up():
    """One more column of zeros; for images whose sides are multiples of 128 there are none."""
    x = -torch.arange(9.0).reshape(1, 1, 3, 3)
    assert PublishedBiFPNLayer(1).downsample(x - 1)[0, 0].tolist() == [[-1, 0], [0, 0]]
    assert PublishedBiFPNLayer(1).downsample(torch.ones(1, 1, 1, 5)).shape == (1, 1, 1, 3)


def test_later_layers_get_the_inputs_of_the_first(monkeypatch):
    torch.manual_seed(0)
    neck = PublishedBiFPN({"c3": 3, "c4": 3, "c5": 3}, 4, [NearestInterpolator(4)], num_layers=3).eval()
    skips = []
    forward = PublishedBiFPNLayer.forward

    def recording_forward(self, x, layer_skips, interpolators):
        skips.append(layer_skips)
        return forward(self, x, layer_skips, interpolators)

    monkeypatch.setattr(PublishedBiFPNLayer, "forward", recording_forward)
    maps = {name: torch.randn(1, 3, size, size) for name, size in (("c3", 16), ("c4", 8), ("c5", 4))}
    inputs, first_skips = neck.input_maps(maps)
    neck(maps)
    torch.testing.assert_close(skips[0], first_skips)
    torch.testing.assert_close(skips[1], inputs)
    torch.testing.assert_close(skips[2], inputs)
