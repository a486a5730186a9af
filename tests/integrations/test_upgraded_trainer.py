"""A trainer of the form of Ultralytics'; the real one is in test_trainers_ultralytics.py."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from featlift.integrations import upgraded_trainer
from featlift.upgrading import added_parameters, is_upgraded, load_delta, save_delta, upgrade


class Network(nn.Module):
    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.stem, self.up, self.head = nn.Conv2d(3, 4, 4, 4), nn.Upsample(scale_factor=2), nn.Conv2d(4, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, 3, H, W]`` → ``[B, K, H/2, W/2]``."""
        return self.head(self.up(self.stem(x)))


class Trainer:
    def __init__(self, classes: int = 2) -> None:
        self.classes = classes

    def get_model(self, cfg: Any = None, weights: nn.Module | None = None, verbose: bool = True) -> nn.Module:
        model = Network(self.classes)
        if weights is not None:
            own = model.state_dict()
            fitting = {k: x for k, x in weights.state_dict().items() if k in own and own[k].shape == x.shape}
            model.load_state_dict(fitting, strict=False)
        return model


@pytest.fixture
def upgraded() -> nn.Module:
    model = Network()
    upgrade(model, "light")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    return model


def same(a: nn.Module, b: nn.Module, prefix: str = "") -> bool:
    first, second = a.state_dict(), b.state_dict()
    return list(first) == list(second) and all(torch.equal(first[k], second[k]) for k in first if k.startswith(prefix))


def test_what_it_builds_is_upgraded(capsys: pytest.CaptureFixture[str]):
    trainer_class = upgraded_trainer(Trainer, "dysample", groups=2)
    assert trainer_class.__name__ == "UpgradedTrainer"
    assert issubclass(trainer_class, Trainer)
    model = trainer_class().get_model("net.yaml", verbose=False)
    assert is_upgraded(model)
    assert any("offset" in name for name in added_parameters(model))
    assert not capsys.readouterr().out
    trainer_class().get_model("net.yaml")
    assert "gated dysample" in capsys.readouterr().out
    assert not is_upgraded(Trainer().get_model())


def test_plain_weights_are_loaded_before_the_upgrade():
    weights = Network()
    model = upgraded_trainer(Trainer, "light")().get_model(weights=weights)
    image = torch.rand(1, 3, 16, 16)
    assert torch.equal(model(image), weights(image))


@pytest.mark.parametrize("name", ["light", ""])
def test_training_continues_with_the_added_weights(name: str, upgraded: nn.Module):
    model = upgraded_trainer(Trainer, name)().get_model(weights=upgraded)
    assert same(model, upgraded)


def test_a_delta_after_a_resume_is_relative_to_the_first_network(upgraded: nn.Module, tmp_path: Any):
    save_delta(upgraded, tmp_path / "first")
    model = upgraded_trainer(Trainer, "light")().get_model(weights=upgraded)
    save_delta(model, tmp_path / "resumed")
    fresh = Network()
    load_delta(fresh, tmp_path / "resumed")
    assert same(fresh, upgraded)


def test_other_classes_keep_the_added_weights(upgraded: nn.Module):
    model = upgraded_trainer(Trainer, "light")(classes=5).get_model(weights=upgraded)
    assert same(copy.deepcopy(model), model)
    for name, parameter in added_parameters(upgraded).items():
        assert torch.equal(parameter, model.get_parameter(name))
    assert model.head.weight.shape[0] == 5  # type: ignore[union-attr]


def test_another_upgrade_than_that_of_the_weights_is_refused(upgraded: nn.Module):
    message = r"have the upgrade \('light'\), the trainer asks for \('carafe', up_kernel=3\)\. Use upgraded_trainer\("
    with pytest.raises(ValueError, match=message):
        upgraded_trainer(Trainer, "carafe", up_kernel=3)().get_model(weights=upgraded)


@pytest.mark.parametrize("wrong", [nn.Module, Trainer(), "yolo11n.pt"])
def test_only_trainers_that_build_their_network(wrong: Any):
    with pytest.raises(TypeError, match="takes the class of a trainer that builds its network in get_model"):
        upgraded_trainer(wrong, "light")
