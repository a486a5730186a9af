import json
from dataclasses import asdict, replace

import pytest
import torch

from featlift import baseline
from featlift.baseline import Settings
from featlift.data import coco_folders
from featlift.data.config import DataConfig, build_dataset, build_train_loader, load_data_config
from featlift.detectors import DETECTORS
from featlift.detectors.checkpoint import load_detector, load_matching_weights, save_detector
from featlift.detectors.config import DetectorConfig, build_detector
from featlift.training import OptimizerConfig
from featlift.training.schedules import StageConfig


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
    path = baseline.write_tensors(tmp_path / "some.safetensors", {"x": torch.zeros(1)})
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
    assert load_matching_weights(T, {}) == list(T.state_dict())


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


def test_init_from_is_loaded(settings, run, model, data, stage, tmp_path, monkeypatch):
    first = Settings(model("nearest"), data(), stage())
    with run(first, "first") as folder:
        expected = {k: v.clone() for k, v in baseline.train(first, folder).state_dict().items()}
    states = []
    monkeypatch.setattr(
        baseline,
        "train_detector",
        lambda detector, *rest: states.append({k: v.clone() for k, v in detector.state_dict().items()}),
    )
    second = replace(first, init_from=str(tmp_path / "first"))
    with run(second, "second") as folder:
        baseline.train(second, folder)
    assert all(torch.equal(states[0][name], value) for name, value in expected.items())


def test_a_finished_training_is_only_loaded(run, model, data, stage):
    config = Settings(model("nearest"), data(), stage(2))
    first = baseline.train(config, run(config))
    again = run(config)
    second = baseline.train(config, again)
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )
    assert [line["step"] for line in again.read_log()] == [1, 2]


def test_the_data_of_a_run(run, model, data, stage, tmp_path):
    dataset = data(min_size=(48, 64), num_scenes=7)
    folder = run(Settings(model("nearest"), dataset, stage())).folder
    assert load_data_config(folder) == dataset
    assert load_data_config(folder, "elsewhere") == replace(dataset, root="elsewhere")
    file = folder / "detector.safetensors"
    file.touch()
    assert load_data_config(file) == dataset
    assert load_data_config(tmp_path, "scenes") == DataConfig()
    with pytest.raises(FileNotFoundError, match="no run folder"):
        load_data_config(tmp_path)


def test_training_and_validation_scenes_differ(data):
    train, val = (build_dataset(data(), split) for split in ("train", "val"))
    assert (len(train), len(val)) == (4, 2)
    names = [{dataset.image_name(i) for i in range(len(dataset))} for dataset in (train, val)]
    assert not names[0] & names[1]


def test_an_image_folder(data, tmp_path):
    coco_folders.write_synthetic_dataset(tmp_path / "coco", 2, 1, (64, 64), 0)
    dataset = build_dataset(data(root=str(tmp_path / "coco")), "train")
    assert len(dataset) == 2
    images, targets = next(
        build_train_loader(data(min_size=(32,), max_size=40, hflip_prob=0.0), dataset, 0).iter_from(0)
    )
    assert [tuple(image.shape) for image in images] == [(3, 32, 32)] * 2
    assert all(len(target["boxes"]) and target["boxes"].max() <= 32 for target in targets)


def test_the_papers_schedule():
    paper = Settings()
    assert (paper.train.steps, paper.data.batch_size) == (90_000, 16)
    rates = [paper.train.optimizer.lr_at(step, 90_000) for step in (1_000, 59_999, 60_000, 79_999, 80_000)]
    assert rates == pytest.approx([0.02, 0.02, 0.002, 0.002, 0.0002])
    assert paper.data.min_size == (640, 672, 704, 736, 768, 800)
    assert paper.data.max_size == 1333
    assert paper.model.detector_options == {"test_size": [800, 1333]}
    assert (paper.model.detector, paper.model.norm, paper.model.frozen_stages) == ("mask-rcnn", "frozen", 2)


def test_the_paper_has_no_preset_of_published_code():
    assert not hasattr(Settings, "official")


def test_quick_is_small():
    quick = Settings.quick()
    assert (quick.model.pyramid_channels, quick.model.backbone_weights, quick.data.root, quick.data.scene_size) == (
        64,
        "random",
        "scenes",
        160,
    )
    T = build_detector(quick.model, 6)
    assert sum(p.numel() for p in T.parameters()) < 8_000_000


def test_parameters_of_mask_rcnn_with_80_classes():
    """Spec §9.1: 44,343,216 with nearest interpolation and 52,177,840 with AFI, in Detectron2's layout.

    torchvision's heads have one more class row in the boxes' predictor (4 · 1025) and in the masks' (257); its frozen
    batch norms keep their affine as buffers in both.
    """
    counts = [
        sum(
            p.numel()
            for p in build_detector(
                replace(DetectorConfig(backbone_weights="random"), interpolator=name), 80
            ).parameters()
        )
        for name in ("nearest", "afi")
    ]
    assert counts[1] - counts[0] == 52_177_840 - 44_343_216 == 7_834_624
    assert counts[0] == 44_343_216 + 4 * 1025 + 257


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"interpolator": "afl"}, "Unknown interpolator 'afl'. Did you mean 'afi'"),
        ({"interpolator_options": {"growht": 3}}, "'nearest' has no option growht"),
        ({"detector": "faster"}, "Unknown detector 'faster'. Did you mean 'faster-rcnn'"),
        ({"execution": "fast"}, "Unknown execution 'fast'; choose one of eager, checkpointed, compiled"),
        ({"pyramid_channels": 0}, "Cannot build an interpolator for 0 channels"),
    ],
)
def test_a_detector_that_cannot_be_built_is_refused_by_its_config(changes, message):
    with pytest.raises(ValueError, match=message):
        DetectorConfig(**changes)


def test_a_model_survives_json(model):
    config = replace(model("afi", growth_rate=4), mean_std=(0.5, 0.25))
    again = DetectorConfig(**json.loads(json.dumps(asdict(config))))
    T = build_detector(again, 2)
    assert torch.equal(T.backbone.mean.flatten(), torch.tensor([0.5] * 3))


def test_training_lowers_the_loss_on_the_same_images(run, model, data):
    """25 steps on two scenes: the sum of the losses must decrease."""
    config = Settings(
        model("nearest"), data(num_scenes=2, hflip_prob=0.0), StageConfig(25, OptimizerConfig("adamw", lr=3e-3))
    )
    folder = run(config)
    baseline.train(config, folder)
    totals = [sum(v for k, v in line.items() if k.startswith("loss")) for line in folder.read_log("train")]
    assert sum(totals[-3:]) < 0.8 * sum(totals[:3])
