"""An upgrade succeeds or changes nothing."""

import copy

import pytest
import torch
from torch import Tensor, nn

from featlift.upgrading import upgrade


class Head(nn.Module):
    """Two upsampling steps with a convolution; ``fails`` raises an error in the second pass through ``forward``."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Upsample(scale_factor=2))
        self.last = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, 3, H, W]`` → ``[B, 4, H, W]``."""
        return self.last(self.first(x))


class ClassDependent(Head):
    """Gives other outputs if its ``nn.Upsample`` has another class."""

    def forward(self, x: Tensor) -> Tensor:
        """``[B, 3, H, W]`` → ``[B, 4, H, W]``."""
        return super().forward(x) + float(type(self.first[1]) is nn.Upsample)


class ClassRequired(Head):
    """Fails if its ``nn.Upsample`` has another class."""

    def forward(self, x: Tensor) -> Tensor:
        """``[B, 3, H, W]`` → ``[B, 4, H, W]``."""
        if type(self.first[1]) is not nn.Upsample:
            raise TypeError("no nn.Upsample")
        return super().forward(x)


class Counting(Head):
    """Not deterministic: the first run gives other outputs than the second one."""

    runs = 0

    def forward(self, x: Tensor) -> Tensor:
        """``[B, 3, H, W]`` → ``[B, 4, H, W]``."""
        self.runs += 1
        return super().forward(x) + self.runs


class Bypassing(Head):
    """Calls the function behind its ``nn.Upsample`` once that has another class, so adapters have no effect."""

    def forward(self, x: Tensor) -> Tensor:
        """``[B, 3, H, W]`` → ``[B, 4, H, W]``."""
        return self.last(nn.Upsample.forward(self.first[1], self.first[0](x))) if self.swapped else super().forward(x)

    @property
    def swapped(self) -> bool:
        return type(self.first[1]) is not nn.Upsample


@pytest.mark.parametrize(
    ("model_class", "message"),
    [
        (ClassDependent, "does not give the same outputs"),
        (Counting, "does not give the same outputs"),
        (ClassRequired, r"failed on the example inputs \(TypeError: no nn.Upsample"),
        (Bypassing, "1 of 1 adapters were not reached"),
    ],
)
def test_a_failing_check_changes_nothing(model_class, message):
    model = model_class()
    before = copy.deepcopy(model)
    with pytest.raises(ValueError, match=rf"{message}.*The model is as before"):
        upgrade(model, "deconv")
    assert [(n, type(m)) for n, m in model.named_modules()] == [(n, type(m)) for n, m in before.named_modules()]
    assert list(model.state_dict()) == list(before.state_dict())
    assert set(vars(model)) == set(vars(before)) | ({"runs"} & set(vars(model)))


def test_a_forward_on_the_object_itself_changes_nothing():
    """The second site cannot be installed: the first is restored."""

    class Neck(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            """``[B, 4, H, W]`` → ``[B, 4, 2H, 2W]``."""
            return self.conv(nn.functional.interpolate(x, scale_factor=2.0))

    model = nn.Sequential(Head(), Neck())
    neck = model[1]
    original = neck.forward
    neck.forward = lambda x: original(x)
    with pytest.raises(ValueError, match="was replaced on the object itself"):
        upgrade(model, "deconv")
    assert type(model[0].first[1]) is nn.Upsample
    assert type(neck) is Neck


def test_a_network_that_takes_no_image_needs_example_inputs():
    network = nn.Sequential(nn.Conv2d(5, 4, 3), nn.Upsample(scale_factor=2), nn.Conv2d(4, 4, 1))
    with pytest.raises(ValueError, match=r"failed on an image \[1, 3, 256, 256\] \(RuntimeError.*Pass valid inputs"):
        upgrade(network, "deconv")
    assert upgrade(network, "deconv", example_inputs=torch.zeros(1, 5, 16, 16)).rows[0].channels == 4


def test_several_arguments_are_a_tuple_and_keywords_a_dictionary(rtdetr: nn.Module):
    maps = [torch.rand(1, 8, size, size) for size in (16, 8, 4)]
    encoder: nn.Module = rtdetr.encoder  # type: ignore[assignment]
    padding = torch.zeros(1, 64, 64, dtype=torch.bool)
    other = copy.deepcopy(encoder)
    assert len(upgrade(encoder, "deconv", example_inputs=(maps, padding)).rows) == 2
    assert len(upgrade(other, "deconv", example_inputs={"maps": maps, "padding": padding}).rows) == 2
