from pathlib import Path

import pytest

from featlift.cli import main
from featlift.commands import benchmark as module
from featlift.commands.benchmark import DEFAULT_CANDIDATES


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("afi:alone", "ends in ':alone'"),
        ("aif", "Did you mean 'afi'"),
        ("afi afi", "Give each interpolator once"),
        ("afi --num-seeds 0", "at least one seed"),
        ("afi --preset fast", "Choose one of: paper, quick"),
    ],
)
def test_errors_are_a_sentence_and_leave_nothing(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main.main(["benchmark", *words.split()]) == 1
    assert message in capsys.readouterr().err
    assert not list(Path().iterdir())


def test_the_default_candidates_include_the_controls():
    assert DEFAULT_CANDIDATES[0] == "nearest:plain"
    assert {"nearest", "bilinear", "deconv", "dysample", "carafe"} < set(DEFAULT_CANDIDATES)


def test_ones_own_images_choose_the_preset_and_are_announced(coco, tmp_path, capsys, monkeypatch):
    def refuse(specs, settings, folder, *options):
        start = folder / "seed-0" / "start"
        start.mkdir(parents=True)
        (start / "settings.json").write_text("{}")
        raise ValueError("refused")

    monkeypatch.setattr(module, "run_benchmark", refuse)
    assert main.main(["benchmark", "nearest:plain", "--data", str(coco), "--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr()
    assert "preset finetune" in printed.out
    assert "nearest:plain: baseline: faster-rcnn, resnet50 (ImageNet weights)" in printed.out
    assert "refused" in printed.err
    assert not (tmp_path / "out").exists()
