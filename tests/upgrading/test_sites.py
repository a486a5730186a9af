"""Tracing of a network with example inputs."""

import pytest
import torch
from torch import nn

from featlift.upgrading import upgrade


def test_a_network_that_takes_no_image_needs_example_inputs():
    network = nn.Sequential(nn.Conv2d(5, 4, 3), nn.Upsample(scale_factor=2))
    with pytest.raises(ValueError, match=r"failed on a black image.*RuntimeError.*Pass valid inputs as example_inputs"):
        upgrade(network, "deconv")
    assert upgrade(network, "deconv", example_inputs=torch.zeros(1, 5, 16, 16)).rows[0].channels == 4


def test_several_arguments_are_a_tuple(rtdetr: nn.Module):
    maps = [torch.rand(1, 8, size, size) for size in (16, 8, 4)]
    encoder: nn.Module = rtdetr.encoder  # type: ignore[assignment]
    assert len(upgrade(encoder, "deconv", example_inputs=(maps, torch.zeros(1, 64, 64, dtype=torch.bool))).rows) == 2
