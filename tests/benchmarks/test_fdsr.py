"""The parts of benchmarks/fdsr.py that can break: the whole script on three windows, stopped and called again."""

import json
import sys

import fdsr
import pytest
from windows import annotation

from featlift.data.synthetic.scenes import SyntheticScenes
from featlift.image_sr.network import SuperResolverConfig, build_super_resolver
from featlift.training.run import write_json
from report import filled, read


@pytest.fixture
def data(tmp_path):
    """Three scenes of 80 px in COCO's form, the same for training and measuring."""
    from torchvision.transforms.v2.functional import to_pil_image

    scenes = SyntheticScenes(3, (80, 80), num_objects=(2, 3), object_sizes=(16, 30))
    truth = scenes.coco()
    for split in ("train", "val"):
        (tmp_path / "data" / split).mkdir(parents=True)
        objects = []
        for index, image in enumerate(truth["images"]):
            picture, target = scenes[index]
            to_pil_image(picture).save(tmp_path / "data" / split / f"{index}.png")
            image["file_name"] = f"{index}.png"
            for box, label in zip(target["boxes"].tolist(), target["labels"].tolist(), strict=True):
                objects.append(annotation(len(objects) + 1, image["id"], box, label))
        write_json(tmp_path / "data" / f"instances_{split}.json", {**truth, "annotations": objects})
    return tmp_path / "data"


def test_the_whole_script(tmp_path, data, monkeypatch):
    every = fdsr.learners(0.05)
    monkeypatch.setattr(fdsr, "learners", lambda tdsr: {name: every[name] for name in ("FDSR", "TDSR", "SR4IR")})
    small = ["--seeds", "1", "--steps", "1", "--batch", "2", "--detector-steps", "1", "--detector-batch", "2"]
    sizes = ["--side", "64", "--windows", "1", "--crop", "48", "--judged", "1", "--drawn", "1", "--factors", "2"]
    folders = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(sys, "argv", ["fdsr.py", str(data), *small, *sizes, *folders])
    fdsr.main()
    found = json.loads((tmp_path / "out" / "fdsr.json").read_text())
    assert [row["method"] for row in found["tables"][0]["rows"]] == [
        "bicubic",
        "FDSR",
        "TDSR",
        "SR4IR",
        "fine-tuned",
        "original",
    ]
    assert list(found["tables"][1]["rows"][0]) == ["method", "1/2"]
    assert len(found["seeds"]) == 1
    assert found["made"]["seed"] == "0 to 0"
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == [
        "fdsr-picture-0.png",
        "fdsr-robustness.png",
    ]
    monkeypatch.setattr(fdsr.super_resolution_detection, "measure", lambda *how: pytest.fail("measured twice"))
    fdsr.main()
    assert json.loads((tmp_path / "out" / "fdsr.json").read_text())["tables"] == found["tables"]
    assert "| fine-tuned |" in filled("", read(tmp_path / "out"))


def test_every_network_can_be_made():
    for name, learner in fdsr.learners(0.3).items():
        build_super_resolver(SuperResolverConfig(learner.network, 4, fdsr.SMALL[learner.network]))
        assert (learner.terms.detection == 0.3) == (name == "TDSR")
        assert (learner.together is not None) == (name == "SR4IR")


def test_mean_and_spread():
    assert fdsr.spread([10.0, 12.0, 14.0], 1) == "12.0 ± 2.0"
    assert fdsr.spread([3.0, 3.0], 2) == "3.00"
    assert fdsr.spread([3.0, None], 2) is None
