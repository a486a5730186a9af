"""Evaluations use all processes: two gloo processes share the images and find what one process finds."""

import json
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.forked_scripts import run_script

from featlift.data.config import build_dataset, load_data_config
from featlift.detectors.checkpoint import load_detector
from featlift.evaluation.detection import evaluate_detector

WORKER = Path(__file__).with_name("evaluation_processes.py")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Results of one process, and of each of two."""
    folder = tmp_path_factory.mktemp("processes")
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        ports = [str(free.getsockname()[1]) for free in sockets]
    done = run_script(WORKER, folder, *ports)
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads((folder / f"{name}.json").read_text()) for name in ("alone", "rank0", "rank1")]


def test_fdsr(results):
    alone, *both = (result["fdsr"] for result in results)
    assert [part["metrics"] for part in both] == [alone["metrics"]] * 2
    assert list(alone["metrics"]) == ["bicubic", "srcnn", "original"]
    assert alone["images"] == 3 * 3
    assert [part["images"] for part in both] == [3 * 2, 3 * 1]


def test_fsr_gan(results):
    alone, *both = (result["fsr-gan"] for result in results)
    assert [part["curves"] for part in both] == [alone["curves"]] * 2
    assert sum(part["images"] for part in both) == alone["images"]
    assert min(part["images"] for part in both) >= alone["images"] // 3


def test_evaluations_during_a_training(results):
    """Two evaluations of three images; the AP in the log is that of the weights that were kept."""
    alone, *both = (result["baseline"] for result in results)
    assert alone["images"] == 2 * 3
    assert [part["images"] for part in both] == [2 * 2, 2 * 1]
    run = Path(both[0]["run"])
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    aps = [line["ap"] for line in log if line["stage"] == "evaluation"]
    assert len(aps) == 2
    best = json.loads((run / "best.json").read_text())
    assert best["ap"] == max(aps)
    detector, _ = load_detector(run / "best_detector.safetensors")
    dataset = build_dataset(load_data_config(run), "val")
    assert evaluate_detector(detector, dataset, progress=False).metrics["boxes"]["ap"] == pytest.approx(best["ap"])
