"""``featlift profile`` of a small detector: sums are consistent, and the numbers agree with other counters."""

import pytest

from featlift.cli import main
from featlift.detectors.checkpoint import save_detector
from featlift.detectors.config import DetectorConfig, build_detector


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The run folder of a Faster R-CNN with 8 channels and one deconvolution for each step."""
    folder = tmp_path_factory.mktemp("run")
    model = DetectorConfig(
        "faster-rcnn", "test_resnet", "random", "batch", 0, pyramid_channels=8, interpolator="deconv",
        detector_options={"anchor_scale": 4.0, "fc_dim": 16, "num_proposals": 20},
    )  # fmt: skip
    save_detector(build_detector(model, 2), model, ["a", "b"], folder)
    return folder


def test_it_prints_both_tables_and_draws(folder, tmp_path, capsys):
    plot_file = tmp_path / "profile.png"
    words = [
        "profile",
        str(folder),
        "light",
        "nearest",
        "--image-size",
        "32x50",
        "--rounds",
        "1",
        "--plot-file",
        str(plot_file),
    ]
    assert main.main(words) == 0
    printed = capsys.readouterr().out
    assert "image of 32x50, resized to 32x64" in printed
    assert all(word in printed for word in ("backbone", "heads", "p5→p4", "light", "GMAC", str(plot_file)))
    assert "deconv" not in printed
    assert plot_file.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--image-size", "800x"], "'800x' is not a size; write HEIGHTxWIDTH"),
        (["--image-size", "0x5"], "'0x5' is not a size"),
        (["afii"], "Unknown interpolator 'afii'"),
    ],
)
def test_what_does_not_exist(words, message, folder, capsys):
    assert main.main(["profile", str(folder), *words]) == 1
    assert message in capsys.readouterr().err
