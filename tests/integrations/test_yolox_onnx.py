"""YOLOX to an ONNX file and back, with and without the extended level."""

import pytest
import torch

from featlift.integrations.yolox_network import build_yolox
from featlift.integrations.yolox_onnx import export_yolox, load_onnx_yolox
from featlift.upgrading import enable_level, upgrade

for package in ("yolox", "onnx", "onnxruntime"):
    pytest.importorskip(package, reason=f"{package} is not installed")


@torch.no_grad()
def test_a_file_comes_back_as_the_same_network(tmp_path):
    network = build_yolox("nano", 3)
    for norm in network.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):  # folded into the convolutions, as in the published files
            norm.running_mean.uniform_(-0.1, 0.1)
            norm.running_var.uniform_(0.5, 2)
    assert export_yolox(network.eval(), tmp_path / "plain.onnx", 64) < 1e-4
    again = load_onnx_yolox(tmp_path / "plain.onnx")
    image = torch.rand(1, 3, 64, 96) * 255
    assert len(again.head.cls_preds[0].bias) == 3
    torch.testing.assert_close(again(image), network(image), rtol=1e-3, atol=1e-3)


def test_the_extended_level_is_exported_too(tmp_path):
    network = build_yolox("nano", 3)
    upgrade(network, level="p3x", width=8, num_blocks=1)
    enable_level(network, min_score=0.5)
    assert export_yolox(network, tmp_path / "level.onnx", 64) < 1e-4
    assert network.level_min_score == 0.5
