"""Properties of all interpolators, and the parameter counts of the papers."""

import pytest
import torch
from torch import Tensor, nn

from featlift.interpolators import (
    GUIDED_INTERPOLATORS,
    INTERPOLATORS,
    PER_STEP_INTERPOLATORS,
    build_interpolators,
    interpolator,
)
from featlift.interpolators.guide import needs_guide

NAMES = list(INTERPOLATORS)
CHANNELS = 8
STARTS_AS_ZERO = (
    "light",
    "light-agnostic",
    "lda-aqu",
)  # a last layer is zero: those before it have no gradient at first
SIZES = [(1, 1), (1, 6), (5, 1), (3, 7), (4, 6)]


def randomized(name: str, **options: object) -> nn.Module:
    """An interpolator in evaluation mode with random values for all parameters."""
    module = interpolator(name, CHANNELS, **options).eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2)
    return module


def guide_for(x: Tensor) -> Tensor:
    """A random map of the finer level."""
    return torch.randn(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3], dtype=x.dtype)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_upsamples_any_size_by_2(name, size):
    x = torch.randn(2, CHANNELS, *size)
    assert randomized(name)(x, guide_for(x)).shape == (2, CHANNELS, 2 * size[0], 2 * size[1])


@pytest.mark.parametrize("name", NAMES)
def test_trains_in_training_mode(name):
    x = torch.randn(2, CHANNELS, 3, 5)
    y = interpolator(name, CHANNELS).train()(x, guide_for(x))
    assert y.shape == (2, CHANNELS, 6, 10)
    assert y.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_keeps_the_dtype_and_the_values(name, dtype):
    """A map wider than bfloat16 can count (256 cells) comes out right in every precision."""
    x = torch.randn(1, CHANNELS, 2, 300)
    guide = guide_for(x)
    module = randomized(name)
    exact = module.double()(x.double(), guide.double())
    y = module.to(dtype)(x.to(dtype), guide.to(dtype))
    assert y.dtype == dtype
    error = (y.double() - exact).norm() / exact.norm()
    assert error < {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float64: 1e-12}[dtype]


@pytest.mark.parametrize("name", NAMES)
def test_gradient_reaches_the_input_and_each_parameter(name):
    start = randomized(name) if name in STARTS_AS_ZERO else interpolator(name, CHANNELS)
    module = start.eval()  # in training mode batch norm ignores the biases before it
    x = torch.randn(2, CHANNELS, 4, 5, requires_grad=True)
    guide = guide_for(x).requires_grad_(name in GUIDED_INTERPOLATORS)
    module(x, guide).square().sum().backward()
    inputs = {"input": x} | ({"guide": guide} if guide.requires_grad else {})
    for parameter_name, parameter in [*inputs.items(), *module.named_parameters()]:
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.any(), parameter_name


@pytest.mark.parametrize("name", NAMES)
def test_save_and_load(name):
    x = torch.randn(1, CHANNELS, 3, 4)
    guide, module, other = guide_for(x), randomized(name), randomized(name)
    if count(module):
        assert not torch.equal(module(x, guide), other(x, guide))
    other.load_state_dict(module.state_dict(), strict=True)
    assert torch.equal(module(x, guide), other(x, guide))


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_equals_its_images(name):
    x = torch.randn(3, CHANNELS, 3, 5, dtype=torch.float64)
    guide, module = guide_for(x), randomized(name).double()
    each = [module(image[None], image_guide[None]) for image, image_guide in zip(x, guide, strict=True)]
    torch.testing.assert_close(module(x, guide), torch.cat(each))


FEW_TAPS = {
    "carafe": {"reassembly_kernel": 3},
    "freqfusion": {"low_pass_kernel": 3, "compressed_channels": 8},
    "lda-aqu": {"kernel": 1},
    "sapa": {"kernel": 3},
    "sapa-d": {"points": 2},
    "fade": {"kernel": 3},
    "jbu": {"radius": 1},
}
"""Options with which a graph has fewer nodes, so that it is exported faster."""


