import pytest
import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.interpolators.fixed import BilinearInterpolator
from featlift.upgrading.adapters import StepAdapters, build_adapter
from featlift.upgrading.modules import UpgradedFixed, UpgradedNeck, UpgradedUpsample, upgraded_neck_class


class Repeated(nn.Module):
    """Upsamples by 2 the given number of times; other calls (half, 4x, integers, a sequence) do not count."""

    def forward(self, x: Tensor, times: int) -> Tensor:
        """``[B, C, H, W]`` → ``[B, C, 2^times · H, 2^times · W]``."""
        nnf.interpolate(x, scale_factor=0.5)
        nnf.interpolate(x, scale_factor=4.0)
        nnf.interpolate(x.to(torch.uint8), scale_factor=2.0)
        nnf.interpolate(x[0], scale_factor=2.0)
        for _ in range(times):
            x = nnf.interpolate(x, scale_factor=2.0)
        return x


def bright(channels: int = 2) -> nn.Module:
    """An adapter that adds exactly 1."""
    part = build_adapter("pixel-shuffle", channels, {})
    part.branch.last.bias.data.fill_(1)  # type: ignore[union-attr]
    return part


def test_only_2x_upsampling_of_maps_is_intercepted():
    neck = Repeated()
    UpgradedNeck.upgrade(neck, StepAdapters([bright(), bright()]))
    assert isinstance(neck, Repeated)
    assert torch.equal(neck(torch.zeros(1, 2, 4, 4), 2), torch.full((1, 2, 16, 16), 2.0))
    neck.restore()  # type: ignore[operator]
    assert type(neck) is Repeated
    assert not list(neck.children())


@pytest.mark.parametrize("times", [0, 1, 3])
def test_another_number_of_upsampling_steps_is_an_error(times: int):
    neck = Repeated()
    UpgradedNeck.upgrade(neck, StepAdapters([bright(), bright()]))
    with pytest.raises(RuntimeError, match=f"for 2 upsampling steps but made {times}"):
        neck(torch.zeros(1, 2, 4, 4), times)


def test_nothing_is_redirected_outside_the_neck():
    neck, x = Repeated(), torch.zeros(1, 2, 4, 4)
    UpgradedNeck.upgrade(neck, StepAdapters([bright()]))
    neck(x, 1)
    with pytest.raises(RuntimeError):
        neck(x, 2)
    assert nnf.interpolate(x, scale_factor=2.0).sum() == 0


def test_one_class_for_each_foreign_class():
    assert upgraded_neck_class(Repeated) is upgraded_neck_class(Repeated)
    assert upgraded_neck_class(Repeated).__name__ == "UpgradedRepeated"


@pytest.mark.parametrize("kind", [nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d])
def test_upsample_is_restored(kind: type[nn.Upsample]):
    module, x = kind(scale_factor=2), torch.rand(1, 2, 3, 3)
    old, attributes = module(x), set(module.__dict__)
    UpgradedUpsample.upgrade(module, bright())
    assert torch.equal(module(x), old + 1)
    module.restore()  # type: ignore[operator]
    assert type(module) is kind
    assert set(module.__dict__) == attributes
    assert torch.equal(module(x), old)


def test_an_upgraded_fixed_one_is_an_interpolator():
    x = torch.rand(1, 2, 3, 5)
    assert torch.equal(UpgradedFixed(BilinearInterpolator(2), bright())(x), BilinearInterpolator(2)(x) + 1)
