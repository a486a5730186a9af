"""Ultralytics' own trainer, validator, predictor and exporter with an upgraded network."""

import copy
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch

from featlift.integrations import upgraded_trainer
from featlift.upgrading import added_parameters, downgrade, is_upgraded, load_delta, save_delta, upgrade

ultralytics = pytest.importorskip("ultralytics")
from ultralytics.models.yolo.detect import DetectionTrainer  # noqa: E402

TINY = """
nc: 3
backbone:
  - [-1, 1, Conv, [8, 3, 4]]
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [8, 3, 2]]
head:
  - [-1, 1, nn.Upsample, [None, 2, nearest]]
  - [[-1, 1], 1, Concat, [1]]
  - [-1, 1, Conv, [8, 1, 1]]
  - [[5, 2], 1, Detect, [nc]]
"""


class Stop(Exception):
    pass


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The YAML file of a YOLO with maps of strides 8 and 16."""
    path = tmp_path_factory.mktemp("model") / "tiny.yaml"
    path.write_text(TINY)
    return str(path)


@pytest.fixture(scope="module")
def options(yolo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return {
        "data": str(yolo_data),
        "epochs": 2,
        "batch": 2,
        "imgsz": 64,
        "workers": 0,
        "device": "cpu",
        "plots": False,
        "project": str(tmp_path_factory.mktemp("runs")),
        "verbose": False,
        "optimizer": "AdamW",
        "lr0": 0.01,
        "nbs": 2,
    }


@pytest.fixture(scope="module")
def trained(tiny: str, options: dict[str, Any]) -> Any:
    """A YOLO after two epochs: the first was interrupted, the second resumed."""

    def stop(trainer: Any) -> None:
        raise Stop

    yolo = ultralytics.YOLO(tiny)
    yolo.add_callback("on_model_save", stop)
    trainer_class = upgraded_trainer(DetectionTrainer, "light")
    with pytest.raises(Stop):
        yolo.train(trainer=trainer_class, name="resumed", **options)
    last = Path(options["project"]) / "resumed/weights/last.pt"
    yolo = ultralytics.YOLO(last)
    interrupted = copy.deepcopy(yolo.model.state_dict())
    resumed_epochs: list[int] = []
    yolo.add_callback("on_train_epoch_start", lambda trainer: resumed_epochs.append(trainer.epoch))
    yolo.train(trainer=trainer_class, resume=True)
    assert resumed_epochs == [1]
    yolo.interrupted = {name: x.float() for name, x in interrupted.items()}
    return yolo


def test_the_added_weights_are_trained_averaged_and_saved(trained: Any):
    assert is_upgraded(trained.model)
    added = added_parameters(trained.model)
    assert added
    assert all(x.abs().sum() > 0 for x in added.values())
    assert all(not torch.equal(x, trained.interrupted[name]) for name, x in added.items())
    assert is_upgraded(trained.trainer.ema)
    optimized = {id(p) for group in trained.trainer.optimizer.param_groups for p in group["params"]}
    assert all(id(p) in optimized for p in added_parameters(trained.trainer.model).values())
    for name in ("best.pt", "last.pt"):
        loaded = ultralytics.YOLO(trained.trainer.wdir / name).model
        assert list(added_parameters(loaded)) == list(added)


def test_checkpoints_have_no_second_copy_of_the_weights(trained: Any, tmp_path: Path):
    size = trained.trainer.best.stat().st_size
    state = torch.load(trained.trainer.best, weights_only=False)["model"]
    downgrade(state, state.state_dict())
    torch.save({"model": state}, tmp_path / "plain.pt")
    added = sum(2 * p.numel() for p in added_parameters(trained.model).values())
    assert size < (tmp_path / "plain.pt").stat().st_size + added + 30_000


def test_validation_prediction_and_export(trained: Any, yolo_data: Path):
    image = str(yolo_data.parent / "images/0.png")
    metrics = trained.val(data=str(yolo_data), imgsz=64, workers=0, device="cpu", plots=False, verbose=False)
    assert 0 <= metrics.box.map <= 1
    assert len(trained.predict(image, imgsz=64, conf=0.0, device="cpu", verbose=False)[0].boxes) > 0
    scripted = trained.export(format="torchscript", imgsz=64, device="cpu", verbose=False)
    onnx = trained.export(format="onnx", imgsz=64, device="cpu", simplify=False, verbose=False)
    x = torch.rand(1, 3, 64, 64)
    expected = trained.model.eval()(x)[0]
    torch.testing.assert_close(torch.jit.load(scripted)(x), expected, atol=1e-3, rtol=1e-3)
    (answer,) = onnxruntime.InferenceSession(onnx).run(None, {"images": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(answer), expected, atol=1e-3, rtol=1e-3)
    assert len(ultralytics.YOLO(onnx, task="detect").predict(image, imgsz=64, conf=0.0, verbose=False)[0].boxes) > 0


def test_a_delta_of_the_trained_network(trained: Any, tiny: str, tmp_path: Path):
    save_delta(trained.model, tmp_path / "delta")
    fresh = ultralytics.YOLO(tiny).model
    load_delta(fresh, tmp_path / "delta")
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(fresh.eval()(image)[0], trained.model.eval()(image)[0])


def test_training_continues_from_an_upgraded_checkpoint(trained: Any, options: dict[str, Any]):
    trainer = upgraded_trainer(DetectionTrainer)(overrides={**options, "model": str(trained.trainer.best)})
    model = trainer.get_model(cfg=trained.model.yaml, weights=trained.model)
    expected = trained.model.state_dict()
    assert list(model.state_dict()) == list(expected)
    assert all(torch.equal(x, expected[name]) for name, x in model.state_dict().items())
    other = upgraded_trainer(DetectionTrainer, "carafe")(overrides={**options, "model": str(trained.trainer.best)})
    with pytest.raises(ValueError, match=r"have the upgrade \('light'\), the trainer asks for \('carafe'\)"):
        other.get_model(cfg=trained.model.yaml, weights=trained.model)


def test_plain_training_of_an_upgraded_network_is_refused(trained: Any, tiny: str, options: dict[str, Any]):
    yolo = ultralytics.YOLO(tiny)
    upgrade(yolo.model, "light")
    checkpoint = ultralytics.YOLO(trained.trainer.best)
    for upgraded in (yolo, checkpoint):
        for trainer in ({}, {"trainer": DetectionTrainer}):
            with pytest.raises(RuntimeError, match=r"YOLO\.train would drop the upgrade.*featlift\.upgraded_trainer"):
                upgraded.train(**options, **trainer)
        assert is_upgraded(upgraded.model)
    downgrade(yolo.model)
    for plain in (yolo, ultralytics.YOLO(tiny)):
        with pytest.raises(RuntimeError, match=r"Dataset 'missing\.yaml' error"):
            plain.train(**{**options, "data": "missing.yaml"})
    own = type("Own", (DetectionTrainer,), {"get_model": lambda self, cfg=None, weights=None, verbose=True: None})
    with pytest.raises(RuntimeError, match=r"Dataset 'missing\.yaml' error"):
        checkpoint.train(trainer=own, **{**options, "data": "missing.yaml"})
