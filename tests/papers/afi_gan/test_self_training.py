"""Self-training: which boxes become labels, the mix of a batch, the weight of the losses, and a whole run."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from featlift.data.config import build_dataset
from featlift.data.image_io import read_image
from featlift.papers.afi_gan import self_training
from featlift.papers.afi_gan.self_training import (
    SelfTrainingConfig,
    describe_training,
    open_pseudo_labeled,
    select_pseudo_labels,
    train_on_pseudo_labels,
)
from featlift.papers.registry import PAPERS


@pytest.fixture
def unlabeled(coco):
    return str(coco / "val")


def detection(score, box, image_id=1, category_id=1):
    return {"image_id": image_id, "category_id": category_id, "bbox": box, "score": score}


def test_labels_are_detections_from_the_threshold_on():
    good, exact, low, thin = (
        detection(0.9, [1.0, 2.0, 10.0, 12.0]),
        detection(0.5, [5.0, 5.0, 4.0, 1.0]),
        detection(0.49, [1.0, 1.0, 9.0, 9.0]),
        detection(0.9, [1.0, 1.0, 0.5, 9.0]),
    )
    assert select_pseudo_labels([good, exact, low, thin], 0.5) == [good, exact]
    with pytest.raises(ValueError, match=r"score of at least 0.95; the highest is 0.90"):
        select_pseudo_labels([good, low], 0.95)


class Oracle(nn.Module):
    """Answers with two boxes in every image but the darkest: class 3 with score 0.8, class 1 with score 0.3."""

    def __init__(self, darkest):
        super().__init__()
        self.darkest, self.transform = darkest, None

    def forward(self, images):
        scores = [torch.tensor([0.8, 0.3]) * (float(image.mean()) > self.darkest) for image in images]
        boxes = torch.tensor([[2.0, 3.0, 12.0, 23.0], [30.0, 30.0, 40.0, 45.0]])
        return [{"boxes": boxes, "labels": torch.tensor([3, 1]), "scores": s} for s in scores]


def test_the_file_of_labels(unlabeled, coco, trained, run, data, monkeypatch, tmp_path):
    """Images without a label are left out; labels have the category ids of the training data, and are written once."""
    dataset = build_dataset(data(root=str(coco)))
    files = sorted((coco / "val").iterdir())
    means = [float(read_image(file).mean()) for file in files]
    monkeypatch.setattr(self_training, "load_detector", lambda path: (Oracle(min(means) + 1e-6), dataset.classes))
    config = SelfTrainingConfig(unlabeled, str(trained["nearest"]))
    with run(None) as folder:
        labeled = open_pseudo_labeled(config, data(), dataset, folder)
        written = json.loads((folder.folder / "pseudo_labels.json").read_text())
        monkeypatch.setattr(self_training, "load_detector", None)
        again = open_pseudo_labeled(config, data(), dataset, folder)
    brightest = files[means.index(max(means))].name
    assert [image["file_name"] for image in written["images"]] == [brightest]
    (label,) = written["annotations"]
    assert (label["category_id"], label["bbox"]) == (dataset.category_ids[2], [2.0, 3.0, 10.0, 20.0])
    assert label["score"] == pytest.approx(0.8)
    assert len(labeled) == len(again) == 1
    target = labeled[0][1]
    assert (target["boxes"].tolist(), target["labels"].tolist()) == ([[2.0, 3.0, 12.0, 23.0]], [3])
    assert labeled.classes == dataset.classes


class Counting(nn.Module):
    """A detector whose losses are its weight times the number of boxes, and times ten that of the images."""

    def __init__(self):
        super().__init__()
        self.weight, self.calls = nn.Parameter(torch.tensor(1.0)), []

    def forward(self, images, targets):
        boxes = sum(len(target["boxes"]) for target in targets)
        self.calls.append([image.clone() for image in images])
        return {"a": self.weight * boxes, "b": self.weight * 10 * len(images)}


def test_mix_and_weight_of_a_batch(coco, unlabeled, run, data, stage, trained, monkeypatch):
    """A batch of 4 with fraction ¼: three labeled images with weight 1 and one pseudo-labeled with weight 0.2."""
    config = SelfTrainingConfig(unlabeled, str(trained["nearest"]), fraction=0.25, loss_weight=0.2)
    images = data(root=str(coco), batch_size=4, hflip_prob=0.0)
    dataset = build_dataset(images)
    monkeypatch.setattr(self_training, "load_detector", lambda path: (Oracle(-1.0), dataset.classes))
    T, best = Counting(), type("Best", (), {"config": type("Config", (), {"detector": "faster-rcnn"})})()
    best.evaluate_if_due = lambda step: None
    with run(None) as folder:
        train_on_pseudo_labels(T, config, images, stage(1), folder, best)
        (log,) = folder.read_log("target")
    labeled, pseudo = T.calls
    assert (len(labeled), len(pseudo)) == (3, 1)
    known = {split: [image for image, _ in iterate(build_dataset(images, split))] for split in ("train", "val")}
    assert all(any(torch.equal(image, other) for other in known["train"]) for image in labeled)
    assert any(torch.equal(pseudo[0], other) for other in known["val"])
    names = ("a", "b", "pseudo_a", "pseudo_b")
    boxes = sum(len(target["boxes"]) for target in targets_of(labeled, build_dataset(images)))
    assert [log[name] for name in names] == pytest.approx([boxes, 30.0, 0.2 * 1, 0.2 * 10])  # one label
    assert float(T.weight) == pytest.approx(1.0 - 0.01 * sum(log[name] for name in names), abs=2e-6)  # weight decay


def iterate(dataset):
    return (dataset[i] for i in range(len(dataset)))


def targets_of(images, dataset):
    """The targets of ``images``, found by their pixels."""
    known = list(iterate(dataset))
    return [target for image in images for other, target in known if torch.equal(image, other)]


def test_a_run_with_self_training(coco, unlabeled, trained, run, settings, data, model):
    config = replace(
        settings("nearest", reuse="none", data=data(root=str(coco), batch_size=2)),
        model=model("nearest"),
        self_training=SelfTrainingConfig(unlabeled, str(trained["nearest"]), score_threshold=0.01),
    )
    line = describe_training(config)
    assert line.endswith("1 of them from 2 unlabeled images")
    with run(config) as folder:
        detector = PAPERS["afi-gan"].train(config, folder)
        names = {name for record in folder.read_log("target") for name in record}
        assert (folder.folder / "detector.safetensors").is_file()
    assert {"loss_classifier", "pseudo_loss_classifier", "loss_objectness", "pseudo_loss_objectness"} <= names
    assert all(bool(torch.isfinite(p).all()) for p in detector.parameters())


def test_boxes_do_not_train_masks(coco, unlabeled, trained, run, settings, data, model):
    config = replace(
        settings("nearest", reuse="none", data=data(root=str(coco), batch_size=2)),
        model=model("nearest", "mask-rcnn"),
        self_training=SelfTrainingConfig(unlabeled, str(trained["nearest"]), score_threshold=0.01),
    )
    with run(config) as folder, pytest.raises(ValueError, match="predicts boxes only"):
        PAPERS["afi-gan"].train(config, folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels_from": ""}, "needs both"),
        ({"unlabeled_images": ""}, "needs both"),
        ({"score_threshold": 1.0}, "score_threshold is 1.0"),
        ({"fraction": 0.0}, "fraction is 0.0"),
        ({"loss_weight": 0.0}, "loss_weight is 0.0"),
    ],
)
def test_settings_that_cannot_work(options, message):
    with pytest.raises(ValueError, match=message):
        SelfTrainingConfig(**{"unlabeled_images": "a", "labels_from": "b", **options})


def test_refused_before_the_first_step(coco, unlabeled, trained, settings, data, model, tmp_path):
    base = replace(settings("nearest", reuse="none", data=data(root=str(coco), batch_size=2)), model=model("nearest"))
    wrong_run = replace(base, self_training=SelfTrainingConfig(unlabeled, str(tmp_path / "none")))
    with pytest.raises(FileNotFoundError):
        describe_training(wrong_run)
    wrong_folder = replace(base, self_training=SelfTrainingConfig(str(tmp_path / "none"), str(trained["nearest"])))
    with pytest.raises(FileNotFoundError):
        describe_training(wrong_folder)
    too_small = SelfTrainingConfig(unlabeled, str(trained["nearest"]), fraction=0.9)
    with pytest.raises(ValueError, match="2 pseudo-labeled images; both kinds need at least one"):
        describe_training(replace(base, self_training=too_small))


def test_no_label_is_an_error_with_the_highest_score(unlabeled, coco, trained, run, data):
    config = SelfTrainingConfig(unlabeled, str(trained["nearest"]), score_threshold=0.999)
    with run(None) as folder, pytest.raises(ValueError, match="lower --self-training"):
        open_pseudo_labeled(config, data(), build_dataset(data(root=str(coco))), folder)
