import pickle
import sys
import types
from typing import Any

import pytest
from torch import nn

from featlift.upgrading.rebuild_guards import KEEPS_UPGRADE, REBUILD_GUARDS, guard_rebuilds
from featlift.upgrading.upgrade import downgrade, upgrade


class Trainer:
    def get_model(self) -> None: ...


Trainer.get_model.__module__ = "ultralytics.models.yolo.detect.train"


@pytest.fixture
def model_class(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A class in the place of ``ultralytics.engine.model.Model``."""

    class Model:
        def __init__(self, model: nn.Module) -> None:
            self.model = model

        def train(self, trainer: Any = None, epochs: int = 1) -> tuple[Any, int]:
            """Original docstring."""
            return trainer, epochs

    module = types.ModuleType("ultralytics.engine.model")
    module.Model = Model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ultralytics.engine.model", module)
    return Model


def test_training_of_an_upgraded_network_is_refused(model_class: Any, yolo: nn.Module):
    upgrade(yolo, "light")
    model = model_class(yolo)
    message = r"Model\.train would drop the upgrade of this Yolo.*upgraded_trainer\(.*or featlift\.downgrade"
    for arguments in ((), (Trainer,)):
        with pytest.raises(RuntimeError, match=message):
            model.train(*arguments)
    assert model.train.__doc__ == "Original docstring."
    downgrade(yolo)
    assert model.train(Trainer, epochs=3) == (Trainer, 3)


def test_a_network_from_a_pickle_is_guarded(
    yolo: nn.Module, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
):
    upgrade(yolo, "light")
    data = pickle.dumps(yolo)
    model_class = request.getfixturevalue("model_class")
    loaded = pickle.loads(data)
    with pytest.raises(RuntimeError, match="would drop the upgrade"):
        model_class(loaded).train(epochs=2)


def test_trainers_that_keep_the_upgrade_and_own_ones_are_accepted(model_class: Any, yolo: nn.Module):
    upgrade(yolo, "light")
    keeps = type("Keeps", (Trainer,), {KEEPS_UPGRADE: True})
    own = type("Own", (Trainer,), {"get_model": lambda self: None})
    for trainer in (keeps, own):
        assert model_class(yolo).train(trainer=trainer) == (trainer, 1)


def test_a_class_is_guarded_once_and_others_not_at_all(model_class: Any):
    guard_rebuilds(lambda network: False)
    first = model_class.train
    guard_rebuilds(lambda network: False)
    assert model_class.train is first
    assert model_class("yolo11n.onnx").train() == (None, 1)


def test_a_library_without_the_method_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    for guard in REBUILD_GUARDS:
        monkeypatch.setitem(sys.modules, guard.module, types.ModuleType(guard.module))
    guard_rebuilds(lambda network: True)
