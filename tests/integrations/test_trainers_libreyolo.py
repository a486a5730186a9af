"""LibreYOLO's own trainer, which trains the network in place unless the number of classes changes."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from featlift.upgrading import added_parameters, downgrade, is_upgraded, load_delta, save_delta, upgrade

libreyolo = pytest.importorskip("libreyolo")


def options(data: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "data": str(data),
        "epochs": 1,
        "batch": 2,
        "imgsz": 64,
        "workers": 0,
        "device": "cpu",
        "amp": False,
        "project": str(folder),
        "name": "run",
        "exist_ok": True,
        "lr0": 0.01,
        "eval_interval": 10,
        **changes,
    }


def upgraded_yolo9():
    """The object with an upgraded network, and its plain network."""
    detector = libreyolo.LibreYOLO9(None, size="t", nb_classes=3, device="cpu")
    plain = copy.deepcopy(detector.model)
    upgrade(detector.model, "light")
    return detector, plain


@pytest.fixture(scope="module")
def trained(yolo_data: Path, tmp_path_factory: pytest.TempPathFactory):
    """An upgraded detector after one epoch, its plain network, the added parameters before, and the checkpoint."""
    detector, plain = upgraded_yolo9()
    start = {name: x.clone() for name, x in added_parameters(detector.model).items()}
    folder = tmp_path_factory.mktemp("libreyolo")
    detector.train(**options(yolo_data, folder))
    return detector, plain, start, folder / "run/weights/last.pt"


def test_it_trains_in_place_predicts_and_comes_back_as_a_delta(trained, yolo_data: Path, tmp_path: Path):
    detector, plain, start, _ = trained
    assert is_upgraded(detector.model)
    assert any(not torch.equal(x.cpu(), start[name]) for name, x in added_parameters(detector.model).items())
    detector.model.disable_aux()  # a head that LibreYOLO adds for the training
    save_delta(detector.model, tmp_path / "delta")
    load_delta(plain, tmp_path / "delta")
    expected, actual = detector.model.eval().state_dict(), plain.state_dict()
    assert list(actual) == list(expected)
    assert all(torch.equal(x.cpu(), expected[name].cpu()) for name, x in actual.items())
    assert detector.predict(str(yolo_data.parent / "images/0.png"), imgsz=64, conf=0.001) is not None


class StartOfTraining:
    """Callback that remembers the first epoch and the added parameters at the start."""

    def __init__(self, network):
        self.network = network

    def on_train_start(self, event):
        self.epoch = event.start_epoch
        self.added = {name: x.detach().clone() for name, x in added_parameters(self.network).items()}


def test_it_resumes_from_its_own_checkpoint(trained, yolo_data: Path, tmp_path: Path):
    last = trained[-1]
    saved = torch.load(last, weights_only=False)["train_model"]
    plain = libreyolo.LibreYOLO9(None, size="t", nb_classes=3, device="cpu")
    with pytest.raises(
        RuntimeError, match=r"(?s)Cannot resume: model architecture mismatch.*Unexpected key.*up1\.added"
    ):
        plain.train(**options(yolo_data, tmp_path, resume=str(last), epochs=2))
    again, _ = upgraded_yolo9()
    start = StartOfTraining(again.model)
    again.train(**options(yolo_data, tmp_path, resume=str(last), epochs=2, callbacks=start))
    assert start.epoch == 2, "epochs count from 1"
    assert all(torch.equal(x, saved[name]) for name, x in start.added.items())
    assert any(not torch.equal(x, start.added[name]) for name, x in added_parameters(again.model).items())
    assert torch.load(tmp_path / "run/weights/last.pt", weights_only=False)["epoch"] == 1
    assert again.predict(str(yolo_data.parent / "images/0.png"), imgsz=64, conf=0.001) is not None


def test_a_network_that_is_built_again_would_drop_the_upgrade():
    detector = libreyolo.LibreYOLOX(None, size="n", nb_classes=5, device="cpu")
    upgrade(detector.model, "light")
    with pytest.raises(RuntimeError, match=r"_rebuild_for_new_classes would drop the upgrade.*nb_classes=…"):
        detector._rebuild_for_new_classes(3)
    assert is_upgraded(detector.model)
    downgrade(detector.model)
    detector._rebuild_for_new_classes(3)
    assert detector.nb_classes == 3
