import json

import pytest

from featlift.checkpoints import save
from featlift.cli import main
from featlift.commands.evaluate import evaluate
from featlift.image_sr import super_resolver
from featlift.image_sr.checkpoint import SUPER_RESOLVER_FILE
from featlift.runs.options import InferenceOptions
from featlift.runs.results import read_result


def test_a_run_is_measured_as_it_was_when_it_ended(trained, capsys):
    metrics = evaluate(str(trained["nearest"]))
    assert metrics == read_result(trained["nearest"])["result"]["metrics"]
    assert "nearest, boxes: ap " in capsys.readouterr().out
    saved = json.loads((trained["nearest"] / "evaluation-own-val.json").read_text())
    assert set(saved) == {"data", "inference", "metrics", "detections"}


def test_super_resolved_images(trained, tmp_path, capsys):
    save(super_resolver("srcnn-915", 4), tmp_path / "sr" / SUPER_RESOLVER_FILE)
    words = [
        "--super-resolvers.srcnn",
        str(tmp_path / "sr"),
        "--out",
        str(tmp_path / "out"),
        "--downscale",
        "4,2",
    ]
    assert main.main(["evaluate", str(trained["nearest"]), *words]) == 0
    results = json.loads((tmp_path / "out" / "sr_detection.json").read_text())
    assert list(results["pipelines"]) == ["bicubic", "srcnn", "original"]
    assert list(results["robustness"]["srcnn"]) == ["4", "2"]
    assert (tmp_path / "out" / "robustness.png").exists()
    assert "bicubic" in capsys.readouterr().out


def test_no_such_run(tmp_path, capsys):
    assert main.main(["evaluate", str(tmp_path / "nothing")]) == 1
    assert "There is no file" in capsys.readouterr().err


def test_options_that_super_resolvers_do_not_use_are_refused(trained, tmp_path):
    inference = InferenceOptions(flip=True, delta="level.safetensors", image_size="64x64")
    with pytest.raises(ValueError, match=r"--super-resolvers does not use --flip, --delta; leave it out"):
        evaluate(str(trained["nearest"]), super_resolvers={"srcnn": str(tmp_path)}, inference=inference)
