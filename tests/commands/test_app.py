import pytest

import featlift.commands.app as module
from featlift.baseline.settings import Settings
from featlift.cli.main import main
from featlift.detectors.checkpoint import save_detector
from featlift.detectors.config import build_detector


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "nearest"
    folder.mkdir()
    config = Settings.quick().model
    save_detector(build_detector(config, 1), config, ["sign"], folder)
    return folder


def test_the_page_has_the_detectors(run, monkeypatch):
    launched = []
    monkeypatch.setattr(module, "launch_page", lambda page, *options: launched.append((page, *options)))
    assert main(["app", str(run), str(run / "detector.safetensors"), "--port", "7999", "--device", "cpu"]) == 0
    page, *options = launched[0]
    labels = [getattr(block, "label", None) for block in page.blocks.values()]
    assert "Detection" in labels
    assert {str(run), str(run / "detector.safetensors")} <= set(labels)  # both have the name "nearest"
    assert options == ["127.0.0.1", 7999, False]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "Give one or two detectors"),
        (["a", "b", "c"], "given are 3 detectors"),
        (["a", "--generator", "g"], "needs the index"),
        (["no-such-run"], "no-such-run"),
        (["--index", "no-such-index"], "featlift index IMAGES --out no-such-index"),
    ],
)
def test_what_cannot_be_compared_is_said(words, sentence, capsys):
    assert main(["app", *words]) == 1
    assert sentence in capsys.readouterr().err
