"""YOLOX with torchvision's interface: pre-processing against OpenCV and the maintainers' own code, loading, training."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from featlift.integrations.yolox import YOLOXDetector, encode_targets, load_yolox
from featlift.integrations.yolox_network import build_yolox

yolox = pytest.importorskip("yolox", reason="pixeltable-yolox is not installed")
PUBLISHED = Path(os.environ.get("FEATLIFT_DATA", "../shared/data")) / "weights" / "yolox_nano_coco.onnx"


@pytest.fixture
def network():
    torch.manual_seed(0)
    return build_yolox("nano", 3)


@torch.no_grad()
def test_detections_are_those_of_the_maintainers_code(network):
    from yolox.data import ValTransform
    from yolox.utils import postprocess

    for head in (network.head.obj_preds, network.head.cls_preds):
        [torch.nn.init.zeros_(layer.bias) for layer in head]
    pixels = np.random.default_rng(0).integers(0, 256, (60, 100, 3), dtype=np.uint8)
    batch = torch.from_numpy(ValTransform(legacy=False)(pixels[..., ::-1], None, (64, 64))[0])[None]
    expected = postprocess(network(batch), 3, 0.2, 0.65)[0]
    image = torch.from_numpy(pixels).permute(2, 0, 1) / 255
    actual = YOLOXDetector(network, 64, score_threshold=0.2, max_detections=1000)([image])[0]
    assert len(expected) > 10
    assert abs(len(actual["scores"]) - len(expected)) <= 0.1 * len(expected), "OpenCV rounds some pixels otherwise"
    best = expected[(expected[:, 4] * expected[:, 5]).argmax()]
    torch.testing.assert_close(actual["boxes"][0], best[:4] / 0.64, rtol=0.02, atol=1.0)
    assert actual["scores"][0].item() == pytest.approx((best[4] * best[5]).item(), rel=0.02)


def test_targets_by_hand():
    targets = [
        {"boxes": torch.tensor([[10.0, 20, 30, 60]]), "labels": torch.tensor([3])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]
    assert encode_targets(targets, [0.5, 1.0]).tolist() == [[[2, 10, 20, 10, 20]], [[0, 0, 0, 0, 0]]]


def test_a_step_of_its_own_loss_trains_it(network):
    detector = YOLOXDetector(network, 64).train()
    images = [torch.rand(3, 60, 90), torch.rand(3, 64, 64)]
    targets = [{"boxes": torch.tensor([[10.0, 10, 40, 40]]), "labels": torch.tensor([2])} for _ in images]
    losses = detector(images, targets)
    assert set(losses) >= {"boxes", "objectness", "classes"}
    sum(losses.values()).backward()
    assert sum(p.grad is not None for p in network.parameters()) > 0.9 * len(list(network.parameters()))
    with pytest.raises(ValueError, match=r"detector\.eval"):
        detector(images)


def test_a_checkpoint_comes_back_in_its_size(network, tmp_path):
    torch.save({"model": network.state_dict()}, tmp_path / "nano.pth")
    again = load_yolox(tmp_path / "nano.pth")
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in again.state_dict().items())
    torch.save({"model": {}}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="holds no YOLOX"):
        load_yolox(tmp_path / "other.pth")
    with pytest.raises(FileNotFoundError, match=r"none\.onnx"):
        load_yolox(tmp_path / "none.onnx")
    with pytest.raises(ValueError, match="multiple of 32"):
        YOLOXDetector(network, 100)


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="yolox_nano_coco.onnx is not here")
def test_the_published_network_finds_what_is_there():
    """A gray image has nothing; the number of classes is COCO's."""
    network = load_yolox(PUBLISHED)
    assert network.head.num_classes == 80
    assert not len(YOLOXDetector(network, score_threshold=0.3)([torch.full((3, 64, 64), 0.5)])[0]["scores"])
