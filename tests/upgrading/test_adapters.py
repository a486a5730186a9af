import pytest
import torch
from torch import nn
from torchvision.ops import FeaturePyramidNetwork

from featlift.interpolators import INTERPOLATORS
from featlift.upgrading import downgrade, upgrade
from featlift.upgrading.adapters import GatedAdapter, ResidualAdapter, StepAdapters, build_adapter, build_adapters


class Twice(nn.Module):
    """Constant 7, at twice the size."""

    def forward(self, x: torch.Tensor, guide: torch.Tensor | None = None) -> torch.Tensor:
        """``[B, C, H, W]`` → ``[B, C, 2H, 2W]``."""
        return torch.full((*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3]), 7.0)


@pytest.mark.parametrize("name", INTERPOLATORS)
@pytest.mark.parametrize("target", [(6, 10), (5, 9), (7, 11)])
def test_every_adapter_starts_at_zero(name: str, target: tuple[int, int]):
    x, old = torch.randn(2, 8, 3, 5), torch.randn(2, 8, *target)
    assert torch.equal(build_adapter(name, 8, {})(x, old, torch.randn(2, 8, *target)), old)


def test_a_residual_is_added_and_a_gated_adapter_goes_from_old_to_new():
    x, old = torch.zeros(1, 2, 1, 1), torch.ones(1, 2, 2, 2)
    assert torch.equal(ResidualAdapter(Twice())(x, old), torch.full((1, 2, 2, 2), 8.0))
    gated = GatedAdapter(Twice(), 2)
    gated.gate.data = torch.tensor([0.5, 1.0]).view(2, 1, 1)
    expected = torch.tensor([4.0, 7.0]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    assert torch.equal(gated(x, old), expected)


def test_steps_share_and_leave_out():
    a, b = build_adapter("nearest", 2, {}), build_adapter("bilinear", 2, {})
    steps = StepAdapters([a, None, b, a])
    assert steps.adapter_indices == (0, None, 1, 0)
    assert list(steps) == [a, b]
    x, old = torch.zeros(1, 2, 1, 1), torch.ones(1, 2, 2, 2)
    assert steps(1, x, old) is old


@pytest.mark.parametrize(("name", "distinct"), [("afi", 2), ("srf", 2), ("deconv", 3), ("carafe", 3)])
def test_shared_by_channels_or_one_each(name: str, distinct: int):
    adapters = build_adapters(name, [8, None, 8, 4], {})
    assert adapters[1] is None
    assert len({id(adapter) for adapter in adapters if adapter is not None}) == distinct


@pytest.mark.parametrize("upsampling", [nn.Upsample(scale_factor=2), FeaturePyramidNetwork([4, 4], 4)])
def test_script_says_what_to_use_instead(upsampling: nn.Module):
    network = TwoLevels(upsampling) if isinstance(upsampling, FeaturePyramidNetwork) else nn.Sequential(upsampling)
    network = nn.Sequential(nn.Conv2d(3, 4, 2, 2), network, nn.Conv2d(4, 4, 1))
    upgrade(network, "light", example_inputs=(image := torch.rand(1, 3, 16, 16)))
    with pytest.raises(RuntimeError, match=r"script cannot compile an upgraded network\. Use torch\.jit\.trace"):
        torch.jit.script(network)
    torch.testing.assert_close(torch.jit.trace(network, image)(image), network(image))
    downgrade(network)
    torch.jit.script(network)


class TwoLevels(nn.Module):
    def __init__(self, pyramid: nn.Module):
        super().__init__()
        self.pyramid = pyramid

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[B, C, H, W]`` → ``[B, C, H, W]``."""
        return self.pyramid({"p2": x, "p3": x[:, :, ::2, ::2]})["p2"]
