"""The whole demo on a few scenes of 64 px, two steps per stage."""

import json
from dataclasses import replace

import pytest

from featlift.evaluation.bootstrap import ConfidenceInterval
from featlift.evaluation.comparison import Comparison
from featlift.evaluation.object_changes import ObjectChanges
from featlift.experiments import demonstration
from featlift.experiments.demonstration import describe_change, describe_objects, run_demo
from featlift.experiments.level_comparison import ENLARGED, EXTENDED, PLAIN


@pytest.fixture
def tiny(monkeypatch):
    data = demonstration.demo_data_config

    def tiny_data(seed):
        return replace(
            data(seed), batch_size=2, num_scenes=4, scene_size=64, num_val_scenes=2, min_size=(64, 96), crop_size=64
        )

    monkeypatch.setattr(demonstration, "demo_data_config", tiny_data)


def test_both_parts_start_from_one_detector_and_are_reported(tiny, tmp_path, capsys):
    content = run_demo(tmp_path, 3, 0.001, "cpu")
    saved = json.loads((tmp_path / "result.json").read_text())
    assert saved["seed"] == content["seed"] == 3
    assert saved["steps"] == {"detector": 1, "level": 1}
    assert list(saved["level"]["metrics"]) == [PLAIN, EXTENDED, ENLARGED]
    assert list(saved["level"]["comparisons"]) == [EXTENDED, ENLARGED]
    assert all(value > 0 for value in saved["level"]["milliseconds"].values())
    start = saved["afi_gan"]["nearest"]["settings"]["init_from"]
    assert (
        start
        == saved["afi_gan"]["afi-gan"]["settings"]["teacher_from"]
        == str(tmp_path / "detector/detector.safetensors")
    )
    page = (tmp_path / "report.html").read_text()
    for text in (
        PLAIN,
        EXTENDED,
        ENLARGED,
        "Milliseconds per image",
        'href="level/report.html"',
        'href="afi-gan-stages/report.html"',
    ):
        assert text in page
    assert (tmp_path / "level" / "report.html").exists()
    assert (tmp_path / "afi-gan-stages" / "report.html").exists()
    assert str(tmp_path / "report.html") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [((0.01, 0.03), "is higher"), ((-0.03, -0.01), "is lower"), ((-0.01, 0.03), "does not differ beyond chance")],
)
def test_the_page_says_what_the_interval_shows(ends, verdict):
    interval = ConfidenceInterval(sum(ends) / 2, *ends, 0.95)
    comparison = Comparison("a", "b", {"boxes": {"ap_small": interval}}, ObjectChanges([], (0.4, 0.4), (7, 9)))
    assert f"AP small {verdict}: " in describe_change(comparison, "ap_small", "AP small")
    assert "at a score of 0.40; false positives 7 → 9" in describe_objects(comparison)
