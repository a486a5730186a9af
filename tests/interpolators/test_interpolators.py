"""Properties of all interpolators, and the parameter counts of the papers."""

import pytest
import torch
from torch import nn

from featlift.interpolators import INTERPOLATORS, PER_STEP_INTERPOLATORS, build_interpolators, interpolator

NAMES = list(INTERPOLATORS)
CHANNELS = 8
STARTS_AS_ZERO = ("light", "light-agnostic")  # by default: then only the last layer has a gradient at first
SIZES = [(1, 1), (1, 6), (5, 1), (3, 7), (4, 6)]


def randomized(name: str, **options: object) -> nn.Module:
    """An interpolator in evaluation mode with random values for all parameters."""
    module = interpolator(name, CHANNELS, **options).eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2)
    return module


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_upsamples_any_size_by_2(name, size):
    x = torch.randn(2, CHANNELS, *size)
    assert randomized(name)(x).shape == (2, CHANNELS, 2 * size[0], 2 * size[1])


@pytest.mark.parametrize("name", NAMES)
def test_trains_in_training_mode(name):
    y = interpolator(name, CHANNELS).train()(torch.randn(2, CHANNELS, 3, 5))
    assert y.shape == (2, CHANNELS, 6, 10)
    assert y.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_keeps_the_dtype_and_the_values(name, dtype):
    """A map wider than bfloat16 can count (256 cells) comes out right in every precision."""
    x = torch.randn(1, CHANNELS, 2, 300)
    module = randomized(name)
    exact = module.double()(x.double())
    y = module.to(dtype)(x.to(dtype))
    assert y.dtype == dtype
    error = (y.double() - exact).norm() / exact.norm()
    assert error < {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float64: 1e-12}[dtype]


@pytest.mark.parametrize("name", NAMES)
def test_gradient_reaches_the_input_and_each_parameter(name):
    start = randomized(name) if name in STARTS_AS_ZERO else interpolator(name, CHANNELS)
    module = start.eval()  # in training mode batch norm ignores the biases before it
    x = torch.randn(2, CHANNELS, 4, 5, requires_grad=True)
    module(x).square().sum().backward()
    for parameter_name, parameter in [("input", x), *module.named_parameters()]:
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.any(), parameter_name


@pytest.mark.parametrize("name", NAMES)
def test_save_and_load(name):
    x = torch.randn(1, CHANNELS, 3, 4)
    module, other = randomized(name), randomized(name)
    if count(module):
        assert not torch.equal(module(x), other(x))
    other.load_state_dict(module.state_dict(), strict=True)
    assert torch.equal(module(x), other(x))


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_equals_its_images(name):
    x = torch.randn(3, CHANNELS, 3, 5, dtype=torch.float64)
    module = randomized(name).double()
    torch.testing.assert_close(module(x), torch.cat([module(image[None]) for image in x]))


@pytest.mark.parametrize("name", NAMES)
def test_exports_with_free_sizes(name):
    module = randomized(name)
    sides = {2: torch.export.Dim("height", min=2, max=64), 3: torch.export.Dim("width", min=2, max=64)}
    program = torch.export.export(module, (torch.randn(1, CHANNELS, 5, 7),), dynamic_shapes=(sides,))
    x = torch.randn(1, CHANNELS, 4, 3)
    torch.testing.assert_close(program.module()(x), module(x), rtol=1e-4, atol=1e-5)


COUNTS = {
    "nearest": 0,
    "bilinear": 0,
    "bicubic": 0,
    "nearest-5conv": 2_952_448,
    "bilinear-5conv": 2_952_448,
    "bicubic-5conv": 2_952_448,
    "deconv": 2_949_632,
    "pixel-shuffle": 256 * 1024 * 9 + 1024,
    "carafe": 74_148,
    "dysample": 256 * 32 + 32,
    "srf": 10_035_712,
    "afi": 7_834_624,
    "afi-rb": 10_035_712,
    "light": 256 * 32 + 32 + 9 * 32 * 32 + 32 + 9 * 32 * 128 + 128 + 32 * 256 + 256,
    "light-agnostic": 9 * 8 + 9 * 8 * 4,
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_at_256_channels_are_the_papers(name):
    with torch.device("meta"):
        assert count(interpolator(name, 256)) == COUNTS[name]


def test_parameters_of_the_variants():
    with torch.device("meta"):
        assert count(interpolator("srf", 256, last_kernel=1)) == 9_511_424
        assert count(interpolator("dysample", 256, dyscope=True)) == 2 * 256 * 32 + 32


def test_one_for_all_steps_or_one_for_each():
    assert len(build_interpolators("afi", CHANNELS, num_steps=3)) == 1
    per_step = build_interpolators("deconv", CHANNELS, num_steps=3)
    assert len(per_step) == 3
    assert len({id(module) for module in per_step}) == 3
    assert set(PER_STEP_INTERPOLATORS) < set(INTERPOLATORS)


def test_unknown_name_suggests_the_closest():
    with pytest.raises(ValueError, match=r"'pixelshuffle'.*Did you mean 'pixel-shuffle'\?.*nearest, bilinear"):
        interpolator("pixelshuffle", CHANNELS)


def test_unknown_option_lists_the_options():
    with pytest.raises(ValueError, match=r"'afi' has no option depth; it has: num_blocks, growth_rate, init, shortcut"):
        interpolator("afi", CHANNELS, depth=3)
    with pytest.raises(ValueError, match=r"'nearest' has no option init; it has: none"):
        interpolator("nearest", CHANNELS, init="zero")


def test_zero_channels():
    with pytest.raises(ValueError, match=r"0 channels"):
        interpolator("afi", 0)
