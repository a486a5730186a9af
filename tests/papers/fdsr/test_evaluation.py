import json
from dataclasses import asdict, replace

import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file
from torchvision.models import vgg11

from featlift.checkpoints import save
from featlift.commands.evaluate import evaluate
from featlift.commands.train import train
from featlift.data.config import DataConfig
from featlift.data.synthetic.scenes import SyntheticScenes
from featlift.detectors.by_name import list_coco_labels
from featlift.detectors.checkpoint import DETECTOR_FILE, save_detector
from featlift.detectors.config import build_detector, quick_detector_config
from featlift.image_sr import super_resolver
from featlift.image_sr.checkpoint import SUPER_RESOLVER_FILE
from featlift.image_sr.network import SuperResolverConfig
from featlift.papers import fdsr
from featlift.papers.fdsr.evaluation import SRDetectionConfig, evaluate_sr_detection, format_sr_detection
from featlift.papers.fdsr.pipelines import load_joint_detector
from featlift.papers.fdsr.settings import CropDataConfig, EvaluationConfig, FeatureExtractorConfig, LossWeights
from featlift.papers.fdsr.training import build_crop_dataset, build_labeled_crop_loader, find_loss_labels
from featlift.runs.options import RunOptions
from featlift.training import OptimizerConfig
from featlift.training.schedules import StageConfig


def small_detector(folder):
    model = replace(quick_detector_config(), pyramid_channels=16, detector_options={"fc_dim": 32, "num_proposals": 20})
    return save_detector(build_detector(model, 6), model, SyntheticScenes(2).classes, folder)


def test_results_are_written(tmp_path):
    detector = tmp_path / "detector"
    small_detector(detector)
    data = asdict(DataConfig("scenes", num_scenes=1, num_val_scenes=2, scene_size=64))
    (detector / "settings.json").write_text(json.dumps({"data": data}))
    save(super_resolver("srcnn", 4), tmp_path / "sr" / SUPER_RESOLVER_FILE)
    config = SRDetectionConfig(
        str(detector), {"srcnn": str(tmp_path / "sr")}, downscale_sweep=(2, 4), num_quality_images=1, num_examples=1
    )
    results = evaluate_sr_detection(config, tmp_path / "out")
    assert (
        json.loads((tmp_path / "out" / "sr_detection.json").read_text())["pipelines"].keys()
        == results["pipelines"].keys()
    )
    assert list(results["pipelines"]) == ["bicubic", "srcnn", "original"]
    assert (tmp_path / "out" / "robustness.png").exists()
    assert len(list((tmp_path / "out").glob("image-*.png"))) == 1


@pytest.fixture
def coco_weights(monkeypatch):
    """Torchvision's Mask R-CNN and VGG-19 are small networks with random weights; nothing is downloaded."""

    def small(name, weights=None, **options):
        if name == "vgg19":
            return vgg11(num_classes=2)
        options = {"fc_dim": 32, "num_proposals": 20}
        return build_detector(replace(quick_detector_config(), pyramid_channels=16, detector_options=options), 90)

    monkeypatch.setattr(torchvision.models, "get_model", small)


