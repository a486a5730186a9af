"""A loop in the form of torchvision's detection references: SGD over the parameters that require gradients, warm-up, losses summed."""

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from featlift.data.synthetic.scenes import SyntheticScenes
from featlift.upgrading import added_parameters, load_delta, save_delta, upgrade


def train_one_epoch(model: nn.Module, optimizer: Any, loader: Any) -> float:
    """One epoch of the references' ``engine.train_one_epoch``; returns the last loss."""
    model.train()
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.5, total_iters=len(loader))
    for images, targets in loader:
        loss = sum(model(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        warmup.step()
    return loss.item()


def build() -> nn.Module:
    sizes = {"min_size": 64, "max_size": 64, "box_batch_size_per_image": 16, "rpn_post_nms_top_n_train": 20}
    few = {"rpn_post_nms_top_n_test": 20, "box_score_thresh": 0.0, "box_detections_per_img": 5}
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None, trainable_layers=5)
    return FasterRCNN(backbone, num_classes=4, **sizes, **few)


def loader() -> list[Any]:
    scenes = SyntheticScenes(2, (64, 64))
    samples = [scenes[i] for i in range(2)]
    targets = [{"boxes": t["boxes"], "labels": t["labels"] % 3 + 1} for _, t in samples]
    return [([image for image, _ in samples], targets)]


def sgd(model: nn.Module) -> Any:
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.02, momentum=0.9)


def test_the_references_loop_trains_resumes_and_predicts(tmp_path: Path):
    model = build()
    plain = copy.deepcopy(model)
    upgrade(model, "light")
    optimizer = sgd(model)
    for _ in range(2):
        assert torch.isfinite(torch.tensor(train_one_epoch(model, optimizer, loader())))
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "checkpoint.pth")
    resumed = copy.deepcopy(plain)
    upgrade(resumed, "light")
    optimizer = sgd(resumed)
    checkpoint = torch.load(tmp_path / "checkpoint.pth")
    resumed.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    train_one_epoch(resumed, optimizer, loader())
    before, after = added_parameters(model), added_parameters(resumed)
    assert before
    assert all(x.abs().sum() > 0 and not torch.equal(x, before[name]) for name, x in after.items())
    save_delta(resumed, tmp_path / "delta")
    load_delta(plain, tmp_path / "delta")
    images = loader()[0][0]
    with torch.no_grad():
        expected, actual = resumed.eval()(images), plain.eval()(images)
    assert all(torch.equal(a["scores"], b["scores"]) for a, b in zip(actual, expected, strict=True))
    assert len(expected[0]["boxes"]) > 0
