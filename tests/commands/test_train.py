import json

import pytest

from featlift.cli import main
from featlift.runs.results import read_result


def test_a_run_folder_says_everything(trained, coco):
    folder = trained["nearest"]
    there = {path.name for path in folder.iterdir()}
    assert there >= {
        "settings.json", "run.json", "log.jsonl", "checkpoint", "detector.safetensors", "detections.json", "result.json",
        "report.html",
    }  # fmt: skip
    result = read_result(folder)
    assert result["settings"]["data"]["root"] == str(coco)
    assert result["settings"]["model"]["pyramid_channels"] == 8
    assert result["stages"]["train"]["step"] == 1
    assert 0 <= result["result"]["metrics"]["boxes"]["ap"] <= 1
    assert result["result"]["profile"]["num_parameters"] > 0
    assert len(result["data"]) > 8


def test_the_same_command_again_only_loads(trained, coco, capsys):
    settings = json.loads((trained["nearest"] / "settings.json").read_text())
    written = (trained["nearest"] / "log.jsonl").read_text()
    words = [
        "--run",
        str(trained["nearest"]),
        "--data",
        str(coco),
        "--data.batch_size=2",
        "--train.steps=1",
        "--device=cpu",
    ]
    words += [
        "--model.pyramid_channels=8",
        f"--model.detector_options={json.dumps(settings['model']['detector_options'])}",
    ]
    assert main.main(["train", "baseline", *words]) == 0
    assert "train is finished" in capsys.readouterr().out
    assert (trained["nearest"] / "log.jsonl").read_text() == written


def test_other_settings_in_the_same_folder_are_refused(trained, coco, capsys):
    assert (
        main.main(["train", "baseline", "--run", str(trained["nearest"]), "--data", str(coco), "--device", "cpu"]) == 1
    )
    printed = capsys.readouterr().err
    assert "train.steps: 1 stored, 600 given" in printed
    assert "Traceback" not in printed


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="it is not a run, or not finished"):
        read_result(tmp_path)
