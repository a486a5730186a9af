"""Detector files: saved, loaded, matched."""

import json
from dataclasses import replace

import pytest
import torch

from featlift.checkpoints import read_tensors, write_tensors
from featlift.detectors import DETECTORS
from featlift.detectors.checkpoint import (
    describe_copied,
    load_detector,
    load_matching_weights,
    read_category_ids,
    save_detector,
)
from featlift.detectors.config import build_detector, quick_detector_config


@pytest.fixture
def images():
    return [torch.rand(3, 64, 64), torch.rand(3, 48, 70)]


@pytest.mark.parametrize("detector", list(DETECTORS))
def test_a_saved_detector_gives_the_same_detections(model, detector, images, tmp_path):
    config = replace(model("deconv", detector), pyramid_channels=32)
    T = build_detector(config, 3).eval()
    path = save_detector(T, config, ["a", "b", "c"], tmp_path)
    assert path == tmp_path / "detector.safetensors"
    for source in (tmp_path, path):
        again, classes = load_detector(source)
        T.score_thresh = again.score_thresh = 0.0  # RetinaNet and FCOS start below their thresholds
        assert classes == ["a", "b", "c"]
        with torch.inference_mode():
            for first, second in zip(T(images), again.eval()(images), strict=True):
                assert len(first["scores"]) > 0
                assert first.keys() == second.keys()
                assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_file_of_something_else_is_refused(tmp_path):
    path = write_tensors(tmp_path / "some.safetensors", {"x": torch.zeros(1)})
    with pytest.raises(ValueError, match="is no detector of FeatLift"):
        load_detector(path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_detector(tmp_path / "nowhere")


def test_matching_reports_unchanged_tensors(model):
    T, other = build_detector(model("nearest"), 3), build_detector(model("bilinear"), 5)
    before = {name: value.clone() for name, value in T.state_dict().items()}
    unchanged = load_matching_weights(T, other.state_dict())
    assert set(unchanged) == {f"roi_heads.box_predictor.{part}" for part in (
        "cls_score.weight", "cls_score.bias", "bbox_pred.weight", "bbox_pred.bias")}  # fmt: skip
    for name, value in T.state_dict().items():
        assert torch.equal(value, before[name] if name in unchanged else other.state_dict()[name])


def test_without_weights_nothing_changes(model):
    T = build_detector(model("nearest"), 3)
    unchanged = load_matching_weights(T, {})
    assert unchanged == list(T.state_dict())
    with pytest.raises(ValueError, match="No tensor of runs/other"):
        describe_copied(T, unchanged, "runs/other")


def test_what_is_not_copied_is_said(model):
    """mmdetection#10617: the head of another number of classes stays untrained."""
    T, other = build_detector(model("nearest"), 1), build_detector(model("nearest"), 3)
    total = len(T.state_dict())
    text = describe_copied(T, load_matching_weights(T, other.state_dict()), "runs/three")
    assert text.startswith(f"{total - 4} of {total} tensors are copied from runs/three; 4 keep their initialization: ")
    assert "roi_heads.box_predictor.cls_score.weight" in text
    same = describe_copied(T, load_matching_weights(T, T.state_dict()), "runs/one")
    assert same == f"{total} of {total} tensors are copied from runs/one"


@pytest.mark.parametrize(
    ("target", "source", "shift"), [("faster-rcnn", "retinanet", 1), ("retinanet", "faster-rcnn", -1)]
)
def test_a_pyramid_is_matched_level_by_level(model, target, source, shift):
    """A RetinaNet's finest level is p3, a Faster R-CNN's p2."""
    T, other = (
        build_detector(model("nearest", target), 3),
        build_detector(model("nearest", source), 3).state_dict(),
    )
    load_matching_weights(T, other)
    own = T.state_dict()
    for level in range(3 if shift > 0 else 1, 3):
        for part in ("inner_blocks.{}.0.weight", "layer_blocks.{}.0.weight"):
            name = f"backbone.pyramid.{part}"
            assert torch.equal(own[name.format(level + shift)], other[name.format(level)])


@pytest.mark.parametrize("ids", [None, [11, 90]])
def test_category_ids_are_stored(model, tmp_path, ids):
    config = replace(model("nearest"), pyramid_channels=16)
    path = save_detector(build_detector(config, 2), config, ["a", "b"], tmp_path, category_ids=ids)
    assert read_category_ids(path) == read_category_ids(tmp_path) == (ids or [1, 2])


@pytest.mark.parametrize("weights", ["imagenet", "/etc/hostname", "nowhere.pth"])
def test_a_detector_file_neither_downloads_nor_opens_files(tmp_path, monkeypatch, weights):
    import timm

    from featlift.backbones import timm_backbone

    config = quick_detector_config()
    path = save_detector(build_detector(config, 2), config, ["a", "b"], tmp_path)
    tensors, metadata = read_tensors(path)
    metadata["model"] = json.dumps({**json.loads(metadata["model"]), "backbone_weights": weights})
    write_tensors(path, tensors, metadata)
    create = timm.create_model
    monkeypatch.setattr(
        timm,
        "create_model",
        lambda *args, pretrained, **o: (pretrained and pytest.fail("download"), create(*args, **o))[1],
    )
    monkeypatch.setattr(timm_backbone, "load_weights", lambda *args: pytest.fail("opened"))
    assert load_detector(path)[1] == ["a", "b"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", "{"),
        ("model", "[]"),
        ("model", '{"depth": 3}'),
        ("model", '{"pyramid_channels": 32}'),
        ("classes", "{"),
        ("classes", '["a"]'),
    ],
)
def test_damaged_words_name_the_file(tmp_path, key, value):
    config = quick_detector_config()
    path = save_detector(build_detector(config, 2), config, ["a", "b"], tmp_path)
    tensors, metadata = read_tensors(path)
    write_tensors(path, tensors, {**metadata, key: value})
    with pytest.raises(ValueError, match=r"detector\.safetensors is damaged or of another version"):
        load_detector(path)
