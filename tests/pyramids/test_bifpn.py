"""BiFPN against a literal version of its figure, and the counts of the published layout."""

import pytest
import torch
import torch.nn.functional as nnf
from torch import nn

from featlift.interpolators import NearestInterpolator, interpolator
from featlift.pyramids import BiFPN
from featlift.pyramids.bifpn import WeightedFusion

TINY = {"c3": 3, "c4": 5, "c5": 7}


def maps(height, width, batch=2):
    sizes = [(-(-height // s), -(-width // s)) for s in (8, 16, 32)]
    return {name: torch.randn(batch, c, *size) for (name, c), size in zip(TINY.items(), sizes, strict=True)}


def none(channels):
    return nn.Identity()


def test_one_layer_is_the_figure_of_the_paper():
    torch.manual_seed(0)
    bifpn = BiFPN(TINY, 4, [NearestInterpolator(4)], norm_layer=none, num_layers=1)
    for p in bifpn.parameters():
        nn.init.normal_(p, std=0.5)
    c = maps(128, 256)
    upsample, downsample = lambda x: nnf.interpolate(x, scale_factor=2), lambda x: nnf.max_pool2d(x, 3, 2, 1)
    p3, p4, p5 = (bifpn.laterals[name](c[name]) for name in TINY)
    p6 = downsample(bifpn.p6(c["c5"]))
    p7 = downsample(p6)
    layer = bifpn.layers[0]
    t6 = layer.down[0](p6, upsample(p7))
    t5 = layer.down[1](p5, upsample(t6))
    t4 = layer.down[2](p4, upsample(t5))
    t3 = layer.down[3](p3, upsample(t4))
    y4 = layer.up[0](bifpn.skips["c4"](c["c4"]), t4, downsample(t3))
    y5 = layer.up[1](bifpn.skips["c5"](c["c5"]), t5, downsample(y4))
    y6 = layer.up[2](p6, t6, downsample(y5))
    y7 = layer.up[3](p7, downsample(y6))
    for output, expected in zip(bifpn(c).values(), (t3, y4, y5, y6, y7), strict=True):
        torch.testing.assert_close(output, expected)


def test_a_second_layer_goes_on_from_the_first():
    torch.manual_seed(0)
    bifpn = BiFPN(TINY, 4, [NearestInterpolator(4)], norm_layer=none, num_layers=2)
    start, skips = bifpn.input_maps(maps(64, 64))
    first = bifpn.layers[0](start, skips, [NearestInterpolator(4)])
    second = bifpn.layers[1](first, first, [NearestInterpolator(4)])
    torch.manual_seed(0)
    bifpn = BiFPN(TINY, 4, [NearestInterpolator(4)], norm_layer=none, num_layers=2)
    torch.testing.assert_close(list(bifpn(maps(64, 64)).values()), second)


def test_weights_are_rectified_and_normalized():
    fusion = WeightedFusion(3, 2, none)
    fusion.weights.data = torch.tensor([2.0, -5.0, 6.0])
    torch.testing.assert_close(fusion.normalized_weights(), torch.tensor([0.25, 0.0, 0.75]), atol=1e-4, rtol=0)
    x = torch.randn(3, 1, 2, 4, 4)
    with_other = fusion(x[0], x[0] * 100, x[2])
    torch.testing.assert_close(fusion(*x), with_other)  # the second input counts nothing


@pytest.mark.parametrize("num_layers", [1, 3])
def test_each_step_of_each_layer_can_have_its_own(num_layers):
    """The steps are taken coarse → fine, layer by layer."""
    order = []

    class Recording(NearestInterpolator):
        def forward(self, x, guide=None):
            order.append((self.number, x.shape[-1]))
            return super().forward(x)

    interpolators = [Recording(4) for _ in range(4 * num_layers)]
    for number, module in enumerate(interpolators):
        module.number = number
    BiFPN(TINY, 4, interpolators, num_layers=num_layers)(maps(256, 256))
    assert order == [(i, (2, 4, 8, 16)[i % 4]) for i in range(4 * num_layers)]


@pytest.mark.parametrize("size", [(33, 47), (130, 127), (1, 1)])
def test_any_size(size):
    inputs = maps(*size)
    out = BiFPN(TINY, 4, [interpolator("afi", 4, num_blocks=1)], norm_layer=none)(inputs)
    assert [x.shape[-2:] for x in out.values()][:3] == [x.shape[-2:] for x in inputs.values()]
    assert list(out) == ["p3", "p4", "p5", "p6", "p7"]


def test_counts_of_the_published_neck():
    """Swin-L, 7 layers: the sum of the published layout without G; R-50, 3 layers: 3.88 M (spec §3.3)."""
    swin = BiFPN({"c3": 384, "c4": 768, "c5": 1536}, 256, [NearestInterpolator(256)], num_layers=7)
    assert sum(p.numel() for p in swin.parameters()) == 5_517_957
    resnet = BiFPN({"c3": 512, "c4": 1024, "c5": 2048}, 256, [NearestInterpolator(256)], num_layers=3)
    assert 3.875e6 < sum(p.numel() for p in resnet.parameters()) < 3.885e6


def test_invalid_arguments():
    with pytest.raises(ValueError, match="c3, c4, c5"):
        BiFPN({"c2": 3, **TINY}, 4, [NearestInterpolator(4)])
    with pytest.raises(ValueError, match="12, coarse to fine"):
        BiFPN(TINY, 4, [NearestInterpolator(4)] * 5)
