import json

import pytest
import torch

from featlift import baseline
from featlift.baseline import Settings, best_checkpoint
from featlift.detectors.checkpoint import load_detector
from featlift.runs.options import RunOptions


def test_the_weights_of_the_highest_ap_are_kept(run, model, data, stage, monkeypatch, tmp_path):
    """AP 0.1, 0.3, 0.2 after 1, 2 and 3 steps: the second weights are kept, and training goes on as without evaluations."""
    settings, seen, aps = Settings(model("nearest"), data(), stage(3)), [], iter((0.1, 0.3, 0.2))

    class Result:
        def __init__(self, ap):
            self.metrics = {"boxes": {"ap": ap}}

    def evaluate(detector, *rest, **options):
        seen.append({name: x.clone() for name, x in detector.state_dict().items()})
        detector.eval()
        return Result(next(aps))

    monkeypatch.setattr(best_checkpoint, "evaluate_detector", evaluate)
    with run(settings, "evaluated") as folder:
        folder.evaluate_every = 1
        last = baseline.train(settings, folder)
        log = folder.read_log("evaluation")
    assert [(line["step"], line["ap"]) for line in log] == [(1, 0.1), (2, 0.3), (3, 0.2)]
    assert json.loads((tmp_path / "evaluated" / "best.json").read_text()) == {"step": 2, "ap": 0.3}
    best = load_detector(tmp_path / "evaluated" / "best_detector.safetensors")[0].state_dict()
    assert all(torch.equal(best[name], x) for name, x in seen[1].items())
    with run(settings, "plain") as folder:
        plain = baseline.train(settings, folder)
    assert len(seen) == 3
    assert all(torch.equal(x, last.state_dict()[name]) for name, x in plain.state_dict().items())


def test_a_negative_interval_is_refused():
    with pytest.raises(ValueError, match="--evaluate-every"):
        RunOptions(evaluate_every=-1)
