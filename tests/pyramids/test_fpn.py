"""FPN against torchvision's, and with every interpolator in the place of nearest."""

import math

import pytest
import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool, LastLevelP6P7

from featlift.features import Features
from featlift.interpolators import INTERPOLATORS, PER_STEP_INTERPOLATORS, build_interpolators, interpolator
from featlift.pyramids import FPN, ConvP6P7, MaxPoolP6

IN_CHANNELS = {"c2": 4, "c3": 6, "c4": 8, "c5": 10}
CHANNELS = 8


def maps(height: int, width: int, rounded=math.ceil, batch: int = 2) -> Features:
    """Backbone maps of an image of this size; every level rounds the size of the previous level, as convolutions do."""
    features, size = {}, (rounded(height / 2), rounded(width / 2))
    for level, channels in IN_CHANNELS.items():
        size = (rounded(size[0] / 2), rounded(size[1] / 2))
        features[level] = torch.randn(batch, channels, *size)
    return features


def pyramid(*interpolators: nn.Module, extra_blocks=None) -> FPN:
    return FPN(IN_CHANNELS, CHANNELS, interpolators or [interpolator("nearest", CHANNELS)], extra_blocks)


EXTRA_BLOCKS = {
    "none": (lambda: None, lambda: None),
    "p6": (MaxPoolP6, LastLevelMaxPool),
    "p6p7 from c5": (lambda: ConvP6P7(10, CHANNELS), lambda: LastLevelP6P7(10, CHANNELS)),
    "p6p7 from p5": (lambda: ConvP6P7(CHANNELS, CHANNELS), lambda: LastLevelP6P7(CHANNELS, CHANNELS)),
}


@pytest.mark.parametrize("size", [(64, 96), (65, 97), (37, 53), (1, 1), (33, 31), (130, 70)], ids=str)
@pytest.mark.parametrize("name", EXTRA_BLOCKS)
def test_nearest_is_torchvisions_to_the_last_bit(name, size):
    extra_blocks, torchvision_extra_blocks = EXTRA_BLOCKS[name]
    expected = FeaturePyramidNetwork(list(IN_CHANNELS.values()), CHANNELS, extra_blocks=torchvision_extra_blocks())
    fpn = pyramid(extra_blocks=extra_blocks())
    fpn.load_state_dict(expected.state_dict(), strict=True)
    x = maps(*size)
    for a, b in zip(fpn(x).values(), expected(x).values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("size", [(70, 63), (50, 98)], ids=str)
def test_a_backbone_that_rounds_down_has_its_last_row_repeated(size):
    """torchvision would shift the whole map instead; here every cell keeps its place."""
    fpn, x = pyramid(), maps(*size, rounded=math.floor)
    inner = fpn.inner_maps(x)
    for fine, coarse, lateral, c in zip(inner, inner[1:], fpn.inner_blocks, x.values(), strict=False):
        below = (fine - lateral(c))[0, 0]
        for i in range(fine.shape[-2]):
            for j in range(fine.shape[-1]):
                above = coarse[0, 0, min(i // 2, coarse.shape[-2] - 1), min(j // 2, coarse.shape[-1] - 1)]
                torch.testing.assert_close(below[i, j], above, rtol=1e-4, atol=1e-4)


def test_levels_have_the_papers_names():
    x = maps(64, 64)
    assert list(pyramid()(x)) == ["p2", "p3", "p4", "p5"]
    for extra_blocks in (MaxPoolP6(), ConvP6P7(10, CHANNELS)):
        fpn = pyramid(extra_blocks=extra_blocks)
        assert tuple(fpn(x)) == fpn.levels == ("p2", "p3", "p4", "p5", *extra_blocks.added_levels)
    other = FPN({"feat0": 3, "feat1": 4}, 5, [interpolator("nearest", 5)])
    assert list(other({"feat0": torch.zeros(1, 3, 4, 4), "feat1": torch.zeros(1, 4, 2, 2)})) == ["feat0", "feat1"]


@pytest.mark.parametrize("name", INTERPOLATORS)
def test_every_interpolator(name):
    interpolators = build_interpolators(name, CHANNELS, num_steps=3)
    for parameter in nn.ModuleList(interpolators).parameters():
        nn.init.normal_(parameter, std=0.1)  # some start with a zero as their last layer
    fpn = pyramid(*interpolators, extra_blocks=MaxPoolP6()).eval()
    x = maps(70, 101)
    outputs = fpn(x)
    for level, c in zip(("p2", "p3", "p4", "p5"), x.values(), strict=True):
        assert outputs[level].shape == (2, CHANNELS, *c.shape[-2:])
    sum(p.square().sum() for p in outputs.values()).backward()
    for parameter_name, parameter in fpn.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.any(), parameter_name


class WidthRecorder(nn.Module):
    """Upsamples by 2 and records the widths of its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.widths: list[int] = []

    def forward(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        self.widths.append(x.shape[-1])
        return nnf.interpolate(x, scale_factor=2)


def test_one_interpolator_serves_all_steps_coarse_to_fine():
    recorder = WidthRecorder()
    pyramid(recorder)(maps(64, 96))
    assert recorder.widths == [3, 6, 12]


def test_each_step_has_its_own_coarse_to_fine():
    recorders = [WidthRecorder() for _ in range(3)]
    pyramid(*recorders)(maps(64, 96))
    assert [recorder.widths for recorder in recorders] == [[3], [6], [12]]


def test_a_shared_interpolator_is_counted_once():
    def added(name: str) -> int:
        with_it = pyramid(*build_interpolators(name, CHANNELS, num_steps=3))
        return sum(p.numel() for p in with_it.parameters()) - sum(p.numel() for p in pyramid().parameters())

    for name in ("afi", "deconv"):
        count = sum(p.numel() for p in interpolator(name, CHANNELS).parameters())
        assert added(name) == count * (3 if name in PER_STEP_INTERPOLATORS else 1)


def test_the_interpolator_upsamples_the_maps_before_smoothing():
    afi = interpolator("afi", CHANNELS)
    fpn, x = pyramid(afi), maps(65, 90)
    inner = fpn.inner_maps(x)
    torch.testing.assert_close(inner[3], fpn.inner_blocks[3](x["c5"]))
    for i in (2, 1, 0):
        lateral = fpn.inner_blocks[i](list(x.values())[i])
        upsampled = afi(inner[i + 1])[..., : lateral.shape[-2], : lateral.shape[-1]]
        torch.testing.assert_close(inner[i], lateral + upsampled, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(fpn(x)[f"p{i + 2}"], fpn.layer_blocks[i](inner[i]), rtol=1e-4, atol=1e-5)


def test_two_interpolators_for_three_steps():
    with pytest.raises(
        ValueError, match=r"2 interpolators given for 3 upsampling steps.*give 1, shared by all steps, or 3"
    ):
        pyramid(WidthRecorder(), WidthRecorder())
    with pytest.raises(ValueError, match="0 interpolators"):
        FPN(IN_CHANNELS, CHANNELS, [])


def test_levels_that_are_not_a_factor_of_2_apart():
    x = maps(64, 64)
    x["c3"] = torch.randn(2, 6, 12, 12)
    with pytest.raises(ValueError, match="factor of 2 apart"):
        pyramid()(x)