def coco_folder(root, classes=None):
    """Two images, one box each of the last class; with COCO's 80 classes and their gapped ids by default."""
    names = list_coco_labels("maskrcnn_resnet50_fpn")
    coco = {k: name for k, name in enumerate(names) if name not in ("__background__", "N/A")}
    categories = [{"id": k, "name": name} for k, name in (classes or coco).items()]
    (root / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        (root / f"{split}2017").mkdir()
        images = []
        for k in (1, 2):
            Image.new("RGB", (64, 64), (40 * k, 90, 120)).save(root / f"{split}2017" / f"{k}.png")
            images.append({"id": k, "file_name": f"{k}.png", "width": 64, "height": 64})
        boxes = [
            {
                "id": k,
                "image_id": k,
                "category_id": categories[-1]["id"],
                "bbox": [8, 8, 30, 30],
                "area": 900,
                "iscrowd": 0,
            }
            for k in (1, 2)
        ]
        document = {"images": images, "annotations": boxes, "categories": categories}
        (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(document))
    return str(root)


def paper_settings(root, **changes):
    small = fdsr.Settings(
        network=SuperResolverConfig("compact", 2),
        feature_extractor=FeatureExtractorConfig(layers=("c3",)),
        data=CropDataConfig(root, crop_size=32, batch_size=1, num_images=2, num_workers=0),
        evaluation=EvaluationConfig(num_quality_images=1),
        train=StageConfig(1, OptimizerConfig("adam", 1e-3)),
    )
    return replace(small, **changes)


def test_a_run_with_torchvisions_prior_ends_with_its_table(tmp_path, coco_weights):
    settings = paper_settings(coco_folder(tmp_path / "coco"))
    result = train("fdsr", settings, RunOptions(tmp_path / "run", device="cpu"))
    result = result["result"]
    assert list(result["pipelines"]) == ["bicubic", "fdsr", "original"]
    assert result["pipelines"]["fdsr"]["quality"]["num_images"] == 1
    assert evaluate(str(tmp_path / "run"))["pipelines"].keys() == result["pipelines"].keys()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"feature_extractor": FeatureExtractorConfig("vgg19", ("features.3",))}, "--evaluation.detector, or none"),
        ({"evaluation": EvaluationConfig("runs/none")}, "'runs/none' is no detector"),
        ({"evaluation": EvaluationConfig(data="scenes")}, "detector does not know|does not have"),
        ({"evaluation": EvaluationConfig(data="nowhere")}, "--evaluation.data FOLDER"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_the_first_step(tmp_path, coco_weights, changes, message):
    settings = paper_settings(coco_folder(tmp_path / "coco"), **changes)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train("fdsr", settings, RunOptions(tmp_path / "run", device="cpu"))
    assert not (tmp_path / "run").exists()


def test_an_imagenet_prior_is_evaluated_by_another_detector(tmp_path, coco_weights):
    prior = FeatureExtractorConfig("vgg19", ("features.3",))
    settings = paper_settings(
        coco_folder(tmp_path / "coco"),
        feature_extractor=prior,
        evaluation=EvaluationConfig("maskrcnn_resnet50_fpn", num_quality_images=0),
    )
    result = train("fdsr", settings, RunOptions(tmp_path / "run", device="cpu"))
    assert result["result"]["pipelines"]["fdsr"]["metrics"]["ap"] >= 0
    settings = replace(settings, evaluation=EvaluationConfig("none"))
    assert train("fdsr", settings, RunOptions(tmp_path / "other", device="cpu"))["result"] == {"name": "fdsr"}


def test_data_with_some_of_cocos_classes_are_trained_and_evaluated_by_name(tmp_path, coco_weights):
    root = coco_folder(tmp_path / "coco", {3: "car", 7: "tvmonitor", 9: "sign"})
    settings = paper_settings(
        root,
        loss_weights=LossWeights(features=0.0, detection=1.0),
        evaluation=EvaluationConfig(num_quality_images=0, class_map={"stop sign": "sign"}),
    )
    assert find_loss_labels(settings) == {1: 3, 2: 72, 3: 13}
    dataset = build_crop_dataset(settings.data, 0)
    labels = find_loss_labels(settings, dataset)
    _, targets = next(build_labeled_crop_loader(dataset, settings.data, 0, labels).iter_from(0))
    assert targets[0]["labels"].tolist() == [13]
    result = train("fdsr", settings, RunOptions(tmp_path / "run", device="cpu"))["result"]
    assert list(result["pipelines"]["fdsr"]["metrics"]["per_class"]) == ["car", "tvmonitor", "sign"]
    with pytest.raises(ValueError, match="detector does not know sign"):
        find_loss_labels(replace(settings, evaluation=EvaluationConfig()))


def test_a_detector_of_torchvision_that_was_trained_jointly_is_evaluated_and_loaded_again(tmp_path, coco_weights):
    root = coco_folder(tmp_path / "coco")
    settings = paper_settings(
        root,
        data=CropDataConfig(root, crop_size=64, batch_size=2, num_images=2, num_workers=0),
        detector_optimizer=OptimizerConfig("sgd", 1e-3),
        evaluation=EvaluationConfig(num_quality_images=0),
    )
    result = train("fdsr", settings, RunOptions(tmp_path / "run", device="cpu"))["result"]
    assert list(result["pipelines"]) == ["bicubic", "fdsr", "original"]
    assert evaluate(str(tmp_path / "run"))["pipelines"].keys() == result["pipelines"].keys()
    learned = load_joint_detector(tmp_path / "run").state_dict()
    assert all(torch.equal(x, learned[name]) for name, x in load_file(tmp_path / "run" / DETECTOR_FILE).items())


def test_detection_losses_need_annotations(tmp_path, coco_weights):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="has no annotations, which the detection losses need"):
        find_loss_labels(paper_settings(str(tmp_path), loss_weights=LossWeights(detection=1.0)))


def test_table_in_per_cent():
    metrics = {"ap": 0.25, "ap50": 0.5, "ap75": 0.1, "ap_small": None, "ap_medium": 0.3, "ap_large": 0.4}
    rows = {
        "bicubic": {"metrics": metrics, "quality": {"psnr_y": 25.891, "fsim": 0.98721}},
        "original": {"metrics": metrics},
    }
    lines = format_sr_detection(rows).splitlines()
    assert lines[1].split() == ["bicubic", "25.0", "50.0", "10.0", "–", "30.0", "40.0", "25.89", "0.9872"]
    assert lines[2].split() == ["original", "25.0", "50.0", "10.0", "–", "30.0", "40.0"]
