"""Formats and packages that are refused."""

import sys

import pytest
import torch
from torch import nn

from featlift.deployment.export import export_module

MAPS = [torch.randn(1, 8, 6, 5), torch.randn(1, 8, 3, 9)]


class Upsample(nn.Module):
    def forward(self, x):
        return nn.functional.interpolate(x, scale_factor=2.0)


def test_unknown_format(tmp_path):
    with pytest.raises(ValueError, match="Unknown format 'tflite'; choose one of torch-export, onnx, openvino"):
        export_module(Upsample(), MAPS, tmp_path / "G", "tflite")


def test_a_suffix_of_another_format(tmp_path):
    with pytest.raises(ValueError, match=r"The suffix of onnx is \.onnx, not that of '.*G\.pt2'"):
        export_module(Upsample(), MAPS, tmp_path / "G.pt2", "onnx")


def test_a_package_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ImportError, match=r"openvino needs openvino: pip install 'featlift\[openvino\]'"):
        export_module(Upsample(), MAPS, tmp_path / "G.xml", "openvino")
