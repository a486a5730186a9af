import pytest
import torch
from torch import nn

from featlift import resolution
from featlift.distillation import feature_pairs
from featlift.distillation.feature_pairs import DownscaleConfig
from featlift.features import crop_to_match
from featlift.interpolators import NearestInterpolator, interpolator
from featlift.pyramids import PYRAMIDS, pyramid, pyramid_spec


def mirrored(image, small):
    """Whether the bright objects of ``small`` and ``image`` are on different sides."""
    return (image.mean((0, 1)).argmax() < image.shape[-1] / 2) != (small.mean((0, 1)).argmax() < small.shape[-1] / 2)


def test_both_views_share_their_flip(marked):
    for seed in range(40):
        image, target = marked(seed=seed)
        torch.manual_seed(seed)
        assert not mirrored(image, feature_pairs.downscale_batch([image], [target], DownscaleConfig())[0][0])


def test_the_published_code_mirrors_half_of_the_pairs(marked):
    num_mirrored = 0
    torch.manual_seed(0)
    for seed in range(200):
        image, target = marked(seed=seed)
        (small,), (small_target,) = feature_pairs.downscale_batch([image], [target], DownscaleConfig(same_flip=False))
        num_mirrored += bool(mirrored(image, small))
        left, top, right, bottom = small_target["boxes"][0].round().int().tolist()
        assert small[:, top + 1 : bottom - 1, left + 1 : right - 1].min() > 0.9  # boxes and masks flip with their image
        assert small_target["masks"][0, top + 1 : bottom - 1, left + 1 : right - 1].all()
    assert 70 < num_mirrored < 130


@pytest.mark.parametrize("same_flip", [True, False])
def test_views_without_targets_are_those_of_the_batch(marked, monkeypatch, same_flip):
    (image, target), config = marked(), DownscaleConfig(same_flip=same_flip)
    torch.manual_seed(3)
    (expected,), _ = feature_pairs.downscale_batch([image], [target], config)
    torch.manual_seed(3)
    if same_flip:
        monkeypatch.delattr(feature_pairs, "downscale_targets")  # which waits for a GPU
    assert torch.equal(feature_pairs.downscale_views([image], [target], config)[0], expected)


