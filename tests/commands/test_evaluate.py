import json

from featlift.checkpoints import save
from featlift.cli import main
from featlift.commands.evaluate import evaluate
from featlift.image_sr import super_resolver
from featlift.image_sr.checkpoint import SUPER_RESOLVER_FILE
from featlift.runs.results import read_result


def test_a_run_is_measured_as_it_was_when_it_ended(trained, capsys):
    metrics = evaluate(str(trained["nearest"]))
    assert metrics == read_result(trained["nearest"])["result"]["metrics"]
    assert "nearest, boxes: ap " in capsys.readouterr().out
    saved = json.loads((trained["nearest"] / "evaluation-own-val.json").read_text())
    assert set(saved) == {"data", "metrics", "detections"}


def test_multi_scale_testing(trained, coco, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    for name in ("detector.safetensors", "settings.json"):
        (run / name).symlink_to(trained["nearest"] / name)
    assert main.main(["evaluate", str(run), "--scales", "[1.0, 1.5]", "--flip", "--merge-method", "soft-nms"]) == 0
    assert json.loads((run / "evaluation-own-val-multi-scale.json").read_text())["metrics"]["boxes"]
    assert main.main(["evaluate", str(run), "--scales", "[1.5]", "--merge-method", "mean"]) == 1
    assert "choose one of nms, soft-nms" in capsys.readouterr().err


def test_a_detector_file_is_evaluated_on_other_data(trained, coco, tmp_path, capsys):
    words = [str(trained["nearest"] / "detector.safetensors"), "--data", str(coco), "--out", str(tmp_path / "m.json")]
    assert main.main(["evaluate", *words, "--split", "train"]) == 0
    assert json.loads((tmp_path / "m.json").read_text())["metrics"]["boxes"]
    assert str(tmp_path / "m.json") in capsys.readouterr().out


def test_super_resolved_images(trained, tmp_path, capsys):
    save(super_resolver("srcnn-915", 4), tmp_path / "sr" / SUPER_RESOLVER_FILE)
    words = [
        "--super-resolvers.srcnn",
        str(tmp_path / "sr"),
        "--out",
        str(tmp_path / "out"),
        "--downscale-sweep",
        "[2, 4]",
    ]
    assert main.main(["evaluate", str(trained["nearest"]), *words]) == 0
    results = json.loads((tmp_path / "out" / "sr_detection.json").read_text())
    assert list(results["pipelines"]) == ["bicubic", "srcnn", "original"]
    assert list(results["robustness"]["srcnn"]) == ["2", "4"]
    assert (tmp_path / "out" / "robustness.png").exists()
    assert "bicubic" in capsys.readouterr().out


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
    assert printed.startswith("featlift: The detector has the classes ")
    assert "zebra" in printed


def test_no_such_run(tmp_path, capsys):
    assert main.main(["evaluate", str(tmp_path / "nothing")]) == 1
    assert "There is no file" in capsys.readouterr().err
