import sys
from pathlib import Path

import converged
import pytest
import torch
from torch import nn

from featlift.integrations.yolox_network import build_yolox


@pytest.fixture
def random_yolox(coco, monkeypatch):
    """Random weights of 80 classes in place of the published ones, and two labeled images of 64 px."""
    pytest.importorskip("yolox", reason="pixeltable-yolox is not installed")
    torch.manual_seed(0)
    network = build_yolox("nano", fused=True)
    monkeypatch.setattr(converged, "load_yolox", lambda path: network)
    monkeypatch.setattr(converged, "DATA", coco.parent)
    monkeypatch.setattr(converged, "IMAGE_SIZE", 64)
    return network


def test_the_start_has_the_published_weights_except_its_classes(random_yolox):
    start, pretrained = converged.build_start(3).state_dict(), random_yolox.state_dict()
    assert {name for name in start if not torch.equal(start[name], pretrained[name][: len(start[name])])} == {
        f"head.cls_preds.{level}.weight" for level in range(3)
    }
    assert start["head.cls_preds.0.weight"].shape[0] == 3


def test_all_steps_end_to_end(random_yolox, tmp_path, monkeypatch, coco):
    results = {}
    monkeypatch.setattr(
        converged, "write_result", lambda name, tables, metadata: results.update({name: tables[0]["rows"]})
    )
    words = [
        "--out",
        str(tmp_path),
        "--data",
        coco.name,
        "--steps",
        "2",
        "--every",
        "1",
        "--batch-size",
        "2",
        "--start",
        "2",
    ]
    words += ["--further", "1", "--methods", "nearest", "carafe", "p3x", "--seeds", "1", "--n-resamples", "10"]
    for step in ("curve", "continue", "evaluate"):
        monkeypatch.setattr(sys, "argv", ["converged.py", step, *words])
        converged.main()
    assert [row["steps"] for row in results[f"converged_curve_{coco.name}"]] == [1, 2]
    rows = {row["detector"]: row for row in results[f"converged_methods_{coco.name}"]}
    assert list(rows) == ["start", "nearest", *converged.LARGER, "carafe", "p3x"]
    assert "ap - nearest" in rows["carafe"]
    assert "ap - nearest" not in rows["nearest"]


def test_detections_are_stored(tmp_path, monkeypatch):
    monkeypatch.setattr(converged, "detect_dataset", lambda *args: type("Found", (), {"detections": [{"score": 1.0}]}))
    file = tmp_path / "a" / "b.json"
    assert converged.detect(nn.Identity(), [0], file) == [{"score": 1.0}]
    monkeypatch.delattr(converged, "detect_dataset")
    assert converged.detect(nn.Identity(), [0], Path(file)) == [{"score": 1.0}]
