"""Published BiFPN: its differences, each against an explicit case, and its weights."""

import torch
from torch import nn

from featlift.conversion import PublishedBiFPN, import_weights
from featlift.conversion.bifpn import PublishedBiFPNLayer, RawWeightedFusion
from featlift.interpolators import AFI, NearestInterpolator

SWIN_L = {"c3": 384, "c4": 768, "c5": 1536}


def test_weights_are_not_normalized():
    fusion = RawWeightedFusion(2, 2, lambda channels: nn.Identity())
    fusion.weights.data = torch.tensor([2.0, 3.0])
    torch.testing.assert_close(fusion.normalized_weights(), torch.tensor([2.0, 3.0]))


def test_pooling_pads_with_zeros_on_the_right():
    x = -torch.arange(16.0).reshape(1, 1, 4, 4)
    assert PublishedBiFPNLayer(1).downsample(x - 1)[0, 0].tolist() == [[-1, 0], [0, 0]]


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


def test_the_published_weights(official):
    state = official("swin_l_bifpn7")
    neck = PublishedBiFPN(SWIN_L, 256, [AFI(256)])
    report = import_weights(neck, {**state, "bottom_up.patch_embed.proj.weight": torch.zeros(1)})
    assert list(report.skipped_keys) == ["bottom_up.patch_embed.proj.weight"]
    assert set(report.loaded_keys.values()) == set(state)
    assert set(report.loaded_keys) == set(neck.state_dict())
    torch.testing.assert_close(neck.layers[3].down[1].weights.data, state["BiFPNLayer_3_p5_w1"])
    torch.testing.assert_close(neck.layers[3].up[1].weights.data, state["BiFPNLayer_3_p5_w2"])
    torch.testing.assert_close(
        neck.layers[6].up[3].pointwise.weight.data, state["BiFPNLayer_6_conv7_down.pointwise.weight"]
    )
    torch.testing.assert_close(neck.skips["c4"][1].running_mean, state["before_bifpn.p4_skip.1.running_mean"])
