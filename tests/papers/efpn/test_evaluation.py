"""``featlift train efpn``: the files of a run, and that a finished run is only evaluated again."""

import json
from pathlib import Path

import pytest
import torch

from featlift.checkpoints import read_tensors
from featlift.cli import main
from featlift.detectors.checkpoint import load_detector
from featlift.detectors.efpn_config import efpn_modules
from featlift.papers.efpn import evaluation
from featlift.papers.efpn.evaluation import extended_level_maps


@pytest.fixture(scope="module")
def argv(coco, tmp_path_factory):
    folder = tmp_path_factory.mktemp("efpn")
    return [
        "train", "efpn", "--preset", "quick", "--data", str(coco), "--run", str(folder),
        "--data.min_size", "[64]", "--data.batch_size", "2",
        "--model.pyramid_channels", "8", "--model.detector_options", '{"anchor_scale": 4.0, "fc_dim": 16, "num_proposals": 20}',
        "--extended_level.transfer_options", '{"hidden_channels": 4}', "--detector.steps", "1",
        "--extension.steps", "1", "--head.steps", "1", "--device", "cpu",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def run(argv):
    """The folder after a training."""
    assert main.main(argv) == 0
    return Path(argv[argv.index("--run") + 1])


def test_the_result_has_the_metrics_of_both_detectors(run):
    result = json.loads((run / "result.json").read_text())
    assert result["result"]["name"] == "efpn"
    assert set(result["result"]["base_metrics"]) == set(result["result"]["metrics"]) == {"boxes"}
    assert set(result["stages"]) == {"detector", "extension", "head"}


def test_the_page_has_both_and_the_maps(run):
    page = (run / "report.html").read_text()
    assert all(
        text in page for text in (evaluation.BASELINE_NAME, "Objects found and missed by efpn", "p3x", "p2x", "target")
    )


def test_a_finished_run_is_only_evaluated_again(run, argv, capsys):
    before, _ = read_tensors(run / "detector.safetensors")
    assert main.main(argv) == 0
    printed = capsys.readouterr().out
    assert all(f"{stage} is finished" in printed for stage in ("detector", "extension", "head"))
    assert "parameters" in printed
    after, _ = read_tensors(run / "detector.safetensors")
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_maps_of_the_target_and_of_the_extension(run):
    T = load_detector(run)[0].eval()
    image = torch.rand(3, 50, 64)
    maps = extended_level_maps(T, image)
    sizes = {name: {level: tuple(x.shape[-2:]) for level, x in levels.items()} for name, levels in maps.items()}
    assert sizes["extension"] == {"p3x": (16, 16), "p2x": (32, 32)}
    assert sizes["target"] == {"image": (64, 64), **sizes["extension"]}
    F, _ = efpn_modules(T)
    with torch.no_grad():
        torch.testing.assert_close(maps["extension"]["p2x"], F.extended_levels(F(maps["target"]["image"]))["p2x"])
