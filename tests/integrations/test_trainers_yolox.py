"""YOLOX's own trainer (pixeltable-yolox). It needs CUDA; here its few CUDA calls are replaced by their counterparts on the CPU."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.io import write_png

from featlift.data.synthetic.scenes import SyntheticScenes
from featlift.upgrading import added_parameters, is_upgraded, load_delta, save_delta, upgrade

yolox = pytest.importorskip("yolox")
from yolox.config import YoloxConfig  # noqa: E402
from yolox.core import trainer as trainer_module  # noqa: E402


class CPUPrefetcher:
    """``DataPrefetcher`` without CUDA streams."""

    def __init__(self, loader: Any) -> None:
        self.loader = iter(loader)

    def next(self) -> tuple[Any, Any]:
        images, targets, _, _ = next(self.loader)
        return images, targets


class CPUTrainer(trainer_module.Trainer):
    def __init__(self, config: Any, args: Any) -> None:
        super().__init__(config, args)
        self.device = "cpu"

    def evaluate_and_save_model(self) -> None:
        """Nothing: the evaluator needs CUDA."""


@pytest.fixture
def coco_folder(tmp_path: Path) -> Path:
    """Two images of 64 px in the folder layout of YOLOX."""
    scenes = SyntheticScenes(2, (64, 64))
    folder = tmp_path / "data"
    (folder / "annotations").mkdir(parents=True)
    (folder / "train2017").mkdir()
    images, annotations = [], []
    for index in range(2):
        image, target = scenes[index]
        write_png((image * 255).to(torch.uint8), str(folder / f"train2017/{index}.png"))
        images.append({"id": index, "file_name": f"{index}.png", "height": 64, "width": 64})
        for left, top, right, bottom in target["boxes"].tolist():
            box = [left, top, right - left, bottom - top]
            number = len(annotations)
            annotations.append(
                {"id": number, "image_id": index, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            )
    coco = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "sign"}], "info": {}}
    (folder / "annotations/train.json").write_text(json.dumps(coco))
    return folder


def config(folder: Path, out: Path) -> Any:
    made = YoloxConfig("tiny", num_classes=1, depth=0.33, width=0.125, depthwise=True, output_dir=str(out))
    made.data_dir, made.train_ann, made.val_ann, made.val_img_dir = str(folder), "train.json", "train.json", "train2017"
    made.input_size = made.test_size = (64, 64)
    made.data_num_workers, made.multiscale_range, made.max_epoch, made.warmup_epochs = 0, 0, 1, 0
    made.no_aug_epochs, made.eval_interval, made.print_interval, made.basic_lr_per_img = 0, 10, 1, 0.01
    return made


def arguments(**changes: Any) -> argparse.Namespace:
    options = {"fp16": False, "name": "run", "batch_size": 2, "cache": None, "occupy": False, "logger": "tensorboard"}
    return argparse.Namespace(
        **{**options, "resume": False, "ckpt": None, "start_epoch": None, "config": "tiny", **changes}
    )


def test_it_trains_resumes_and_predicts(coco_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(trainer_module, "DataPrefetcher", CPUPrefetcher)
    monkeypatch.setattr(trainer_module, "gpu_mem_usage", lambda: 0.0)
    made = config(coco_folder, tmp_path)
    upgrade(made.get_model(), "light")  # the configuration keeps the network that it has built
    trainer = CPUTrainer(made, arguments())
    trainer.train()
    assert is_upgraded(trainer.model)
    assert is_upgraded(trainer.ema_model)
    first = {name: x.clone() for name, x in added_parameters(trainer.model).items()}
    resumed = config(coco_folder, tmp_path)
    resumed.max_epoch = 3
    upgrade(resumed.get_model(), "light")
    trainer = CPUTrainer(resumed, arguments(resume=True))
    trainer.train()
    assert trainer.start_epoch == 1
    assert all(not torch.equal(x, first[name]) for name, x in added_parameters(trainer.model).items())
    save_delta(trainer.ema_model, tmp_path / "delta")
    fresh = config(coco_folder, tmp_path).get_model()
    load_delta(fresh, tmp_path / "delta")
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(fresh.eval()(image), trainer.ema_model.ema.eval()(image))
