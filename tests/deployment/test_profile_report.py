"""Cost of the parts of a small detector: sums are consistent, and the numbers agree with other counters."""

import pytest

from featlift.commands.profile import profile
from featlift.deployment.profile_report import PartProfile, ProfileReport, estimate_detector_latency, sum_profiles
from featlift.detectors.checkpoint import load_detector, save_detector
from featlift.detectors.config import DetectorConfig, build_detector
from featlift.interpolators import interpolator

NAMES = ("nearest", "light", "deconv")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The run folder of a Faster R-CNN with 8 channels and one deconvolution for each step."""
    folder = tmp_path_factory.mktemp("run")
    model = DetectorConfig(
        "faster-rcnn", "resnet10t", "random", "batch", 0, pyramid_channels=8, interpolator="deconv",
        detector_options={"anchor_scale": 4.0, "fc_dim": 16, "num_proposals": 20},
    )  # fmt: skip
    save_detector(build_detector(model, 2), model, ["a", "b"], folder)
    return folder


@pytest.fixture(scope="module")
def report(folder, tmp_path_factory) -> ProfileReport:
    """Profile with an image of 64x96 px, in which maps of 2x3, 4x6 and 8x12 cells are upsampled by 2."""
    return profile(str(folder), "64x96", interpolators=NAMES, rounds=1, plot_file="")


def test_parts_are_those_of_the_detector(report, folder):
    now = {row.name.strip(): row for row in report.parts}
    detector = load_detector(folder)[0]
    assert list(now) == ["backbone", "pyramid", "p5→p4", "p4→p3", "p3→p2", "heads", "whole"]
    own = {"backbone": detector.backbone.backbone, "pyramid": detector.backbone.pyramid, "whole": detector}
    for name, module in own.items():
        assert now[name].num_parameters == sum(p.numel() for p in module.parameters())
    assert sum(now[name].num_parameters for name in ("backbone", "pyramid", "heads")) == now["whole"].num_parameters
    assert sum(now[name].gmacs for name in ("backbone", "pyramid", "heads")) == pytest.approx(now["whole"].gmacs)
    assert all(row.latency_ms > 0 and row.peak_memory_mb > 0 for row in report.parts)
    assert now["whole"].peak_memory_mb >= now["p3→p2"].peak_memory_mb >= 8 * 16 * 24 * 4 / 1e6


def test_the_current_steps_cost_as_much_as_new_ones_of_the_same_interpolator(report):
    now = [row for row in report.parts if "→" in row.name]
    for current, new in zip(now, report.interpolators["deconv"], strict=True):
        assert current.name.strip() == new.name
        assert (current.num_parameters, current.gmacs) == (new.num_parameters, new.gmacs)


def test_each_interpolator_upsamples_the_same_maps(report):
    cells = 6 + 24 + 96
    light, deconv = interpolator("light", 8), interpolator("deconv", 8)
    total = {name: sum_profiles(rows, name) for name, rows in report.interpolators.items()}
    assert list(total) == list(NAMES)
    assert total["nearest"].num_parameters == total["nearest"].gmacs == 0
    assert total["light"].num_parameters == sum(p.numel() for p in light.parameters())
    assert total["deconv"].num_parameters == 3 * sum(p.numel() for p in deconv.parameters())
    assert total["light"].gmacs == pytest.approx(cells * (8 * 32 + 9 * 32 * 32 + 9 * 32 * 128 + 4 * 32 * 8) / 1e9)
    assert total["deconv"].gmacs == pytest.approx(cells * (36 * 64 + 4 * 9 * 64) / 1e9)


def test_the_whole_with_another_interpolator_by_hand():
    row = lambda name, milliseconds: PartProfile(name, 0, 0.0, milliseconds, 0.0)  # noqa: E731
    report = ProfileReport((row("pyramid", 20), row("  p4→p3", 5), row("  p3→p2", 7), row("whole", 100)), {})
    assert estimate_detector_latency(report, [row("p4→p3", 1), row("p3→p2", 2)]) == 100 - 12 + 3
