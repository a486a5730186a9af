"""``featlift export`` of a run: its detector, its extractor, its interpolators."""

import pytest
import torch

from featlift.cli import main
from featlift.detectors.checkpoint import save_detector
from featlift.detectors.config import DetectorConfig, build_detector

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder of a Faster R-CNN whose pyramid has a pixel shuffle for each upsampling step."""
    folder = tmp_path_factory.mktemp("run")
    options = {"anchor_scale": 4.0, "fc_dim": 16, "num_proposals": 20}
    model = DetectorConfig(
        "faster-rcnn", "resnet10t", "random", "batch", 0,
        pyramid_channels=8, interpolator="pixel-shuffle", detector_options=options,
    )  # fmt: skip
    torch.manual_seed(0)
    save_detector(build_detector(model, 2), model, ["a", "b"], folder)
    return folder


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (["--part", "head"], "Unknown part 'head'; choose one of detector, extractor, interpolator", 2),
        (["--format", "torch-export", "--data", "scenes"], "use torch-export for its extractor", 1),
        (["--part", "extractor", "--format", "tflite"], "Unknown format 'tflite'", 2),
    ],
)
def test_what_does_not_exist(words, message, code, folder, capsys):
    assert main.main(["export", str(folder), *words]) == code
    assert message in capsys.readouterr().err
