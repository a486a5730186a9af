"""Each variant compared with the plain module, in float64 where the variant keeps it."""

import pytest
import torch
from torch import nn

from featlift.deployment import variants
from featlift.deployment.variants import EAGER_VARIANTS, VARIANTS, ChannelsLast
from featlift.deployment.winograd import WinogradConv2d
from featlift.interpolators import INTERPOLATORS, interpolator


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


@pytest.mark.parametrize("variant", EAGER_VARIANTS)
@pytest.mark.parametrize("name", INTERPOLATORS)
def test_every_variant_of_every_interpolator(name, variant, monkeypatch):
    monkeypatch.setattr(variants, "MIN_WINOGRAD_CHANNELS", 5)
    plain, x = randomized(interpolator(name, 8)), noise(2, 8, 5, 7)
    before = {key: value.clone() for key, value in plain.state_dict().items()}
    optimized = VARIANTS[variant](plain)
    guide = noise(2, 8, 10, 14)
    y, expected = optimized(x, guide), plain(x, guide)
    assert y.dtype == x.dtype
    assert not any(parameter.requires_grad for parameter in optimized.parameters())
    tolerance = (
        0.2 if variant == "bf16, winograd 4x4" else 5e-2 if "bf16" in variant else 1e-10
    )  # the branches dominate here
    assert (y - expected).norm() / expected.norm() < tolerance
    assert all(torch.equal(value, before[key]) for key, value in plain.state_dict().items())


def test_wide_convolutions_have_fewer_multiplications():
    optimized = VARIANTS["winograd"](interpolator("afi", 64))
    kinds = [type(module) for module in optimized.modules()]
    assert (
        kinds.count(WinogradConv2d) == 3 + 1 + 3
    )  # first, middle, last; the deconvolution; the convolutions of x in each block
    assert kinds.count(nn.Conv2d) == 3 * 4  # the convolutions of the 32 grown channels


def test_channels_last_maps_and_weights():
    inputs = []
    module = interpolator("sapa", 8)
    module.register_forward_pre_hook(lambda _, args: inputs.extend(args))
    ChannelsLast(module)(torch.randn(1, 8, 5, 6), torch.randn(1, 8, 10, 12))
    ChannelsLast(module)(torch.randn(1, 8, 5, 6), torch.randn(1, 8, 10, 12))
    assert len(inputs) == 4
    assert all(each.is_contiguous(memory_format=torch.channels_last) for each in (*inputs, module.query.weight))


def test_compiled_is_the_same_function():
    """Traced as a whole, without a break; the code generator takes half a minute and is only run in the benchmark."""
    plain, x = randomized(interpolator("afi", 4, num_blocks=1, growth_rate=2)).float(), torch.randn(1, 4, 5, 7)
    optimized = VARIANTS["compiled"](plain)
    assert optimized._compiled_call_impl is not None
    optimized.compile(backend="eager", fullgraph=True)
    torch.testing.assert_close(optimized(x), plain(x), rtol=1e-4, atol=1e-4)
