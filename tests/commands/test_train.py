import json
from types import SimpleNamespace

import pytest
import torch

import featlift
from featlift.baseline import Settings
from featlift.cli import main
from featlift.data.config import build_dataset
from featlift.papers import fsr_gan
from featlift.papers.registry import PAPERS
from featlift.runs.options import RunOptions


def test_the_same_command_again_only_loads(trained, coco, capsys):
    settings = json.loads((trained["nearest"] / "settings.json").read_text())
    written = (trained["nearest"] / "log.jsonl").read_text()
    words = [
        "--run",
        str(trained["nearest"]),
        "--data",
        str(coco),
        "--preset=quick",
        "--model.backbone=test_resnet",
        "--data.batch_size=2",
        "--train.steps=1",
        "--device=cpu",
    ]
    words += [
        "--model.pyramid_channels=8",
        f"--model.detector_options={json.dumps(settings['model']['detector_options'])}",
    ]
    assert main.main(["train", "baseline", *words]) == 0
    assert "train is finished" in capsys.readouterr().out
    assert (trained["nearest"] / "log.jsonl").read_text() == written


def test_other_settings_in_the_same_folder_are_refused(trained, coco, capsys):
    words = ["--preset", "quick", "--run", str(trained["nearest"]), "--data", str(coco), "--device", "cpu"]
    assert main.main(["train", "baseline", *words]) == 1
    printed = capsys.readouterr().err
    assert "train.steps: 1 stored, 600 given" in printed
    assert "Traceback" not in printed


class Squares(torch.utils.data.Dataset):
    """torchvision's contract: a bright square in each image."""

    classes = ("square",)

    def __len__(self):
        return 4

    def __getitem__(self, index):
        image = torch.full((3, 48, 48), 0.2)
        image[:, 8:24, 8 + index : 24 + index] = 0.9
        return image, {"boxes": torch.tensor([[8.0 + index, 8, 24 + index, 24]]), "labels": torch.tensor([1])}


def test_a_dataset_of_python_is_trained_on(data, stage, model, tmp_path, monkeypatch):
    """A paper that answers with the images of its settings."""

    def run(settings, run, stop_after, name):
        return [build_dataset(settings.data, split) for split in ("train", "val")]

    paper = SimpleNamespace(describe=lambda settings, stop_after: "squares", run=run)
    monkeypatch.setitem(PAPERS, "baseline", paper)
    settings, options = Settings(model("nearest"), data(), stage()), RunOptions(tmp_path / "run", device="cpu")
    train, val = featlift.train("baseline", settings, options, Squares())
    assert (len(train), len(val), train.classes) == (3, 1, ["square"])
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["data"]["root"] == "python:run"
    train, val = featlift.train("baseline", settings, options, {"train": Squares(), "val": Squares()}, ["box"])
    assert (len(train), len(val), val.classes) == (4, 4, ["box"])


def test_a_paper_without_objects_takes_no_datasets(tmp_path):
    with pytest.raises(ValueError, match="fsr-gan is not trained on images with objects"):
        featlift.train("fsr-gan", fsr_gan.Settings(), RunOptions(tmp_path / "run"), Squares())
