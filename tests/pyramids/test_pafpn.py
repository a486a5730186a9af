"""PAFPN against its formula written out, and the counts of the papers."""

import torch
import torch.nn.functional as nnf
from torch import nn

from featlift.interpolators import AFI, NearestInterpolator
from featlift.pyramids import FPN, PAFPN, MaxPoolP6

RESNET50 = {"c2": 256, "c3": 512, "c4": 1024, "c5": 2048}


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_bottom_up_path():
    torch.manual_seed(0)
    channels = {"c3": 3, "c4": 5, "c5": 7}
    pafpn = PAFPN(channels, 4, [NearestInterpolator(4)])
    c = {name: torch.randn(1, n, size, size) for (name, n), size in zip(channels.items(), (12, 6, 3), strict=True)}
    m5 = pafpn.inner_blocks[2](c["c5"])
    m4 = pafpn.inner_blocks[1](c["c4"]) + nnf.interpolate(m5, scale_factor=2)
    m3 = pafpn.inner_blocks[0](c["c3"]) + nnf.interpolate(m4, scale_factor=2)
    first, second = (pafpn.downsample[i][0] for i in (0, 1))
    n4 = m4 + nnf.conv2d(m3, first.weight, first.bias, stride=2, padding=1).clamp(min=0)
    n5 = m5 + nnf.conv2d(n4, second.weight, second.bias, stride=2, padding=1).clamp(min=0)
    for level, n in zip(("p3", "p4", "p5"), (m3, n4, n5), strict=True):
        smooth = pafpn.layer_blocks[int(level[1]) - 3]
        torch.testing.assert_close(pafpn(c)[level], smooth(n))


def test_counts_of_the_papers():
    """53,948,080 - 52,177,840 (PAFPN and FPN, Mask R-CNN R-50) and 108,296,062 - 106,525,054 (normalized, Cascade S-101)."""
    for norm, more in ((None, 53_948_080 - 52_177_840), (nn.BatchNorm2d, 108_296_062 - 106_525_054)):
        necks = [build(RESNET50, 256, [NearestInterpolator(256)], MaxPoolP6(), norm) for build in (FPN, PAFPN)]
        assert count(necks[1]) - count(necks[0]) == more


def test_only_the_top_down_path_upsamples():
    class Counting(NearestInterpolator):
        calls = 0

        def forward(self, x, guide=None):
            Counting.calls += 1
            return super().forward(x)

    pafpn = PAFPN(dict.fromkeys(RESNET50, 4), 4, [Counting(4)], MaxPoolP6())
    pafpn({name: torch.zeros(1, 4, 32 >> i, 32 >> i) for i, name in enumerate(RESNET50)})
    assert Counting.calls == 3


def test_interpolator_gets_gradients_from_both_paths():
    pafpn = PAFPN({"c3": 4, "c4": 4}, 4, [AFI(4, num_blocks=1, growth_rate=2)])
    pafpn({"c3": torch.randn(1, 4, 6, 6), "c4": torch.randn(1, 4, 3, 3)})["p4"].sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in pafpn.interpolators.parameters())
