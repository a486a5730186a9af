"""Light interpolators against loops, and the invariances of the channel-agnostic interpolator."""

import pytest
import torch
from torch import Tensor, nn

from featlift.interpolators import interpolator
from featlift.interpolators.afi import AFI
from featlift.interpolators.fixed import FixedInterpolator
from featlift.interpolators.light import ChannelAgnosticInterpolator, LightInterpolator

BOTH = ("light", "light-agnostic")


def randomized(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module.double()


def activated(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x)


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolution of one image, ``[I, H, W]`` → ``[O, H, W]``, as a sum over its taps."""
    radius = weight.shape[-1] // 2
    padded = torch.zeros(x.shape[0], x.shape[1] + 2 * radius, x.shape[2] + 2 * radius, dtype=x.dtype)
    padded[:, radius : radius + x.shape[1], radius : radius + x.shape[2]] = x
    out = torch.zeros(len(weight), *x.shape[1:], dtype=x.dtype)
    for i in range(weight.shape[-1]):
        for j in range(weight.shape[-1]):
            shifted = padded[:, i : i + x.shape[1], j : j + x.shape[2]].flatten(1)
            out += (weight[:, :, i, j] @ shifted).view_as(out)
    return out if bias is None else out + bias[:, None, None]


def shuffled(x: Tensor) -> Tensor:
    """``[4C, H, W]`` → ``[C, 2H, 2W]``: channel 4c + 2i + j is row i, column j of every 2x2 cells."""
    out = torch.zeros(len(x) // 4, 2 * x.shape[1], 2 * x.shape[2], dtype=x.dtype)
    for channel, phase in enumerate(x):
        out[channel // 4, channel % 4 // 2 :: 2, channel % 2 :: 2] = phase
    return out


def repeated(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, -1).repeat_interleave(2, -2)


def test_light_against_the_sum_over_taps():
    module, x = randomized(LightInterpolator(5, hidden_channels=3)), torch.randn(5, 4, 6, dtype=torch.float64)
    y = activated(convolved(x, module.reduce.weight, module.reduce.bias))
    y = activated(convolved(y, module.conv.weight, module.conv.bias))
    y = activated(shuffled(convolved(y, module.grow.weight, module.grow.bias)))
    expected = repeated(x) + convolved(y, module.last.weight, module.last.bias)
    torch.testing.assert_close(module(x[None])[0], expected)


def test_agnostic_against_each_channel_alone():
    module, x = randomized(ChannelAgnosticInterpolator(3, hidden_channels=5)), torch.randn(3, 4, 6, dtype=torch.float64)
    for channel, out in zip(x, module(x[None])[0], strict=True):
        phases = convolved(activated(convolved(channel[None], module.first.weight)), module.last.weight)
        torch.testing.assert_close(out, repeated(channel) + shuffled(phases)[0])


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("name", BOTH)
def test_starts_exactly_as_the_fixed_interpolation(name, mode):
    x = torch.randn(2, 7, 5, 3)
    assert torch.equal(interpolator(name, 7, shortcut=mode)(x), FixedInterpolator(7, mode)(x))


def test_channel_agnostic_weights_transfer_to_other_channels():
    """Trained on 4 channels, used on 6; their order does not matter, nor their scale."""
    trained, used = randomized(ChannelAgnosticInterpolator(4)), ChannelAgnosticInterpolator(6).double()
    used.load_state_dict(trained.state_dict(), strict=True)
    x, order = torch.randn(2, 6, 5, 4, dtype=torch.float64), torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(used(x)[:, :4], trained(x[:, :4]))
    torch.testing.assert_close(used(x[:, order]), used(x)[:, order])
    torch.testing.assert_close(used(17 * x), 17 * used(x))


def test_light_is_light():
    with torch.device("meta"):
        light, heavy = (sum(p.numel() for p in kind(256).parameters()) for kind in (LightInterpolator, AFI))
    assert light <= 100_000
    assert heavy > 120 * light


@pytest.mark.parametrize("name", BOTH)
def test_only_operations_that_every_runtime_has(name):
    program = torch.export.export(interpolator(name, 4), (torch.randn(1, 4, 5, 6),)).run_decompositions({})
    used = {str(node.target).split(".")[1] for node in program.graph.nodes if node.op == "call_function"}
    allowed = {"conv2d", "convolution", "leaky_relu", "pixel_shuffle", "add", "upsample_nearest2d", "repeat"}
    assert used <= allowed


@pytest.mark.parametrize("name", BOTH)
def test_learns_bilinear_interpolation(name):
    """A few steps approach bilinear interpolation, starting from nearest."""
    torch.manual_seed(0)
    module, x = interpolator(name, 4, hidden_channels=8), torch.randn(4, 4, 8, 8)
    target = FixedInterpolator(4, "bilinear")(x)
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    first = (module(x) - target).abs().mean().item()
    for _ in range(60):
        optimizer.zero_grad()
        loss = (module(x) - target).square().mean()
        loss.backward()
        optimizer.step()
    assert (module(x) - target).abs().mean().item() < 0.7 * first
