"""Other forms of the same function, each beside the plain module, in float64 where the form keeps it."""

import pytest
import torch
from torch import nn

from featlift.deployment import variants
from featlift.deployment.variants import EAGER_VARIANTS, VARIANTS, ChannelsLast
from featlift.deployment.winograd import WinogradConv2d
from featlift.interpolators import INTERPOLATORS, interpolator


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


@pytest.mark.parametrize("form", EAGER_VARIANTS)
@pytest.mark.parametrize("name", INTERPOLATORS)
def test_every_form_of_every_interpolator(name, form, monkeypatch):
    monkeypatch.setattr(variants, "WIDE", 5)
    plain, x = shaken(interpolator(name, 8)), picture(2, 8, 5, 7)
    before = {key: value.clone() for key, value in plain.state_dict().items()}
    made = VARIANTS[form](plain)
    y, expected = made(x), plain(x)
    assert y.dtype == x.dtype
    assert not any(parameter.requires_grad for parameter in made.parameters())
    most = 0.2 if form == "bf16, winograd 4x4" else 5e-2 if "bf16" in form else 1e-10  # of branches that dominate here
    assert (y - expected).norm() / expected.norm() < most
    assert all(torch.equal(value, before[key]) for key, value in plain.state_dict().items())


def test_wide_convolutions_have_fewer_multiplications():
    made = VARIANTS["winograd"](interpolator("afi", 64))
    kinds = [type(module) for module in made.modules()]
    assert (
        kinds.count(WinogradConv2d) == 3 + 1 + 3
    )  # first, middle, last; the deconvolution; what reads x in each block
    assert kinds.count(nn.Conv2d) == 3 * 4  # what reads the 32 grown channels


def test_channels_last_is_what_it_says():
    seen = []
    module = nn.Conv2d(8, 8, 3, padding=1)
    module.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    ChannelsLast(module)(torch.randn(1, 8, 5, 6))
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert module.weight.is_contiguous(memory_format=torch.channels_last)


def test_compiled_is_the_same_function():
    """Traced as a whole, without a break; the code generator, which takes half a minute, is left to the benchmark."""
    plain, x = shaken(interpolator("afi", 4, blocks=1, growth=2)).float(), torch.randn(1, 4, 5, 7)
    made = VARIANTS["compiled"](plain)
    assert made._compiled_call_impl is not None
    made.compile(backend="eager", fullgraph=True)
    torch.testing.assert_close(made(x), plain(x), rtol=1e-4, atol=1e-4)
