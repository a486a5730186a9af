"""Detectors and feature extractors by name: run folders, torchvision's networks, timm's; nothing is downloaded."""

from dataclasses import replace
from urllib.error import URLError

import pytest
import torch
import torchvision

from featlift.checkpoints import write_tensors
from featlift.detectors.by_name import list_coco_labels, load_class_names, load_detector_by_name, load_feature_extractor
from featlift.detectors.checkpoint import load_detector, save_detector
from featlift.detectors.config import build_detector, quick_detector_config

FASTER_RCNN = "fasterrcnn_mobilenet_v3_large_320_fpn"


@pytest.fixture
def folder(tmp_path):
    """Run folder of a small detector."""
    config = replace(quick_detector_config(), pyramid_channels=8, detector_options={"fc_dim": 8, "num_proposals": 5})
    save_detector(build_detector(config, 2), config, ["a", "b"], tmp_path)
    return tmp_path


@pytest.fixture
def random_weights(monkeypatch):
    """torchvision's networks with random weights instead of downloaded ones; returns the names that were asked for."""
    asked, build = [], torchvision.models.get_model

    def without_download(name, weights=None, **options):
        asked.append((name, weights))
        return build(name, weights=None, **({"weights_backbone": None} if "rcnn" in name else {}), **options)

    monkeypatch.setattr(torchvision.models, "get_model", without_download)
    return asked


def test_a_run_folder_and_its_file(folder):
    expected = load_detector(folder)[0].state_dict()
    for source in (folder, folder / "detector.safetensors"):
        detector = load_detector_by_name(str(source), "DEFAULT")
        assert all(torch.equal(value, expected[name]) for name, value in detector.state_dict().items())


def test_torchvisions_detector_with_weights_of_a_file(tmp_path, capsys):
    detector = load_detector_by_name(FASTER_RCNN, num_classes=3)
    assert detector.roi_heads.box_predictor.cls_score.out_features == 4
    write_tensors(tmp_path / "weights.safetensors", detector.state_dict())
    again = load_detector_by_name(FASTER_RCNN, str(tmp_path / "weights.safetensors"), num_classes=3)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in detector.state_dict().items())
    assert capsys.readouterr().out


def test_default_weights_are_torchvisions(random_weights):
    load_detector_by_name(FASTER_RCNN, "DEFAULT")
    assert random_weights == [(FASTER_RCNN, "DEFAULT")]


def test_unknown_detector():
    with pytest.raises(ValueError, match=r"neither a run folder nor a torchvision detector .*fasterrcnn_resnet50_fpn"):
        load_detector_by_name("fasterrcnn_resnet51_fpn", "DEFAULT")


def test_features_of_a_run_of_a_detector_and_of_a_classifier(folder, random_weights):
    x = torch.rand(1, 3, 64, 64)
    (c4,) = load_feature_extractor(str(folder), ["c4"]).eval()(x).values()
    torch.testing.assert_close(c4, load_detector(folder)[0].backbone.eval().backbone(x)["c4"])
    assert list(load_feature_extractor(FASTER_RCNN, ["0"]).eval()(x)) == ["0"]
    assert list(load_feature_extractor("resnet18", ["c4"]).eval()(x)) == ["layer3"]
    assert random_weights == [(FASTER_RCNN, "DEFAULT"), ("resnet18", "DEFAULT")]


def test_an_unknown_network_is_refused_by_timm():
    with pytest.raises(ValueError, match="has no network 'resnet51x'"):
        load_feature_extractor("resnet51x", ["c4"])


def test_weights_that_cannot_be_downloaded_are_named_with_the_remedy(monkeypatch):
    def without_network(name, weights=None, **options):
        raise URLError("no route")

    monkeypatch.setattr(torchvision.models, "get_model", without_network)
    with pytest.raises(OSError, match=f"COCO weights of '{FASTER_RCNN}' could not be downloaded .*--weights FILE"):
        load_detector_by_name(FASTER_RCNN, "DEFAULT")
    with pytest.raises(OSError, match=r"weights of 'resnet18' could not be .*no route.*--feature-extractor.network"):
        load_feature_extractor("resnet18", ["c4"])


def test_the_labels_of_coco():
    labels = list_coco_labels(FASTER_RCNN)
    assert (len(labels), labels[1], labels[12]) == (91, "person", "N/A")


def test_class_names_of_torchvision_have_an_entry_per_label():
    names = load_class_names("fasterrcnn_resnet50_fpn")
    assert (len(names), names[0], names[17], names[90]) == (91, "__background__", "cat", "toothbrush")
