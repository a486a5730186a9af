"""``featlift cost`` on a small detector: what adds up must, and the numbers are those of other counters."""

import pytest

from featlift.cli import main
from featlift.commands.profile import PartProfile, ProfileReport, estimate_detector_latency, profile, sum_profiles
from featlift.interpolators import interpolator
from featlift.papers import baseline

NAMES = ("nearest", "light", "deconv")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The run folder of a Faster R-CNN with 8 channels and one deconvolution for each step."""
    folder = tmp_path_factory.mktemp("run")
    model = baseline.DetectorConfig(
        "faster-rcnn", "resnet10t", "random", "batch", 0, pyramid_channels=8, interpolator="deconv",
        detector_options={"anchor_scale": 4.0, "width": 16, "proposals": 20},
    )  # fmt: skip
    baseline.save_detector(baseline.build_detector(model, 2), model, ["a", "b"], folder)
    return folder


@pytest.fixture(scope="module")
def costs(folder, tmp_path_factory) -> ProfileReport:
    """Of a picture of 64x96 px, in which maps of 2x3, 4x6 and 8x12 cells are doubled."""
    return profile(str(folder), "64x96", interpolators=NAMES, rounds=1, plot_file="")


def test_parts_are_those_of_the_detector(costs, folder):
    now = {row.name.strip(): row for row in costs.parts}
    detector = baseline.load_detector(folder)[0]
    assert list(now) == ["backbone", "pyramid", "p5→p4", "p4→p3", "p3→p2", "heads", "whole"]
    own = {"backbone": detector.backbone.backbone, "pyramid": detector.backbone.pyramid, "whole": detector}
    for name, module in own.items():
        assert now[name].parameters == sum(p.numel() for p in module.parameters())
    assert sum(now[name].parameters for name in ("backbone", "pyramid", "heads")) == now["whole"].parameters
    assert sum(now[name].gmac for name in ("backbone", "pyramid", "heads")) == pytest.approx(now["whole"].gmac)
    assert all(row.milliseconds > 0 and row.megabytes > 0 for row in costs.parts)
    assert now["whole"].megabytes >= now["p3→p2"].megabytes >= 8 * 16 * 24 * 4 / 1e6


def test_what_is_there_now_is_what_the_same_interpolator_would_be(costs):
    now = [row for row in costs.parts if "→" in row.name]
    for there, again in zip(now, costs.doublings["deconv"], strict=True):
        assert there.name.strip() == again.name
        assert (there.parameters, there.gmac) == (again.parameters, again.gmac)


def test_each_interpolator_does_the_same_doublings(costs):
    cells = 6 + 24 + 96
    light, deconv = interpolator("light", 8), interpolator("deconv", 8)
    of = {name: sum_profiles(rows, name) for name, rows in costs.doublings.items()}
    assert list(of) == list(NAMES)
    assert of["nearest"].num_parameters == of["nearest"].gmacs == 0
    assert of["light"].num_parameters == sum(p.numel() for p in light.parameters())
    assert of["deconv"].num_parameters == 3 * sum(p.numel() for p in deconv.parameters())
    assert of["light"].gmacs == pytest.approx(cells * (8 * 32 + 9 * 32 * 32 + 9 * 32 * 128 + 4 * 32 * 8) / 1e9)
    assert of["deconv"].gmacs == pytest.approx(cells * (36 * 64 + 4 * 9 * 64) / 1e9)


def test_the_whole_with_another_interpolator_by_hand():
    row = lambda name, milliseconds: PartProfile(name, 0, 0.0, milliseconds, 0.0)  # noqa: E731
    costs = ProfileReport((row("pyramid", 20), row("  p4→p3", 5), row("  p3→p2", 7), row("whole", 100)), {})
    assert estimate_detector_latency(costs, [row("p4→p3", 1), row("p3→p2", 2)]) == 100 - 12 + 3


def test_it_prints_both_tables_and_draws(folder, tmp_path, capsys):
    picture = tmp_path / "cost.png"
    words = ["cost", str(folder), "light", "nearest", "--size", "32x50", "--rounds", "1", "--picture", str(picture)]
    assert main.main(words) == 0
    printed = capsys.readouterr().out
    assert "a picture of 32x50, which it sees as 32x64" in printed
    assert all(word in printed for word in ("backbone", "heads", "p5→p4", "light", "GMAC", str(picture)))
    assert "deconv" not in printed
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--size", "800"], "'800' is no size; write HEIGHTxWIDTH"),
        (["--size", "0x5"], "'0x5' is no size"),
        (["afii"], "Unknown interpolator 'afii'"),
    ],
)
def test_what_does_not_exist(words, told, folder, capsys):
    assert main.main(["cost", str(folder), *words]) == 1
    assert told in capsys.readouterr().err
