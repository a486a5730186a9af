"""Files of an evaluated run."""

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
