"""``library:name`` for ``featlift predict`` and ``featlift evaluate``."""

import json
from pathlib import Path

import pytest
import torch
from tests.integrations.zoo import random_network
from tests.integrations.zoo_transformers import rtdetr

from featlift.cli.main import main
from featlift.data.config import DataConfig, build_dataset
from featlift.deployment.predictor import Predictor
from featlift.integrations.named_detector import load_named_detector
from featlift.integrations.yolox_network import build_yolox
from featlift.upgrading import is_upgraded

SOURCE = """
import torch
from torchvision.models import resnet18
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

def build():
    torch.manual_seed(0)
    maps = {"layer2": "0", "layer3": "1", "layer4": "2"}
    backbone = BackboneWithFPN(resnet18(), maps, [128, 256, 512], 16, extra_blocks=LastLevelP6P7(16, 16))
    options = {"score_thresh": 0.0, "detections_per_img": 5, "topk_candidates": 20}
    detector = RetinaNet(backbone, len(CLASSES) + 1, min_size=64, max_size=64, **options)
    detector.head.classification_head.cls_logits.bias.data[:: len(CLASSES) + 1] = -20  # label 0 is no class
    detector.classes = CLASSES
    return detector

def without_names():
    return torch.nn.Linear(1, 1)
"""


@pytest.fixture
def file(coco: Path, tmp_path: Path) -> Path:
    path = tmp_path / "my_detector.py"
    path.write_text(f"CLASSES = {build_dataset(DataConfig(root=str(coco)), 'val').classes}\n{SOURCE}")
    return path


def test_predict_and_evaluate_a_function_with_a_delta(file: Path, coco: Path, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["upgrade", f"{file}:build", "--interpolator", "light", "--out", "delta.safetensors"]) == 0
    words = [f"{file}:build", "--delta", "delta.safetensors", "--device", "cpu"]
    assert main(["predict", *words[:1], str(coco / "val"), *words[1:], "--out", "found"]) == 0
    assert "2 images, 10 detections" in capsys.readouterr().out
    categories = json.loads(Path("found/predictions.json").read_text())["categories"]
    assert main(["evaluate", *words, "--data", str(coco)]) == 0
    printed = capsys.readouterr()
    assert "boxes: ap " in printed.out
    assert "random weights" not in printed.err
    (result,) = Path().glob("*my_detector-py-build-evaluation-coco-val.json")
    detections = json.loads(result.read_text())["detections"]
    loaded = load_named_detector(words[0], delta=words[2])
    assert is_upgraded(loaded.detector)
    assert loaded.category_ids == list(range(1, 1 + len(loaded.classes)))
    assert len(detections) == 10
    assert {d["category_id"] for d in detections} <= {category["id"] for category in categories}


def test_torchvision_has_the_classes_of_coco():
    loaded = load_named_detector("torchvision:ssdlite320_mobilenet_v3_large")
    assert (loaded.classes[0], loaded.classes[89], len(loaded.classes)) == ("person", "toothbrush", 90)
    assert load_named_detector("ssdlite320_mobilenet_v3_large").category_ids[-1] == 90


def test_yolox_from_a_file(tmp_path: Path):
    pytest.importorskip("yolox")
    for number in (3, 80):
        torch.save(build_yolox("nano", number).state_dict(), tmp_path / f"{number}.pth")
    assert load_named_detector(f"yolox:{tmp_path / '3.pth'}").classes == ["1", "2", "3"]
    classes = load_named_detector(f"yolox:{tmp_path / '80.pth'}").classes
    assert (classes[0], classes[11], classes[79], len(classes)) == ("person", "stop sign", "toothbrush", 80)


def test_hugging_face_needs_its_image_processor(tmp_path: Path):
    transformers = pytest.importorskip("transformers")
    random_network(rtdetr).save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match=r"has no image processor; save it, too"):
        load_named_detector(f"hf:{tmp_path / 'model'}")
    transformers.RTDetrImageProcessor(size={"height": 64, "width": 64}).save_pretrained(tmp_path / "model")
    predictor = Predictor(f"hf:{tmp_path / 'model'}", device="cpu")
    prediction = predictor(torch.rand(3, 40, 60))
    assert len(prediction) > 0
    assert set(prediction.class_names) <= {"LABEL_0", "LABEL_1", "LABEL_2"}


def test_ultralytics_warns_about_random_weights(coco: Path, tmp_path: Path):
    pytest.importorskip("ultralytics")
    words = ["predict", "ultralytics:yolov8n.yaml", str(next((coco / "val").glob("*.png"))), "--device", "cpu"]
    with pytest.warns(UserWarning, match=r"yolov8n\.yaml has random weights"):
        assert main([*words, "--out", str(tmp_path / "out")]) == 0
    assert len(json.loads((tmp_path / "out/predictions.json").read_text())["categories"]) == 80


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torchvision:fasterrcnn", r"torchvision has no detector 'fasterrcnn'\. Did you mean 'fasterrcnn_"),
        ("torchvision:resnet18", "torchvision has no detector 'resnet18'"),
        ("{file}:without_names", "returns a Linear.*an attribute classes"),
        ("torchvison:x", "neither one of torchvision:"),
        ("timm:resnet10t", "timm has no detectors"),
    ],
)
def test_what_is_no_detector(name: str, message: str, file: Path):
    with pytest.raises(ValueError, match=message):
        load_named_detector(name.format(file=file))


def test_a_run_folder_has_its_own_weights(tmp_path: Path):
    with pytest.raises(ValueError, match="has its own weights, so --weights DEFAULT has no effect"):
        load_named_detector(tmp_path, weights="DEFAULT")


def test_no_such_file():
    with pytest.raises(FileNotFoundError, match="There is no file"):
        load_named_detector("runs/nothing")
