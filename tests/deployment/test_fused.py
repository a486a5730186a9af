"""Each fused module compared with its original, in float64."""

import pytest
import torch
import torch.nn.functional as nnf
from torch import nn

from featlift.deployment.fused import (
    FUSED_MODULES,
    FusedLightInterpolator,
    FusedSRFBlock,
    SplitDenseBlock,
    SubPixelDeconvolution,
)
from featlift.deployment.variants import fused_copy
from featlift.interpolators import interpolator
from featlift.interpolators.afi import ResidualDenseBlock
from featlift.interpolators.light import LightInterpolator
from featlift.interpolators.srf import SRFBlock


def randomized(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 2)
    return module.double().eval()


def noise(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("bias", [True, False])
def test_phases_are_the_deconvolution(bias):
    deconvolution = randomized(nn.ConvTranspose2d(3, 5, 6, stride=2, padding=2, bias=bias))
    for size in [(1, 1), (4, 7)]:
        x = noise(2, 3, *size)
        torch.testing.assert_close(SubPixelDeconvolution(deconvolution)(x), deconvolution(x))


def test_other_deconvolutions_are_rejected():
    with pytest.raises(ValueError, match="Only kernel 6, stride 2, padding 2"):
        SubPixelDeconvolution(nn.ConvTranspose2d(3, 3, 4, stride=2, padding=1))


def test_split_dense_block():
    block, x = randomized(ResidualDenseBlock(6, growth_rate=3)), noise(2, 6, 4, 5)
    maps = [x]
    for convolution in block.grow:
        maps.append(nnf.leaky_relu(nnf.conv2d(torch.cat(maps, 1), convolution.weight, padding=1), 0.2))
    expected = x + 0.2 * nnf.conv2d(torch.cat(maps, 1), block.close.weight, padding=1)
    torch.testing.assert_close(SplitDenseBlock(block)(x), expected)


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_fused_block(norm):
    block, x = randomized(SRFBlock(4, norm)), noise(2, 4, 5, 3)
    torch.testing.assert_close(FusedSRFBlock(block)(x), block(x))


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 4)], ids=str)
def test_light_in_one_large_map(mode, size):
    light, x = randomized(LightInterpolator(6, hidden_channels=3, shortcut=mode)), noise(2, 6, *size)
    fused = FusedLightInterpolator(light)
    for input_map in (x, x.to(memory_format=torch.channels_last), x.transpose(2, 3).contiguous().transpose(2, 3)):
        with torch.no_grad():
            before = input_map.clone()
            torch.testing.assert_close(fused(input_map), light(x))
            assert torch.equal(input_map, before)


def test_light_without_a_shortcut_stays():
    light = LightInterpolator(6, shortcut="none")
    assert FUSED_MODULES[LightInterpolator](light) is light


@pytest.mark.parametrize(("name", "replaced"), [("afi", ResidualDenseBlock), ("srf", nn.BatchNorm2d)])
def test_slow_modules_are_replaced(name, replaced):
    kinds = {type(module) for module in fused_copy(interpolator(name, 8)).modules()}
    assert SubPixelDeconvolution in kinds
    assert not kinds & {replaced, nn.ConvTranspose2d}
