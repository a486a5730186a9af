from dataclasses import replace

import pytest
import torch

from featlift.detectors import get_interpolators
from featlift.detectors.config import build_pyramid_interpolators
from featlift.interpolators.srf import SRF
from featlift.papers import afi_gan, srf_gan
from featlift.papers.afi_gan.settings import STAGES
from featlift.papers.srf_gan import Settings


def test_defaults_are_the_papers():
    paper = Settings()
    assert (paper.model.interpolator, paper.reuse) == ("srf", "M")
    assert (paper.adversarial.last_kernel, paper.adversarial.weight, paper.adversarial.backprop_to_generator) == (
        1,
        0.001,
        True,
    )
    assert paper.adversarial.levels == ("p2", "p3", "p4", "p5")
    assert (paper.interpolator.steps, paper.extractor.steps, paper.target.steps) == (150_000, 270_000, 90_000)
    assert paper.interpolator.optimizer.lr_at(120_000, 150_000) == pytest.approx(1e-4)
    assert paper.data.batch_size == 16


def test_official_is_afi_gans_code_with_srf_gans_networks():
    code, afi = Settings.official(), afi_gan.Settings.official()
    assert (code.model.interpolator, code.adversarial.last_kernel, code.adversarial.levels) == (
        "srf",
        1,
        ("p2", "p3", "p4", "p5"),
    )
    assert (code.adversarial.backprop_to_generator, code.downscale, code.data) == (False, afi.downscale, afi.data)
    assert all(getattr(code, stage) == getattr(afi, stage) for stage in STAGES)
    assert (code.extractor_init, code.reuse) == ("teacher", "G_from_M")


def test_quick_has_equal_steps_with_afi_gan():
    quick, afi = Settings.quick(), afi_gan.Settings.quick()
    assert [getattr(quick, s).steps for s in STAGES] == [getattr(afi, s).steps for s in STAGES]
    assert (quick.model.interpolator, quick.model.pyramid_channels, quick.reuse) == ("srf", 64, "M")


def test_parameters_of_both_ends():
    """Spec §1: 10,035,712 with the 3x3 end that fits the tables, 9,511,424 with the 1x1 end of the text."""
    for end, count in ((3, 10_035_712), (1, 9_511_424)):
        model = replace(Settings().model, interpolator_options={"last_kernel": end})
        (G,) = build_pyramid_interpolators(model)
        assert isinstance(G, SRF)
        assert sum(p.numel() for p in G.parameters()) == count


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_the_chain(settings, run, model, norm):
    config = settings("srf", model=model("srf", num_blocks=1, norm=norm), freeze_interpolator=True)
    assert isinstance(config, Settings)
    folder = run(config)
    M = srf_gan.train(config, folder, "extractor")
    learned = {name: value.clone() for name, value in get_interpolators(M).state_dict().items()}
    T = srf_gan.train(config, folder)
    interpolators = get_interpolators(T).state_dict()
    assert all(torch.equal(value, learned[name]) for name, value in interpolators.items())
    assert any("running_mean" in name for name in interpolators) == (norm == "batch")
    assert set(folder.stage_progress()) == {"teacher", "interpolator", "extractor", "target"}
