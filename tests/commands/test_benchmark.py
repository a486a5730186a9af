from pathlib import Path

import pytest

from featlift.cli import main
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