@pytest.mark.parametrize("size", [(64, 96), (75, 101), (41, 53)])
def test_boxes_and_masks_are_downscaled_within_a_pixel(marked, size):
    image, target = marked(*size)
    (small,), (small_target,) = feature_pairs.downscale_batch([image], [target], DownscaleConfig())
    assert small.shape == (3, size[0] // 2, size[1] // 2)
    assert (small_target["boxes"] - target["boxes"] / 2).abs().max() <= 1
    rows, columns = small_target["masks"][0].nonzero().T
    tight = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    assert (tight - target["boxes"][0] / 2).abs().max() <= 1
    assert small_target["area"].item() == pytest.approx(48, rel=0.05)


FPN_STEPS, BIFPN_STEPS = ("p5", "p4", "p3"), ("p7", "p6", "p5", "p4")


def test_sizes_of_the_paper_for_sides_of_800():
    """Spec: 800 px crop to 200, 100, 50, 25, 13; stage 2 to 100, 50, 25, 12, 6."""
    high = {f"p{i}": torch.zeros(1, 1, s, s) for i, s in zip(range(2, 7), (200, 100, 50, 25, 13), strict=True)}
    low = {f"p{i}": torch.zeros(1, 1, s, s) for i, s in zip(range(2, 7), (104, 52, 26, 13, 7), strict=True)}
    G = nn.ModuleList([nn.Upsample(scale_factor=2)])
    first, _ = crop_to_match(feature_pairs.upsample_levels(G, FPN_STEPS, low), high)
    second, _ = crop_to_match(low, resolution.downscale_features(high))
    assert [x.shape[-1] for x in first.values()] == [200, 100, 50, 25, 13]
    assert [x.shape[-1] for x in second.values()] == [100, 50, 25, 12, 6]


def test_each_level_is_upsampled_by_the_interpolator_of_its_step():
    class Marks(nn.Module):
        def __init__(self, mark):
            super().__init__()
            self.mark = mark

        def forward(self, x):
            return x + self.mark

    zeros = {f"p{i}": torch.zeros(1) for i in range(2, 8)}
    three = feature_pairs.upsample_levels(nn.ModuleList(Marks(i) for i in range(3)), FPN_STEPS, zeros)
    assert {k: int(x) for k, x in three.items()} == {"p2": 2, "p3": 2, "p4": 1, "p5": 0, "p6": 0, "p7": 0}
    shared = feature_pairs.upsample_levels(nn.ModuleList([Marks(5)]), FPN_STEPS, zeros)
    assert {int(x) for x in shared.values()} == {5}
    each = feature_pairs.upsample_levels(nn.ModuleList(Marks(i) for i in range(8)), BIFPN_STEPS * 2, zeros)
    layers = {"p2": [3, 7], "p3": [3, 7], "p4": [3, 7], "p5": [2, 6], "p6": [1, 5], "p7": [0, 4]}
    assert {level: x.tolist() for level, x in each.items()} == layers


def test_no_step_is_left_out_when_its_level_is_not_compared():
    assert feature_pairs.steps_of_levels(["p4", "p5"], BIFPN_STEPS, 4) == {"p4": [3], "p5": [0, 1, 2]}
    assert feature_pairs.steps_of_levels(["p3"], FPN_STEPS, 3) == {"p3": [0, 1, 2]}
    assert feature_pairs.steps_of_levels(["p3", "p4"], FPN_STEPS, 1) == {"p3": [0], "p4": [0]}


@pytest.mark.parametrize("name", PYRAMIDS)
def test_each_interpolator_upsamples_the_level_that_it_upsamples_in_the_pyramid(name):
    """Pyramids x interpolators per step: who gets which map in the pyramid, and who in stage 1, by the size of the map."""

    class Recording(NearestInterpolator):
        def forward(self, x, guide=None):
            seen.setdefault(self.number, set()).add(tuple(x.shape[-2:]))
            return super().forward(x)

    spec = pyramid_spec(name)
    levels = spec.backbone_levels or ("c2", "c3", "c4", "c5")
    G = nn.ModuleList(Recording(4) for _ in spec.upsampled_levels(levels))
    for number, module in enumerate(G):
        module.number = number
    neck, seen = pyramid(name, dict.fromkeys(levels, 4), 4, list(G)), {}
    features = neck({level: torch.randn(2, 4, 512 >> int(level[1]), 256 >> int(level[1])) for level in levels})
    in_the_pyramid, seen = seen, {}
    assert tuple(neck.upsampled_levels) == spec.upsampled_levels(levels)
    upsampled = feature_pairs.upsample_levels(G, neck.upsampled_levels, features)
    assert set(seen) == set(in_the_pyramid) == set(range(len(G)))
    assert all(in_the_pyramid[number] <= seen[number] for number in seen)
    repeated = feature_pairs.repeat_batch({level: torch.zeros(2, 4, 1, 1) for level in features}, upsampled)
    assert all(len(repeated[level]) == len(upsampled[level]) for level in features)


@pytest.mark.parametrize("name", PYRAMIDS)
def test_each_interpolator_moves(name):
    spec = pyramid_spec(name)
    levels = spec.backbone_levels or ("c2", "c3", "c4", "c5")
    G = nn.ModuleList(interpolator("deconv", 4) for _ in spec.upsampled_levels(levels))
    features = {f"p{i}": torch.randn(1, 4, 64 >> i, 64 >> i) for i in range(2, 7)}
    maps = feature_pairs.upsample_levels(G, spec.upsampled_levels(levels), features)
    sum(x.square().mean() for x in maps.values()).backward()
    assert all(p.grad is not None and p.grad.any() for p in G.parameters())


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_each_degradation_gives_another_small_image(marked, mode):
    image, target = torch.rand(3, 32, 48, generator=torch.Generator().manual_seed(0)), marked(32, 48)[1]
    (small,), _ = feature_pairs.downscale_batch([image], [target], DownscaleConfig(image_mode=mode))
    expected = {
        "nearest": image[:, ::2, ::2],
        "bilinear": image.view(3, 16, 2, 24, 2).mean((2, 4)),
    }
    assert small.shape == (3, 16, 24)
    assert all(torch.allclose(small, other, atol=1e-6) == (mode == name) for name, other in expected.items())
