"""Laws over the whole table of pyramids."""

import pytest
import torch

from featlift.checkpoints import load, save
from featlift.interpolators import INTERPOLATORS, NearestInterpolator, build_interpolators
from featlift.pyramids import PYRAMIDS, pyramid, pyramid_spec

CHANNELS = 8
SMALL = {"afi": {"blocks": 1, "growth": 2}, "srf": {"blocks": 1}, "afi-rb": {"blocks": 1}}


def backbone_maps(levels, height, width):
    return {name: torch.randn(2, 3, -(-height // 2 ** int(name[1])), -(-width // 2 ** int(name[1]))) for name in levels}


@pytest.mark.parametrize(
    ("interpolator", "shared"), [*((name, True) for name in INTERPOLATORS), ("afi", False), ("deconv", False)]
)
@pytest.mark.parametrize("name", PYRAMIDS)
def test_every_pyramid_with_every_interpolator(name, interpolator, shared):
    levels = pyramid_spec(name).backbone_levels or ("c2", "c3", "c4", "c5")
    steps = 1 if shared else pyramid_spec(name).num_upsampling_steps(len(levels))
    options = SMALL.get(interpolator, {})
    doubling = [build_interpolators(interpolator, CHANNELS, 1, **options)[0] for _ in range(steps)]
    neck = pyramid(name, dict.fromkeys(levels, 3), CHANNELS, doubling)
    given = backbone_maps(levels, 40, 72)
    out = neck(given)
    assert tuple(out) == neck.levels
    for level in given:
        assert out[f"p{level[1:]}"].shape == (2, CHANNELS, *given[level].shape[-2:])
    sum(x.square().mean() for x in out.values()).backward()
    idle = [key for key, p in neck.named_parameters() if p.grad is None]
    assert not idle


def test_without_laterals_only_the_coarsest_map_counts():
    torch.manual_seed(0)
    neck = pyramid("fpn-top-down", {"c2": 3, "c3": 3, "c4": 3, "c5": 3}, CHANNELS, [NearestInterpolator(CHANNELS)])
    maps = backbone_maps(neck.in_channels, 64, 64)
    before = neck(maps)
    for level in ("c2", "c3", "c4"):
        torch.testing.assert_close(neck({**maps, level: maps[level] + 1}), before)
    assert not torch.equal(neck({**maps, "c5": maps["c5"] + 1})["p2"], before["p2"])


@pytest.mark.parametrize("name", PYRAMIDS)
def test_saved_and_built_again(name, tmp_path):
    levels = pyramid_spec(name).backbone_levels or ("c2", "c3")
    neck = pyramid(
        name, dict.fromkeys(levels, 3), CHANNELS, build_interpolators("afi", CHANNELS, 1, **SMALL["afi"])
    ).eval()
    save(neck, tmp_path / "neck.safetensors")
    again = load(tmp_path / "neck.safetensors").eval()
    maps = backbone_maps(levels, 64, 64)
    torch.testing.assert_close(again(maps), neck(maps), rtol=0, atol=0)


def test_unknown_names_are_answered():
    with pytest.raises(ValueError, match="Did you mean 'bifpn'"):
        pyramid("bifp", {}, 4, [])
