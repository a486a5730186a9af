"""A COCO folder of two and two pictures, and two detectors that were trained on it for a step, by the command line."""

import pytest

from featlift.cli import main

TINY = [
    "--data.batch_size", "2", "--train.steps", "1", "--model.pyramid_channels", "8", "--device", "cpu",
    "--model.detector_options", '{"anchor_scale": 4.0, "width": 16, "proposals": 20}',
]  # fmt: skip


@pytest.fixture(scope="session")
def coco(tmp_path_factory):
    """The folder, written by ``featlift data make``."""
    folder = tmp_path_factory.mktemp("pictures") / "coco"
    assert main.main(["data", "make", str(folder), "--train", "2", "--val", "2", "--side", "64"]) == 0
    return folder


@pytest.fixture(scope="session")
def trained(coco, tmp_path_factory):
    """Run folders by the name of their interpolator."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("nearest", "bilinear"):
        words = ["--run", str(folder / name), "--data", str(coco), "--model.interpolator", name, *TINY]
        assert main.main(["train", "baseline", *words]) == 0
    return {name: folder / name for name in ("nearest", "bilinear")}
