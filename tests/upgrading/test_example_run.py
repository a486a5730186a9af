"""Forms of example inputs."""

from collections import UserDict

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork

from featlift.upgrading.example_run import example_arguments, run_example, small_default_image


class Keywords(nn.Module):
    """Accepts keyword arguments only."""

    def forward(self, *, pixel_values: Tensor, mask: Tensor | None = None) -> Tensor:
        """``[B, 3, H, W]`` → the same."""
        return pixel_values if mask is None else pixel_values * mask


X = torch.rand(1, 3, 8, 8)


def test_a_tensor_a_list_and_a_tuple():
    model = nn.Conv2d(3, 4, 3)
    assert example_arguments(model, X) == ((X,), {})
    assert example_arguments(model, [X]) == (([X],), {})
    assert example_arguments(model, (X, 2)) == ((X, 2), {})


def test_no_example_is_an_image_of_the_type_of_the_parameters():
    (image,), keywords = example_arguments(nn.Conv2d(3, 4, 3).bfloat16())
    assert (image.shape, image.dtype, keywords) == ((1, 3, 256, 256), torch.bfloat16, {})
    assert image.float().std() > 0.2


def test_a_dictionary_is_keyword_arguments_if_forward_has_such_names():
    assert example_arguments(Keywords(), {"pixel_values": X}) == ((), {"pixel_values": X})
    assert example_arguments(Keywords(), UserDict({"pixel_values": X})) == ((), {"pixel_values": X})
    maps = {"c4": X, "c5": X}
    assert example_arguments(FeaturePyramidNetwork([4, 6], 8), maps) == ((maps,), {})


def test_names_that_forward_does_not_accept_are_named():
    with pytest.raises(ValueError, match=r"Keywords.forward does not accept labels; it accepts pixel_values, mask"):
        example_arguments(Keywords(), {"pixel_values": X, "labels": X})


def test_runs_repeat_and_leave_the_random_state_and_modes():
    model = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(3, 4, 3)).train()
    state = torch.get_rng_state()
    a, b = run_example(model, ((X,), {})), run_example(model, ((X,), {}))
    assert torch.equal(a, b)
    assert not a.requires_grad
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)


def test_torchvision_does_not_enlarge_the_default_example():
    model = nn.ModuleDict({"transform": GeneralizedRCNNTransform(800, 1333, [0.0] * 3, [1.0] * 3)})
    transform = model["transform"].eval()
    with small_default_image(model, None):
        assert transform([torch.zeros(3, 256, 256)])[0].tensors.shape[-2:] == (256, 256)
    assert (transform.min_size, transform.max_size) == ((800,), 1333)
    with small_default_image(model, [X]):
        assert transform.min_size == (800,)
