import json

from featlift.cli import main


def test_the_same_command_again_only_loads(trained, coco, capsys):
    settings = json.loads((trained["nearest"] / "settings.json").read_text())
    written = (trained["nearest"] / "log.jsonl").read_text()
    words = [
        "--run",
        str(trained["nearest"]),
        "--data",
        str(coco),
        "--preset=quick",
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
    words = ["--preset", "quick", "--run", str(trained["nearest"]), "--data", str(coco), "--device", "cpu"]
    assert main.main(["train", "baseline", *words]) == 1
    printed = capsys.readouterr().err
    assert "train.steps: 1 stored, 600 given" in printed
    assert "Traceback" not in printed
