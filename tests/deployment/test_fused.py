"""Each rewritten part beside the part it was made from, in float64."""

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


def shaken(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 2)
    return module.double().eval()


def picture(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("bias", [True, False])
def test_phases_are_the_deconvolution(bias):
    plain = shaken(nn.ConvTranspose2d(3, 5, 6, stride=2, padding=2, bias=bias))
    for size in [(1, 1), (4, 7)]:
        x = picture(2, 3, *size)
        torch.testing.assert_close(SubPixelDeconvolution(plain)(x), plain(x))


def test_another_deconvolution_has_no_such_form():
    with pytest.raises(ValueError, match="Only kernel 6, stride 2, padding 2"):
        SubPixelDeconvolution(nn.ConvTranspose2d(3, 3, 4, stride=2, padding=1))


def test_split_dense_block():
    block, x = shaken(ResidualDenseBlock(6, growth_rate=3)), picture(2, 6, 4, 5)
    seen = [x]
    for convolution in block.grow:
        seen.append(nnf.leaky_relu(nnf.conv2d(torch.cat(seen, 1), convolution.weight, padding=1), 0.2))
    expected = x + 0.2 * nnf.conv2d(torch.cat(seen, 1), block.close.weight, padding=1)
    torch.testing.assert_close(SplitDenseBlock(block)(x), expected)


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_folded_block(norm):
    block, x = shaken(SRFBlock(4, norm)), picture(2, 4, 5, 3)
    torch.testing.assert_close(FusedSRFBlock(block)(x), block(x))


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 4)], ids=str)
def test_light_in_one_large_map(mode, size):
    light, x = shaken(LightInterpolator(6, hidden_channels=3, shortcut=mode)), picture(2, 6, *size)
    form = FusedLightInterpolator(light)
    for given in (x, x.to(memory_format=torch.channels_last), x.transpose(2, 3).contiguous().transpose(2, 3)):
        with torch.no_grad():
            before = given.clone()
            torch.testing.assert_close(form(given), light(x))
            assert torch.equal(given, before)


def test_light_without_a_shortcut_stays():
    light = LightInterpolator(6, shortcut="none")
    assert FUSED_MODULES[LightInterpolator](light) is light


@pytest.mark.parametrize(("name", "gone"), [("afi", ResidualDenseBlock), ("srf", nn.BatchNorm2d)])
def test_rewriting_reaches_what_is_slow(name, gone):
    kinds = {type(module) for module in fused_copy(interpolator(name, 8)).modules()}
    assert SubPixelDeconvolution in kinds
    assert not kinds & {gone, nn.ConvTranspose2d}
