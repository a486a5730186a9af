"""``featlift export`` of a run: its detector, its extractor, its interpolators."""

import itertools

import pytest
import torch
from torch import nn

from featlift import checkpoints
from featlift.cli import main
from featlift.commands.export import export, select_check_images
from featlift.data.synthetic.scenes import SyntheticScenes
from featlift.interpolators import interpolator
from featlift.papers import baseline

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The detector file of a Faster R-CNN whose pyramid has a pixel shuffle for each step."""
    folder = tmp_path_factory.mktemp("run")
    options = {"anchor_scale": 4.0, "width": 16, "proposals": 20}
    model = baseline.DetectorConfig(
        "faster-rcnn", "resnet10t", "random", "batch", 0,
        pyramid_channels=8, interpolator="pixel-shuffle", detector_options=options,
    )  # fmt: skip
    torch.manual_seed(0)
    baseline.save_detector(baseline.build_detector(model, 2), model, ["a", "b"], folder)
    return folder


def test_interpolators_beside_the_run(folder):
    made = export(str(folder), part="interpolator")
    assert [one.path for one in made] == [folder / f"interpolator{i}.onnx" for i in range(3)]
    assert all(one.path.with_name(f"{one.path.name}.json").exists() for one in made)


def test_the_file_of_a_part(tmp_path):
    checkpoints.save(interpolator("light", 8), tmp_path / "G.safetensors")
    (made,) = export(str(tmp_path / "G.safetensors"), format="torch-export", out=str(tmp_path / "G.pt2"))
    x = torch.randn(1, 8, 3, 4)
    y = torch.export.load(made.path).module()(x)
    assert torch.equal(y, x.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_a_whole_detector(folder, tmp_path):
    (made,) = export(str(folder), data="scenes", out=str(tmp_path / "T.onnx"))
    assert made.path == tmp_path / "T.onnx"
    assert len(made.errors) == 2


def test_pictures_of_the_check():
    """Of two sizes; the first picture in which something is found, which is the third here."""
    scenes = SyntheticScenes(4, (130, 100))
    answers = iter([0, 0, 1])
    detector = FindsAsMany(answers)
    first, second = select_check_images(detector, scenes)
    assert first.shape == (3, 128, 96)
    assert second.shape == (3, 64, 96)
    assert torch.equal(first, scenes[2][0][:, :128, :96])


def test_a_detector_that_finds_nothing():
    with pytest.raises(ValueError, match="finds nothing in 20 pictures"):
        select_check_images(FindsAsMany(itertools.repeat(0)), SyntheticScenes(2, (64, 64)))


class FindsAsMany(nn.Module):
    """Finds as many objects in each picture as it was told."""

    def __init__(self, counts):
        super().__init__()
        self.counts = counts

    def forward(self, images):
        return [{"boxes": torch.zeros(next(self.counts), 4)}]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--part", "head"], "Unknown part 'head'; choose one of detector, extractor, interpolator"),
        (["--format", "torch-export", "--data", "scenes"], "torch-export can hold its extractor"),
        (["--part", "extractor", "--format", "tflite"], "Unknown format 'tflite'"),
    ],
)
def test_what_does_not_exist(words, told, folder, capsys):
    assert main.main(["export", str(folder), *words]) == 1
    assert told in capsys.readouterr().err
