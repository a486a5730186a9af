"""Laws over the whole table of pyramids."""

import pytest
import torch

from featlift.checkpoints import load, save
from featlift.interpolators import GUIDED_INTERPOLATORS, INTERPOLATORS, NearestInterpolator, build_interpolators
from featlift.pyramids import PYRAMIDS, pyramid, pyramid_spec

CHANNELS = 8
SMALL = {"afi": {"num_blocks": 1, "growth_rate": 2}, "srf": {"num_blocks": 1}, "afi-rb": {"num_blocks": 1}}


def backbone_maps(levels, height, width):
    return {name: torch.randn(2, 3, -(-height // 2 ** int(name[1])), -(-width // 2 ** int(name[1]))) for name in levels}


@pytest.mark.parametrize(
    ("interpolator", "shared"), [*((name, True) for name in INTERPOLATORS), ("afi", False), ("deconv", False)]
)
@pytest.mark.parametrize("name", PYRAMIDS)
def test_every_pyramid_with_every_interpolator(name, interpolator, shared):
    if name == "fpn-no-lateral" and interpolator in GUIDED_INTERPOLATORS:
        pytest.skip("refused: test_without_laterals_a_guided_interpolator_is_refused")
    levels = pyramid_spec(name).backbone_levels or ("c2", "c3", "c4", "c5")
    steps = 1 if shared else len(pyramid_spec(name).upsampled_levels(levels))
    options = SMALL.get(interpolator, {})
    interpolators = [build_interpolators(interpolator, CHANNELS, 1, **options)[0] for _ in range(steps)]
    neck = pyramid(name, dict.fromkeys(levels, 3), CHANNELS, interpolators)
    inputs = backbone_maps(levels, 40, 72)
    out = neck(inputs)
    assert tuple(out) == neck.levels
    for level in inputs:
        assert out[f"p{level[1:]}"].shape == (2, CHANNELS, *inputs[level].shape[-2:])
    sum(x.square().mean() for x in out.values()).backward()
    without_gradient = [key for key, p in neck.named_parameters() if p.grad is None]
    assert not without_gradient


def test_without_laterals_only_the_coarsest_map_counts():
    torch.manual_seed(0)
    neck = pyramid("fpn-no-lateral", {"c2": 3, "c3": 3, "c4": 3, "c5": 3}, CHANNELS, [NearestInterpolator(CHANNELS)])
    maps = backbone_maps(neck.in_channels, 64, 64)
    before = neck(maps)
    for level in ("c2", "c3", "c4"):
        torch.testing.assert_close(neck({**maps, level: maps[level] + 1}), before)
    assert not torch.equal(neck({**maps, "c5": maps["c5"] + 1})["p2"], before["p2"])


@pytest.mark.parametrize("interpolator", GUIDED_INTERPOLATORS)
def test_without_laterals_a_guided_interpolator_is_refused(interpolator):
    with pytest.raises(ValueError, match="reads the lateral map of the finer level, and a NoLateralFPN has no lateral"):
        pyramid("fpn-no-lateral", {"c4": 3, "c5": 3}, CHANNELS, build_interpolators(interpolator, CHANNELS, 1))


@pytest.mark.parametrize("name", [name for name in PYRAMIDS if name != "fpn-no-lateral"])
def test_the_guide_of_each_step_is_the_map_it_is_added_to(name):
    """In BiFPN, the input of the fusion; all sizes fit."""

    class Recording(NearestInterpolator):
        needs_guide = True

        def forward(self, x, guide=None):
            y = super().forward(x)
            assert guide.shape == y.shape
            guides.append(guide)
            return y

    levels, guides = pyramid_spec(name).backbone_levels or ("c2", "c3", "c4", "c5"), []
    neck, maps = (
        pyramid(name, dict.fromkeys(levels, 3), CHANNELS, [Recording(CHANNELS)]),
        backbone_maps(levels, 128, 256),
    )
    neck(maps)
    assert len(guides) == len(pyramid_spec(name).upsampled_levels(levels))
    if "bifpn" not in name:
        laterals = [block(c) for block, c in zip(neck.inner_blocks, maps.values(), strict=True)]
        assert all(torch.equal(a, b) for a, b in zip(guides, laterals[-2::-1], strict=True))


@pytest.mark.parametrize("name", PYRAMIDS)
def test_saved_and_built_again(name, tmp_path):
    levels = pyramid_spec(name).backbone_levels or ("c2", "c3")
    neck = pyramid(
        name, dict.fromkeys(levels, 3), CHANNELS, build_interpolators("afi", CHANNELS, 1, **SMALL["afi"])
    ).eval()
    save(neck, tmp_path / "neck.safetensors")
    loaded = load(tmp_path / "neck.safetensors").eval()
    maps = backbone_maps(levels, 64, 64)
    torch.testing.assert_close(loaded(maps), neck(maps), rtol=0, atol=0)


def test_unknown_names_are_answered():
    with pytest.raises(ValueError, match="Did you mean 'bifpn'"):
        pyramid("bifp", {}, 4, [])
