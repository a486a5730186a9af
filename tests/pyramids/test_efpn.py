"""EFPN's extended level: exact counts, shapes, the literal equations, gradients."""

import pytest
import torch
import torch.nn.functional as nnf
from torch import nn

from featlift import checkpoints
from featlift.interpolators import GUIDED_INTERPOLATORS, INTERPOLATORS, interpolator
from featlift.pyramids import FPN
from featlift.pyramids.efpn import ExtendedLevel, init_extended_level
from featlift.pyramids.texture_transfers import FTT, texture_transfer


def count(module):
    return sum(p.numel() for p in module.parameters())


def narrow(name):
    torch.manual_seed(0)
    return FTT(8, hidden_channels=6) if name == "ftt" else texture_transfer(name, 8)


LEVEL_CONVS = 655_360  # the 1x1 and the 3x3 convolution of p2x at 256 channels
CHEAP = [name for name in INTERPOLATORS if name not in ("afi", "srf", "afi-rb")]


def test_the_extensions_of_the_paper():
    with torch.device("meta"):
        assert count(ExtendedLevel(256, 256, texture_transfer("ftt-512", 256))) == 32_512_768
        assert round(count(ExtendedLevel(256, 256, texture_transfer("ftt-paper", 256))) / 1e6, 2) == 8.92
        assert count(ExtendedLevel(256, 256, texture_transfer("nearest", 256))) == LEVEL_CONVS


def test_p2x_is_equation_1_with_its_two_convolutions():
    module = ExtendedLevel(4, 8, narrow("nearest"))
    inner3, inner2, c2x = torch.randn(1, 8, 2, 3), torch.randn(1, 8, 4, 6), torch.randn(1, 4, 8, 12)
    upsampled = inner3.repeat_interleave(4, 2).repeat_interleave(4, 3)
    expected = nnf.conv2d(nnf.conv2d(c2x, module.lateral.weight) + upsampled, module.smooth.weight, padding=1)
    torch.testing.assert_close(module(inner3, inner2, c2x)["p2x"], expected)
    assert module.lateral.bias is module.smooth.bias is None


@pytest.mark.parametrize("name", CHEAP)
def test_any_interpolator_takes_the_place_of_both_steps(name):
    single = "nearest" if name in GUIDED_INTERPOLATORS else name  # inside FTT there is no finer map of as many channels
    inside = FTT(8, hidden_channels=8, upsampler=interpolator(single, 8))
    module = ExtendedLevel(4, 8, inside, interpolator(name, 8))
    outputs = module(torch.randn(1, 8, 2, 3), torch.randn(1, 8, 4, 6), torch.randn(1, 4, 8, 12))
    assert outputs["p2x"].shape == (1, 8, 8, 12)
    outputs["p2x"].square().sum().backward()
    assert all(p.grad is not None for p in [*inside.upsampler.parameters(), *module.upsampler.parameters()])


def test_weights_start_as_the_release_does():
    """U(-√(3/fan_in), √(3/fan_in)), zero biases."""
    module = ExtendedLevel(16, 16, FTT(16, hidden_channels=16))
    for layer in (part for part in module.modules() if isinstance(part, nn.Conv2d)):
        limit = (3 / layer.weight[0].numel()) ** 0.5
        assert 0.9 * limit < layer.weight.abs().max() <= limit
        assert layer.bias is None or not layer.bias.any()


def test_saved_and_built_again(tmp_path):
    module = ExtendedLevel(4, 8, FTT(8, hidden_channels=4, upsampler=interpolator("bilinear", 4)))
    loaded = checkpoints.load(checkpoints.save(module, tmp_path / "extension.safetensors"))
    assert isinstance(loaded, ExtendedLevel)
    x = torch.randn(1, 8, 2, 2), torch.randn(1, 8, 4, 4), torch.randn(1, 4, 8, 8)
    assert torch.equal(module(*x)["p2x"], loaded(*x)["p2x"])


# ---------------------------------------------------------------------------------------------------- initialization


class FixedTransfer(nn.Module):
    """A transfer with a fixed output."""

    def __init__(self, p3x):
        super().__init__()
        self.p3x = p3x

    def forward(self, coarse, fine):
        return self.p3x


def pyramid(norm_layer=None):
    torch.manual_seed(0)
    module = FPN({"c2": 4, "c3": 5}, 8, [interpolator("nearest", 8)], norm_layer=norm_layer).eval()
    for block in (*module.inner_blocks, *module.layer_blocks):
        if block[0].bias is not None:
            nn.init.zeros_(block[0].bias)
    return module


def test_with_ideal_c2x_and_p3x_the_output_is_exact():
    """With c2 and inner3 of the larger image as c2x and p3x, the extended level gives p2 of the larger image."""
    F, large = pyramid(), {"c2": torch.randn(1, 4, 12, 16), "c3": torch.randn(1, 5, 6, 8)}
    extension = ExtendedLevel(4, 8, FixedTransfer(F.inner_maps(large)[1]))
    init_extended_level(extension, F.inner_blocks[0], F.layer_blocks[0])
    module = extension(torch.zeros(1, 8, 3, 4), torch.zeros(1, 8, 6, 8), large["c2"])
    torch.testing.assert_close(module["p2x"], F(large)["p2"])


def test_ftt_starts_near_its_shortcut_and_all_parameters_get_gradients():
    F, extension = pyramid(), ExtendedLevel(4, 8, FTT(8, hidden_channels=6))
    coarse, fine, c2x = torch.randn(1, 8, 3, 4), torch.randn(1, 8, 6, 8), torch.randn(1, 4, 12, 16)
    shortcut = nnf.interpolate(coarse, scale_factor=2.0, mode="nearest")
    before = (extension.transfer(coarse, fine) - shortcut).abs().mean()
    init_extended_level(extension, F.inner_blocks[0], F.layer_blocks[0])
    after = (extension.transfer(coarse, fine) - shortcut).abs().mean()
    torch.testing.assert_close(after, 0.1 * before)
    extension(coarse, fine, c2x)["p2x"].square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in extension.parameters())


def test_a_step_with_a_norm_is_left_out():
    F, extension = pyramid(norm_layer=nn.BatchNorm2d), ExtendedLevel(4, 8, texture_transfer("nearest", 8))
    before = extension.lateral.weight.clone()
    init_extended_level(extension, F.inner_blocks[0], F.layer_blocks[0])
    assert torch.equal(extension.lateral.weight, before)


def test_equation_1_as_printed_is_a_plain_sum():
    level = ExtendedLevel(6, 6, texture_transfer("ftt-paper", 6), merge="sum", inputs="outputs")
    p3, p2, c2x = torch.randn(1, 6, 4, 5), torch.randn(1, 6, 8, 10), torch.randn(1, 6, 16, 20)
    out = level(p3, p2, c2x)
    for y in range(16):
        for x in range(20):
            torch.testing.assert_close(out["p2x"][:, :, y, x], out["p3x"][:, :, y // 2, x // 2] + c2x[:, :, y, x])
    assert {name.split(".")[0] for name, _ in level.named_parameters()} == {"transfer"}


@pytest.mark.parametrize(
    ("options", "message"),
    [({"merge": "sum"}, "c2x of 4 channels"), ({"merge": "add"}, "sum"), ({"inputs": "p3"}, "outputs")],
)
def test_impossible_extended_levels_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ExtendedLevel(4, 8, texture_transfer("nearest", 8), **options)
