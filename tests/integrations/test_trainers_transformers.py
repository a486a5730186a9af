"""Hugging Face's ``Trainer``, ``save_pretrained`` and ``from_pretrained`` with an upgraded RT-DETR."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from featlift.data.synthetic.scenes import SyntheticScenes
from featlift.upgrading import added_parameters, downgrade, is_upgraded, load_delta, save_delta, upgrade

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")


def rt_detr() -> nn.Module:
    """An RT-DETR for three classes with 60,000 parameters; maps of strides 8, 16 and 32."""
    sizes = [8, 8, 16, 16]
    backbone = transformers.RTDetrResNetConfig(
        embedding_size=8,
        hidden_sizes=sizes,
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    config = transformers.RTDetrConfig(
        backbone_config=backbone,
        encoder_in_channels=sizes[1:],
        encoder_hidden_dim=16,
        decoder_in_channels=[16] * 3,
        d_model=16,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        num_queries=10,
        num_labels=3,
        num_denoising=0,
    )
    return transformers.RTDetrForObjectDetection(config)


class Scenes(torch.utils.data.Dataset):
    """Two images ``[3, 64, 64]`` with relative boxes (center and size), as the processor of RT-DETR returns them."""

    def __init__(self) -> None:
        self.scenes = SyntheticScenes(2, (64, 64))

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> dict[str, Any]:
        image, target = self.scenes[index]
        boxes = target["boxes"] / 64
        centers = torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], dim=1)
        return {"pixel_values": image, "labels": {"class_labels": target["labels"] % 3, "boxes": centers}}


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    return {"pixel_values": torch.stack([s["pixel_values"] for s in samples]), "labels": [s["labels"] for s in samples]}


def logits(model: nn.Module) -> Tensor:
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return model.eval()(pixel_values=image).logits


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return rt_detr().eval()


def trainer(model: nn.Module, folder: Path, steps: int) -> Any:
    options = transformers.TrainingArguments(
        str(folder), max_steps=steps, save_steps=1, learning_rate=1e-2, per_device_train_batch_size=2, use_cpu=True,
        report_to=[], remove_unused_columns=False, disable_tqdm=True, logging_strategy="no",
    )  # fmt: skip
    return transformers.Trainer(model, options, train_dataset=Scenes(), data_collator=collate)


def test_it_trains_resumes_reloads_and_predicts(model: nn.Module, tmp_path: Path):
    plain = copy.deepcopy(model)
    upgrade(model, "light", example_inputs={"pixel_values": torch.rand(1, 3, 64, 64)})
    trainer(model, tmp_path, 2).train()
    checkpoint = tmp_path / "checkpoint-2"
    resumed = copy.deepcopy(plain)
    upgrade(resumed, "light", example_inputs={"pixel_values": torch.rand(1, 3, 64, 64)})
    run = trainer(resumed, tmp_path, 4)
    run.train(resume_from_checkpoint=str(checkpoint))
    assert run.state.global_step == 4
    start = dict(added_parameters(model))
    assert start
    assert all(x.abs().sum() > 0 and not torch.equal(x, start[name]) for name, x in added_parameters(resumed).items())
    reloaded = type(plain).from_pretrained(tmp_path / "checkpoint-4")
    load_delta(reloaded, tmp_path / "checkpoint-4")
    assert torch.equal(logits(reloaded), logits(resumed))
    assert not torch.equal(logits(reloaded), logits(plain))


def test_a_pretrained_folder_says_how_it_comes_back(model: nn.Module, tmp_path: Path):
    upgrade(model, "light", example_inputs={"pixel_values": torch.rand(1, 3, 64, 64)})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    model.save_pretrained(tmp_path)  # type: ignore[operator]
    entry = json.loads((tmp_path / "config.json").read_text())["featlift_upgrade"]
    assert entry["interpolator"] == "light"
    assert "featlift.load_delta(model, FOLDER)" in entry["load_with"]
    plain = type(model).from_pretrained(tmp_path)  # type: ignore[attr-defined]
    assert not is_upgraded(plain)
    assert not torch.equal(logits(plain), logits(model))
    load_delta(plain, tmp_path)
    assert torch.equal(logits(plain), logits(model))
    save_delta(plain, tmp_path / "delta")
    downgrade(plain)
    plain.save_pretrained(tmp_path / "plain")
    with pytest.raises(
        ValueError, match=r"contains no upgraded model: its config\.json has no entry 'featlift_upgrade'"
    ):
        load_delta(plain, tmp_path / "plain")
