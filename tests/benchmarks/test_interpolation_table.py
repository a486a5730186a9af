"""Steps and output files of the script; the benchmark itself is tested in tests/commands."""

import json
import sys

import interpolation_table
import pytest
from run import write_result

from featlift.papers.afi_gan.settings import STAGES


@pytest.fixture
def run_script(tmp_path, monkeypatch):
    """Runs the script with arguments after ``scenes``; returns the arguments of `run_benchmark`."""
    calls = []

    def run_benchmark(names, settings, folder, seeds, device):
        folder.mkdir(parents=True)
        (folder / "pareto.png").write_bytes(b"image")
        calls.append((names, settings, seeds))
        return [{"caption": "none", "rows": []}]

    monkeypatch.setattr(interpolation_table, "run_benchmark", run_benchmark)
    monkeypatch.setattr(interpolation_table, "RESULTS", tmp_path)
    monkeypatch.setattr(interpolation_table, "write_result", lambda *args: write_result(*args, tmp_path))

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["table", "scenes", *arguments, "--runs", str(tmp_path / "runs")])
        interpolation_table.main()
        return calls[-1]

    return call, tmp_path


def steps(settings):
    return [getattr(settings, stage).steps for stage in STAGES]


def test_the_steps_of_the_start_are_scaled_separately(run_script):
    call, folder = run_script
    unscaled = steps(interpolation_table.DATASETS["scenes"]())
    names, settings, seeds = call("--steps", "0.5", "--start", "2", "--seeds", "4")
    assert steps(settings) == [2 * unscaled[0], *(count // 2 for count in unscaled[1:])]
    assert names == interpolation_table.ALL_CANDIDATES
    assert seeds == 4
    metadata = json.loads((folder / "interpolation_scenes.json").read_text())["made"]
    assert metadata["command"] == "python benchmarks/interpolation_table.py scenes --seeds 4 --steps 0.5 --start 2"
    assert metadata["seed"] == "0 … 3"
    assert (folder / "interpolation_scenes.png").read_bytes() == b"image"


def test_selected_candidates_are_in_the_command(run_script):
    call, folder = run_script
    assert call("--interpolators", "nearest:plain", "light:distilled")[0] == ["nearest:plain", "light:distilled"]
    metadata = json.loads((folder / "interpolation_scenes.json").read_text())["made"]
    assert metadata["command"].endswith("--steps 1 --interpolators nearest:plain light:distilled")


def test_a_figure_is_drawn_from_a_result(tmp_path):
    rows = [
        {"interpolator": "nearest:plain", "ms": 1.0, "AP boxes": "30.0 ± 1.0"},
        {"interpolator": "afi", "ms": 2.0, "AP boxes": "31.0"},
    ]
    write_result("interpolation_tiny", [{"caption": "none", "rows": rows}], {}, tmp_path)
    assert interpolation_table.plot_result("tiny", tmp_path).read_bytes().startswith(b"\x89PNG")
