"""TT100K on the command line: dataset detection, metrics of its protocol, test-time augmentation."""

import json

import pytest
import torch
from PIL import Image
from torch import nn

from featlift.cli import main
from featlift.data.tt100k import TT100KDataset
from featlift.evaluation import detection
from featlift.runs import tt100k as tt100k_evaluation

NAMES = ("p5", "pl40", "w99")
"""The last is none of the 45."""


def annotation(name, *box):
    return {"category": name, "bbox": dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))}


@pytest.fixture(scope="module")
def tt100k(tmp_path_factory):
    """20 training images and 2 test images of 64 px with one sign of each class."""
    folder = tmp_path_factory.mktemp("tt100k")
    objects = [annotation(name, 4 + 20 * k, 8, 16 + 20 * k, 20) for k, name in enumerate(NAMES)]
    imgs = {
        str(i): {"id": i, "path": f"{'test' if i > 20 else 'train'}/{i}.png", "objects": objects} for i in range(1, 23)
    }
    (folder / "annotations.json").write_text(json.dumps({"imgs": imgs, "types": list(NAMES)}))
    for record in imgs.values():
        path = folder / record["path"]
        path.parent.mkdir(exist_ok=True)
        Image.effect_noise((64, 64), 50).convert("RGB").save(path)
    return folder


class FixedDetector(nn.Module):
    """Detects p5 at 0.9 and pl40 at 0.4, with a false positive at 0.3."""

    def forward(self, images):
        boxes = torch.tensor([[4.0, 8, 16, 20], [24, 8, 36, 20], [40, 40, 60, 60]])
        return [{"boxes": boxes, "labels": torch.tensor([1, 2, 2]), "scores": torch.tensor([0.9, 0.4, 0.3])}] * len(
            images
        )


def test_the_threshold_is_chosen_on_held_out_images_and_the_45_are_counted(tt100k):
    dataset, detector = TT100KDataset(tt100k, "test"), FixedDetector()
    found = tt100k_evaluation.evaluate_tt100k(
        detector, dataset, detection.detect_dataset(detector, dataset, progress=False)
    )
    assert 0.3 < found["score_threshold"] <= 0.4
    assert found["sizes"]["all"] == {"accuracy": 1.0, "recall": 1.0, "f1": 1.0}
    assert found["sizes"]["medium"] == {
        "accuracy": 1.0,
        "recall": 1.0,
        "f1": 1.0,
    }  # no object and no false positive of that size
    assert found["coco_iou50"]["ap50"] == pytest.approx(1.0)
    assert found["coco_iou50"]["ap50_medium"] is None
    assert "small  accuracy 100.0" in tt100k_evaluation.format_tt100k(found)
    assert "medium no signs" in tt100k_evaluation.format_tt100k(found)


def test_curves_over_all_thresholds(tt100k, tmp_path):
    """Below 0.3 a third of the detections is false; above 0.4 one of two signs is detected, above 0.9 none, without false positives."""
    dataset, detector = TT100KDataset(tt100k, "test"), FixedDetector()
    found = tt100k_evaluation.evaluate_tt100k(
        detector, dataset, detection.detect_dataset(detector, dataset, progress=False)
    )
    assert set(found["curves"]) == {"all", "small"}  # there are no others
    points = {point["score_threshold"]: (point["accuracy"], point["recall"]) for point in found["curves"]["small"]}
    assert points[0.29] == (pytest.approx(2 / 3), 1.0)
    assert points[0.35] == (1.0, 1.0)
    assert points[0.5] == (1.0, 0.5)
    assert points[0.95] == (1.0, 0.0)
    assert tt100k_evaluation.plot_accuracy_recall(found, tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_on_tt100k_from_end_to_end(tt100k, tmp_path, capsys):
    argv = [
        "train", "efpn", "--preset", "quick", "--data", str(tt100k),
        "--run", str(tmp_path / "run"), "--data.min_size", "[64]", "--data.batch_size", "2",
        "--model.pyramid_channels", "8", "--model.detector_options", '{"anchor_scale": 4.0, "fc_dim": 16, "num_proposals": 20}',
        "--extended_level.transfer_options", '{"hidden_channels": 4}', "--class_balance.min_per_class", "30",
        "--class_balance.crop_size", "48", "--distillation.tile_size", "4", "--detector.steps", "1",
        "--extension.steps", "1", "--head.steps", "1", "--device", "cpu",
    ]  # fmt: skip
    assert main.main(argv) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert set(result["stages"]) == {"detector", "extension", "head"}
    assert all(stage["peak_memory"] > 2**20 for stage in result["stages"].values())
    page = (tmp_path / "run" / "report.html").read_text()
    assert all(
        text in page for text in ("before (base detector)", "Objects found and missed by efpn", "p3x", "p2x", "target")
    )
    capsys.readouterr()
    assert main.main(["evaluate", str(tmp_path / "run"), "--scales", "[1.0, 1.5]"]) == 0
    printed = capsys.readouterr().out
    assert "TT100K, 45 classes, score ≥" in printed
    stored = json.loads((tmp_path / "run" / "evaluation-own-val-multi-scale.json").read_text())
    assert set(stored["tt100k"]) == {"score_threshold", "sizes", "coco_iou50", "curves"}
    assert (tmp_path / "run" / "evaluation-own-val-multi-scale-accuracy-recall.png").exists()