@pytest.mark.parametrize("name", NAMES)
def test_exports_with_free_sizes(name):
    module = randomized(name, **FEW_TAPS.get(name, {}))
    rows, columns = torch.export.Dim("rows", min=2, max=64), torch.export.Dim("columns", min=2, max=64)
    x, sides = torch.randn(1, CHANNELS, 5, 7), ({2: rows, 3: columns}, {2: 2 * rows, 3: 2 * columns})
    inputs = (x, guide_for(x)) if name in GUIDED_INTERPOLATORS else (x,)
    program = torch.export.export(module, inputs, dynamic_shapes=sides[: len(inputs)])
    x = torch.randn(1, CHANNELS, 4, 3)
    inputs = (x, guide_for(x))[: len(inputs)]
    torch.testing.assert_close(program.module()(*inputs), module(*inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_guide_is_needed_or_ignored(name):
    x, module = torch.randn(1, CHANNELS, 3, 4), randomized(name)
    assert needs_guide(module) == (name in GUIDED_INTERPOLATORS)
    if name not in GUIDED_INTERPOLATORS:
        assert torch.equal(module(x), module(x, guide_for(x)))
        return
    assert not torch.equal(module(x, guide_for(x)), module(x, guide_for(x)))
    with pytest.raises(ValueError, match=r"interpolator\(x, guide\) with guide \[B, C, 6, 8\].*'lda-aqu'"):
        module(x)
    with pytest.raises(ValueError, match=r"4x8 cells cannot be cropped or padded to 6x8"):
        module(x, torch.randn(1, CHANNELS, 4, 8))


@pytest.mark.parametrize("name", GUIDED_INTERPOLATORS)
def test_a_guide_may_lack_or_exceed_a_row_or_column(name):
    """Odd maps of a pyramid: the guide is padded by its last row and column, or cropped."""
    x, module = torch.randn(1, CHANNELS, 3, 4), randomized(name)
    guide = guide_for(x)
    padded = torch.cat([guide, guide[..., -1:]], dim=-1)[..., 1:]
    torch.testing.assert_close(module(x, padded[..., :-1]), module(x, padded))
    larger = torch.cat([guide, torch.randn(1, CHANNELS, 1, 8)], dim=2)
    torch.testing.assert_close(module(x, larger), module(x, guide))


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
    "lda-aqu": 2 * 256 + 2 * 256 * 64 + 9 * 32 + 2 * 32 + 9 * 32 * 18 + 18 + 9 * 64,
    "freqfusion": 2 * (256 * 64 + 64) + (9 * 64 + 1) * (25 + 9) + 2 * 2 * 64 + 2 * (9 * 72 + 1) * (32 + 8),
    "sapa": 2 * 2 * 256 + 2 * (256 * 32 + 32),
    "sapa-d": 2 * (256 + 1) * 128 + (256 + 1) * 9 * 2 * 4 * 4,
    "fade": 2 * 256 * 64 + 64 + (9 * 64 + 1) * 25 + 256 + 1,
    "jbu": (256 + 1) * 32 + (32 + 1) * 32 + (256 + 49 + 1) * 49 + (49 + 1) * 49 + 2 + (256 + 1) * 256,
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


PUBLISHED_COUNTS = {  # millions of parameters, rounded, of 6 modules (SegFormer-B1) and of 4 (Faster R-CNN) in SAPA's extension
    "carafe": (0.4, 0.3),
    "fade": (0.3, 0.2),
    "sapa": (0.1, 0.1),
    "sapa-d": (0.8, 0.6),
}


@pytest.mark.parametrize("name", PUBLISHED_COUNTS)
def test_parameters_are_the_published_ones(name):
    rounded = tuple(round(modules * COUNTS[name] / 1e6, 1) for modules in (6, 4))
    assert rounded == PUBLISHED_COUNTS[name]


def test_every_interpolator_has_a_count():
    assert set(COUNTS) == set(INTERPOLATORS)


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
    assert set(GUIDED_INTERPOLATORS) < set(PER_STEP_INTERPOLATORS)


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
