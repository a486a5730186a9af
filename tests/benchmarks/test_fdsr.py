"""benchmarks/fdsr.py: the whole script on three crops, resumed, and its parts."""

import json
import sys

import fdsr
import pytest
from crop_dataset import make_annotation

from featlift.checkpoints.json_io import write_json
from featlift.data.synthetic.scenes import SyntheticScenes
from featlift.image_sr.network import SuperResolverConfig, build_super_resolver
from report import fill_blocks, read_results


@pytest.fixture
def data(tmp_path):
    """Three scenes of 80 px in COCO's form, the same for training and evaluation."""
    from torchvision.transforms.v2.functional import to_pil_image

    scenes = SyntheticScenes(3, (80, 80), num_objects=(2, 3), object_sizes=(16, 30))
    truth = scenes.coco()
    for split in ("train", "val"):
        (tmp_path / "data" / split).mkdir(parents=True)
        objects = []
        for index, image in enumerate(truth["images"]):
            pixels, target = scenes[index]
            to_pil_image(pixels).save(tmp_path / "data" / split / f"{index}.png")
            image["file_name"] = f"{index}.png"
            for box, label in zip(target["boxes"].tolist(), target["labels"].tolist(), strict=True):
                objects.append(make_annotation(len(objects) + 1, image["id"], box, label))
        write_json(tmp_path / "data" / f"instances_{split}.json", {**truth, "annotations": objects})
    return tmp_path / "data"


def test_the_whole_script(tmp_path, data, monkeypatch):
    candidates = fdsr.build_candidates(0.05)
    monkeypatch.setattr(
        fdsr, "build_candidates", lambda tdsr_weight: {name: candidates[name] for name in ("FDSR", "TDSR", "SR4IR")}
    )
    small = ["--seeds", "1", "--steps", "1", "--batch-size", "2", "--detector-steps", "1", "--detector-batch-size", "2"]
    sizes = ["--dataset-crop-size", "64", "--crops-per-image", "1", "--crop-size", "48", "--quality-images", "1"]
    sizes += ["--examples", "1", "--downscale-sweep", "2"]
    folders = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(sys, "argv", ["fdsr.py", str(data), *small, *sizes, *folders])
    fdsr.main()
    result = json.loads((tmp_path / "out" / "fdsr.json").read_text())
    assert [row["method"] for row in result["tables"][0]["rows"]] == [
        "bicubic",
        "FDSR",
        "TDSR",
        "SR4IR",
        "fine-tuned",
        "original",
    ]
    assert list(result["tables"][1]["rows"][0]) == ["method", "1/2"]
    assert len(result["seeds"]) == 1
    assert result["made"]["seed"] == "0 to 0"
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == [
        "fdsr-image-0.png",
        "fdsr-robustness.png",
    ]
    monkeypatch.setattr(fdsr.evaluation, "evaluate_sr_detection", lambda *args: pytest.fail("evaluated twice"))
    fdsr.main()
    assert json.loads((tmp_path / "out" / "fdsr.json").read_text())["tables"] == result["tables"]
    assert "| fine-tuned |" in fill_blocks("", read_results(tmp_path / "out"))


def test_every_network_can_be_built():
    for name, candidate in fdsr.build_candidates(0.3).items():
        build_super_resolver(SuperResolverConfig(candidate.network, 4, fdsr.NETWORK_OPTIONS[candidate.network]))
        assert (candidate.loss_weights.detection == 0.3) == (name == "TDSR")
        assert (candidate.detector_optimizer is not None) == (name == "SR4IR")


def test_mean_and_deviation():
    assert fdsr.format_mean_std([10.0, 12.0, 14.0], 1) == "12.0 ± 2.0"
    assert fdsr.format_mean_std([3.0, 3.0], 2) == "3.00"
    assert fdsr.format_mean_std([3.0, None], 2) is None
