"""Evaluation of a detector on other data, at several scales, and of other classes."""

import json

from featlift.cli import main


def test_multi_scale_testing(trained, coco, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    for name in ("detector.safetensors", "settings.json"):
        (run / name).symlink_to(trained["nearest"] / name)
    assert main.main(["evaluate", str(run), "--scales", "[1.0, 1.5]", "--flip", "--merge-method", "soft-nms"]) == 0
    assert json.loads((run / "evaluation-own-val-multi-scale.json").read_text())["metrics"]["boxes"]
    assert main.main(["evaluate", str(run), "--scales", "[1.5]", "--merge-method", "mean"]) == 2
    assert "choose one of nms, soft-nms" in capsys.readouterr().err


def test_a_detector_file_is_evaluated_on_other_data(trained, coco, tmp_path, capsys):
    words = [str(trained["nearest"] / "detector.safetensors"), "--data", str(coco), "--out", str(tmp_path / "m.json")]
    assert main.main(["evaluate", *words, "--split", "train"]) == 0
    assert json.loads((tmp_path / "m.json").read_text())["metrics"]["boxes"]
    assert str(tmp_path / "m.json") in capsys.readouterr().out


def test_images_of_other_classes_are_refused(trained, coco, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    for path in coco.iterdir():
        if path.is_dir():
            (other / path.name).symlink_to(path)
            continue
        truth = json.loads(path.read_text())
        truth["categories"][0]["name"] = "zebra"
        (other / path.name).write_text(json.dumps(truth))
    assert main.main(["evaluate", str(trained["nearest"]), "--data", str(other)]) == 1
    printed = capsys.readouterr().err
    assert "the detector does not know zebra" in printed


def test_slices_one_level_and_p2_of_the_image_at_twice_the_size(trained, tmp_path):
    """As a user evaluates them; each kind has a file of its own."""
    run = tmp_path / "run"
    run.mkdir()
    for name in ("detector.safetensors", "settings.json"):
        (run / name).symlink_to(trained["nearest"] / name)
    options = {
        "slices": ["--slice-size", "40", "--slice-scale", "2"],
        "p3": ["--level", "p3"],
        "double-size-level": ["--double-size-level", "32"],
    }
    for variant, words in options.items():
        assert main.main(["evaluate", str(run), *words]) == 0
        content = json.loads((run / f"evaluation-own-val-{variant}.json").read_text())
        assert content["metrics"]["boxes"]["ap"] is not None


def test_an_unknown_level_is_refused(trained, capsys):
    assert main.main(["evaluate", str(trained["nearest"]), "--level", "p3x"]) == 1
    assert "choose one of p2, p3, p4, p5, p6" in capsys.readouterr().err


def test_voc_data_are_also_evaluated_by_vocs_protocols(trained, coco, tmp_path, capsys):
    assert main.main(["data", "convert", str(coco), str(tmp_path / "voc"), "--to", "voc"]) == 0
    words = [str(trained["nearest"]), "--data", str(tmp_path / "voc"), "--out", str(tmp_path / "m.json")]
    assert main.main(["evaluate", *words, "--image-size", "96x80"]) == 0
    written = json.loads((tmp_path / "m.json").read_text())
    assert written["inference"]["image_size"] == "96x80"
    assert all(max(d["bbox"][0] + d["bbox"][2], d["bbox"][1] + d["bbox"][3]) <= 64.01 for d in written["detections"])
    voc = written["voc"]
    assert set(voc) == {"VOC2007", "VOC2012"}
    assert "VOC2007: mAP" in capsys.readouterr().out
