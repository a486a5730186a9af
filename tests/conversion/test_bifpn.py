"""The published BiFPN's weights."""

import torch

from featlift.conversion import PublishedBiFPN, import_weights
from featlift.interpolators import AFI

SWIN_L = {"c3": 384, "c4": 768, "c5": 1536}


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
