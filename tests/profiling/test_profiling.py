import time

import pytest
import torch
from torch import nn
from torchvision.ops import DeformConv2d

from featlift.profiling import (
    count_macs,
    count_parameters,
    measure_latencies,
    measure_peak_memory,
    profile_detectors,
)


class Tower(nn.Module):
    """Two convolutions, with torchvision's detector interface."""

    def __init__(self, channels=4):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), nn.Conv2d(channels, 1, 1, bias=False))

    def forward(self, images):
        assert not self.training
        return [self.body(image[None]) for image in images]


def test_profile_counted_by_hand():
    tower = Tower().train()
    profile = profile_detectors({"tower": tower}, (100, 200), rounds=3)["tower"]
    assert profile.num_parameters == 3 * 4 * 9 + 4 + 4
    assert profile.gmacs == pytest.approx(100 * 200 * (3 * 4 * 9 + 4) / 1e9)
    maps = 100 * 200 * (4 + 1) * 4
    assert maps <= profile.peak_memory < 5 * maps, "oneDNN pads channels to 8 or 16 in its scratch space"
    assert profile.image_size == (100, 200)
    assert 0 < profile.latency.minimum <= profile.latency.median
    assert tower.training, "the mode is restored"


def test_an_image_gives_the_size():
    profiles = profile_detectors({"tower": Tower()}, torch.rand(3, 7, 9), rounds=1)
    assert profiles["tower"].image_size == (7, 9)


def test_several_are_measured_in_turns():
    calls = []
    measure_latencies({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2, warmup=1)
    assert calls == ["a", "b"] * 3
    profiles = profile_detectors({"slim": Tower(1), "wide": Tower(8)}, (8, 8), rounds=2)
    assert list(profiles) == ["slim", "wide"]
    assert profiles["wide"].gmacs > 4 * profiles["slim"].gmacs


def test_warm_up_does_not_count():
    waits = iter([0.05, 0.0, 0.0, 0.0])
    latency = measure_latencies({"late": lambda: time.sleep(next(waits))}, rounds=3, warmup=1)["late"]
    assert latency.median < 0.04


def test_no_round_is_an_error():
    with pytest.raises(ValueError, match="rounds is 0"):
        measure_latencies({}, rounds=0)


def test_frozen_and_shared_parameters():
    layer = nn.Linear(3, 2).requires_grad_(False)
    assert count_parameters(nn.Sequential(layer, layer)) == 3 * 2 + 2


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.Conv2d(8, 6, 3), 8 * 8 * 6 * 8 * 9),
        (nn.Conv2d(8, 8, 3, groups=8), 8 * 8 * 8 * 9),
        (nn.ConvTranspose2d(8, 6, 6, 2, 2), 10 * 10 * 8 * 6 * 36),
        (nn.Upsample(scale_factor=2), 0),
    ],
)
def test_multiply_adds(layer, expected):
    x = torch.rand(1, 8, 10, 10)
    assert count_macs(lambda: layer(x)) == expected


def test_a_deformable_convolution_counts_like_a_plain_one():
    x, offset = torch.rand(2, 8, 10, 10), torch.zeros(2, 18, 8, 8)
    deformable, plain = DeformConv2d(8, 6, 3, groups=2), nn.Conv2d(8, 6, 3, groups=2)
    assert count_macs(lambda: deformable(x, offset)) == count_macs(lambda: plain(x)) > 0


def test_peak_memory():
    """Three tensors in sequence, of which two are allocated at the same time."""

    def call():
        first = torch.ones(1000)
        second = first + 1
        del first
        return second * 2

    assert measure_peak_memory(call) == pytest.approx(2 * 1000 * 4, abs=100)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_memory_on_cuda():
    x = torch.rand(1 << 20, device="cuda")
    assert measure_peak_memory(lambda: x * 2, "cuda") == 4 << 20
