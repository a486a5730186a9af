"""Exported parts of a run."""

import itertools

import pytest
import torch
from torch import nn

from featlift import checkpoints
from featlift.commands.export import export
from featlift.data.synthetic.scenes import SyntheticScenes
from featlift.deployment.export_parts import select_check_images
from featlift.detectors.checkpoint import save_detector
from featlift.detectors.config import DetectorConfig, build_detector
from featlift.interpolators import interpolator


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


def test_interpolators_in_the_run_folder(folder):
    results = export(str(folder), part="interpolator")
    assert [result.path for result in results] == [folder / f"interpolator{i}.onnx" for i in range(3)]
    assert all(result.path.with_name(f"{result.path.name}.json").exists() for result in results)


def test_the_file_of_a_part(tmp_path):
    checkpoints.save(interpolator("light", 8), tmp_path / "G.safetensors")
    (result,) = export(str(tmp_path / "G.safetensors"), format="torch-export", out=str(tmp_path / "G.pt2"))
    x = torch.randn(1, 8, 3, 4)
    y = torch.export.load(result.path).module()(x)
    assert torch.equal(y, x.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_a_whole_detector(folder, tmp_path):
    (result,) = export(str(folder), data="scenes", out=str(tmp_path / "T.onnx"))
    assert result.path == tmp_path / "T.onnx"
    assert len(result.errors) == 2


def test_the_check_images():
    """Two sizes; the first image with detections, here the third."""
    scenes = SyntheticScenes(4, (130, 100))
    counts = iter([0, 0, 1])
    detector = FixedCounts(counts)
    first, second = select_check_images(detector, scenes)
    assert first.shape == (3, 128, 96)
    assert second.shape == (3, 64, 96)
    assert torch.equal(first, scenes[2][0][:, :128, :96])


def test_a_detector_that_finds_nothing():
    with pytest.raises(ValueError, match="has no detections in 20 images"):
        select_check_images(FixedCounts(itertools.repeat(0)), SyntheticScenes(2, (64, 64)))


class FixedCounts(nn.Module):
    """Detector that returns a fixed number of boxes for each image."""

    def __init__(self, counts):
        super().__init__()
        self.counts = counts

    def forward(self, images):
        return [{"boxes": torch.zeros(next(self.counts), 4)}]
