import inspect

import pytest
import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from featlift.interpolators.fixed import BilinearInterpolator
from featlift.upgrading.adapters import CallAdapters, build_adapter
from featlift.upgrading.interpolate_call import CallSignature
from featlift.upgrading.modules import UpgradedFixed, UpgradedNeck, UpgradedUpsample, upgraded_neck_class
from featlift.upgrading.state import added_parameters
from featlift.upgrading.upgrade import upgrade


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


NEAREST = CallSignature("nearest", None, True, 2)


def repeated(*numbers: int) -> Repeated:
    """:class:`Repeated` whose calls with these numbers add 1; numbers 0 and 1 are the calls by other factors."""
    neck = Repeated()
    UpgradedNeck.upgrade(neck, CallAdapters({(NEAREST, number): bright() for number in numbers}))
    return neck


def test_only_known_calls_are_intercepted():
    neck = repeated(2, 3)
    assert isinstance(neck, Repeated)
    assert torch.equal(neck(torch.zeros(1, 2, 4, 4), 2), torch.full((1, 2, 16, 16), 2.0))
    neck.restore()  # type: ignore[operator]
    assert type(neck) is Repeated
    assert not list(neck.children())


@pytest.mark.parametrize(("times", "added"), [(0, 0), (1, 1), (3, 2)])
def test_another_number_of_upsampling_steps_passes(times: int, added: int):
    assert repeated(2, 3)(torch.zeros(1, 2, 4, 4), times).max() == added


def test_known_calls_that_do_not_upsample_by_2_pass():
    assert repeated(0, 1)(torch.zeros(1, 2, 4, 4), 1).max() == 0


def test_nothing_is_redirected_outside_the_neck():
    neck, x = repeated(2), torch.zeros(1, 2, 4, 4)
    neck(x, 1)
    with pytest.raises(TypeError):
        neck(x, "twice")
    assert nnf.interpolate(x, scale_factor=2.0).sum() == 0


def test_the_signature_of_forward_stays():
    assert list(inspect.signature(repeated(2).forward).parameters) == ["x", "times"]


def test_a_leftover_forward_of_the_class_is_removed_and_another_one_refused():
    neck = Repeated()
    neck.forward = neck.forward  # type: ignore[method-assign]
    UpgradedNeck.upgrade(neck, CallAdapters({(NEAREST, 2): bright()}))
    assert neck(torch.zeros(1, 2, 4, 4), 1).max() == 1
    other = Repeated()
    other.forward = lambda x, times: x  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="forward of this Repeated was replaced on the object itself"):
        UpgradedNeck.upgrade(other, CallAdapters({}))
    assert type(other) is Repeated


def test_gradient_checkpointing_of_an_upgraded_module():
    x = torch.rand(1, 2, 4, 4, requires_grad=True)
    gradients = []
    for use_reentrant in (None, True, False):
        neck, x.grad = repeated(2), None
        y = neck(x, 1) if use_reentrant is None else checkpoint(neck, x, 1, use_reentrant=use_reentrant)
        y.square().sum().backward()
        gradients.append([x.grad, *(parameter.grad for parameter in neck.parameters())])
    for other in gradients[1:]:
        assert all(torch.equal(a, b) for a, b in zip(gradients[0], other, strict=True))


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


class CheckpointedBlock(nn.Module):
    """Upsamples by 2 between convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, 4, H, W]`` → ``[B, 4, 2H, 2W]``."""
        return self.conv(nnf.interpolate(self.conv(x), scale_factor=2.0))


class CheckpointedNet(nn.Module):
    """``reentrant`` is None without checkpoints; ``part`` is what is checkpointed: "blocks", "neck" or "method"."""

    def __init__(self, reentrant: bool | None, part: str) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 8, 8)
        self.neck = nn.Sequential(CheckpointedBlock(), CheckpointedBlock())
        self.head = nn.Conv2d(4, 2, 1)
        self.reentrant, self.part = reentrant, part

    def upsample(self, x: Tensor) -> Tensor:
        return self.head(nnf.interpolate(x, scale_factor=2.0))

    def forward(self, x: Tensor) -> Tensor:
        """``[B, 3, H, W]`` → ``[B, 2, H', W']``."""
        parts = {"blocks": [*self.neck, self.head], "neck": [self.neck, self.head], "method": [self.upsample]}[
            self.part
        ]
        x = self.stem(x)
        for run in parts:
            x = run(x) if self.reentrant is None else checkpoint(run, x, use_reentrant=self.reentrant)
        return x


def checkpointed_gradients(reentrant: bool | None, part: str) -> dict[str, Tensor]:
    """Gradients of all parameters of an upgraded network whose added parameters are no longer zero."""
    torch.manual_seed(0)
    model = CheckpointedNet(reentrant, part)
    upgrade(model, "light")
    for parameter in added_parameters(model).values():
        nn.init.uniform_(parameter, -0.5, 0.5)
    model.train()(torch.rand(1, 3, 64, 64).requires_grad_()).square().sum().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("part", ["blocks", "neck"])
@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_gives_the_plain_gradients(reentrant: bool, part: str):
    plain, checkpointed = checkpointed_gradients(None, part), checkpointed_gradients(reentrant, part)
    assert any("added" in name for name in plain)
    assert plain.keys() == checkpointed.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient)


@pytest.mark.parametrize(
    ("reentrant", "message"), [(True, "Checkpoint whole modules"), (False, "different number of tensors")]
)
def test_a_checkpointed_method_is_an_error(reentrant: bool, message: str):
    with pytest.raises(RuntimeError, match=message):
        checkpointed_gradients(reentrant, "method")
