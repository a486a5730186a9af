"""Exported files: parity is part of the export, and a file with wrong outputs is not kept."""

import json

import pytest
import torch
from torch import nn

from featlift.deployment import export
from featlift.deployment.export import export_detector, export_module
from featlift.deployment.export_formats import EXPORT_FORMATS, ONNX_OPSET
from featlift.deployment.optimize import optimize
from featlift.detectors import DETECTORS, Detector, get_extractor
from featlift.detectors.config import DetectorConfig, build_detector
from featlift.interpolators import interpolator
from featlift.interpolators.freqfusion import low_pass_weights

onnxruntime = pytest.importorskip("onnxruntime")
MAPS = [torch.randn(1, 8, 6, 5), torch.randn(1, 8, 3, 9)]


def randomized(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2)
    return module


def tiny(detector: str) -> Detector:
    """A detector on a pyramid with a light interpolator with random weights."""
    torch.manual_seed(1)
    head = {"anchor_scale": 4.0, "fc_dim": 16, "num_proposals": 20} if detector.endswith("rcnn") else {}
    model = DetectorConfig(
        detector=detector,
        backbone="resnet10t",
        backbone_weights="random",
        norm="batch",
        frozen_stages=0,
        pyramid_channels=8,
        interpolator="light",
        interpolator_options={"hidden_channels": 4, "init": "mild"},
        detector_options=head,
    )
    built = build_detector(model, 3).eval()
    if not detector.endswith("rcnn"):  # untrained, all its scores are 0.01
        classification = (built.rpn.dense if detector == "centermask" else built).head.classification_head
        for convolution in [part for part in classification.modules() if isinstance(part, nn.Conv2d)]:
            nn.init.kaiming_normal_(convolution.weight)
        nn.init.constant_(classification.cls_logits.bias, -1.0)
    return built


def images() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.rand(3, 96, 128, generator=generator), torch.rand(3, 64, 96, generator=generator)]


@pytest.mark.parametrize("name", ["light", "light-agnostic", "afi"])
@pytest.mark.parametrize("format", EXPORT_FORMATS)
def test_interpolators(name, format, tmp_path):
    options = {"growth_rate": 4, "num_blocks": 1} if name == "afi" else {}
    module = randomized(interpolator(name, 8, **options)).eval()
    if format == "openvino":
        pytest.importorskip("openvino")
    result = export_module(module, MAPS, tmp_path / f"G{EXPORT_FORMATS[format]}", format)
    assert set(result.errors) == {"6x5", "3x9"}
    assert max(result.errors.values()) < 1e-4
    if format == "onnx":  # independently of the check, at a third size
        x = torch.randn(1, 8, 4, 7)
        (y,) = onnxruntime.InferenceSession(result.path).run(None, {"x": x.numpy()})
        torch.testing.assert_close(torch.from_numpy(y), module(x).detach(), rtol=1e-4, atol=1e-5)


class LowPass(nn.Module):
    def forward(self, x):
        return low_pass_weights(x)


def test_the_window_of_freqfusion_has_onnx_operators(tmp_path):
    """torch.hamming_window has none. Only this part: the whole interpolator takes the exporter a minute."""
    maps = [torch.randn(1, 25, 6, 5), torch.randn(1, 25, 3, 9)]
    assert max(export_module(LowPass(), maps, tmp_path / "G.onnx").errors.values()) < 1e-5


def test_the_record_of_the_file(tmp_path):
    result = export_module(interpolator("light", 8), MAPS, tmp_path / "G.onnx")
    record = json.loads((tmp_path / "G.onnx.json").read_text())
    assert record["opset"] == ONNX_OPSET
    assert record["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert record["versions"]["onnxruntime"] == onnxruntime.__version__
    assert record["errors"] == result.errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["G.onnx", "G.onnx.json"]


def test_an_extractor_with_light_at_free_sizes(tmp_path):
    extractor = get_extractor(tiny("faster-rcnn"))
    examples = [torch.rand(1, 3, 128, 96), torch.rand(1, 3, 64, 160)]
    result = export_module(extractor, examples, tmp_path / "F.onnx", size_divisor=32)
    assert max(result.errors.values()) < 1e-4
    names = [output.name for output in onnxruntime.InferenceSession(result.path).get_outputs()]
    assert names == ["p2", "p3", "p4", "p5", "p6"]


@pytest.mark.parametrize("name", DETECTORS)
def test_whole_detectors_with_light(name, tmp_path):
    detector = tiny(name)
    result = export_detector(detector, images(), tmp_path / "T.onnx")
    assert set(result.errors) == {"96x128", "64x96"}
    assert max(result.errors.values()) <= 1e-4
    image = torch.rand(3, 64, 64)  # independently of the check, at a third size
    session = onnxruntime.InferenceSession(result.path)
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, map(torch.from_numpy, session.run(None, {"x": image.numpy()})), strict=True))
    expected = detector([image])[0]
    assert len(found["boxes"]) == len(expected["boxes"]) > 0
    unmatched = (expected["scores"][:, None] - found["scores"]).abs().amin(dim=1) > 1e-5
    assert unmatched.sum() <= 2  # see export._with_batched_nms


def test_a_whole_detector_for_openvino(tmp_path):
    pytest.importorskip("openvino")
    result = export_detector(tiny("retinanet"), images(), tmp_path / "T.xml", "openvino")
    assert max(result.errors.values()) <= 1e-4
    assert (tmp_path / "T.bin").exists()


def test_an_optimized_module_is_exported_with_its_original_forward(tmp_path):
    module = randomized(interpolator("afi", 8, growth_rate=4)).eval()
    optimize(module, MAPS[0], tolerance=1.0, variants=["bf16"], rounds=1)
    assert max(export_module(module, MAPS, tmp_path / "G.onnx").errors.values()) < 1e-5


class Upsample(nn.Module):
    def forward(self, x):
        return nn.functional.interpolate(x, scale_factor=2.0)


def test_a_file_with_different_outputs_is_not_written(tmp_path, monkeypatch):
    factors = iter([1.001, 1.0, 1.0, 1.0])
    monkeypatch.setattr(export, "_as_output_dict", lambda y: {"y": y * next(factors)})
    with pytest.raises(
        ValueError, match=r"outputs of the exported file differ: relative error 1\.0e-03 at 6x5.*No file was written"
    ):
        export_module(Upsample(), MAPS, tmp_path / "G.pt2", "torch-export")
    assert not list(tmp_path.iterdir())


def test_a_whole_detector_cannot_be_exported_by_torch_export(tmp_path):
    with pytest.raises(ValueError, match="onnx or openvino only; use torch-export for its extractor"):
        export_detector(tiny("retinanet"), images(), tmp_path / "T.pt2", "torch-export")
