"""The steps that the script asks for, and where it puts what comes out; the contest itself is tested with `versus`."""

import json
import sys

import interpolation_table
import pytest
from run import keep

from featlift.papers import afi_gan


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Calls the script with words behind ``scenes``; what it asked the contest for is returned."""
    calls = []

    def tournament(names, settings, folder, seeds, device):
        folder.mkdir(parents=True)
        (folder / "pareto.png").write_bytes(b"picture")
        calls.append((names, settings, seeds))
        return [{"caption": "none", "rows": []}]

    monkeypatch.setattr(interpolation_table, "tournament", tournament)
    monkeypatch.setattr(interpolation_table, "RESULTS", tmp_path)
    monkeypatch.setattr(interpolation_table, "keep", lambda *found: keep(*found, tmp_path))

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["table", "scenes", *words, "--runs", str(tmp_path / "runs")])
        interpolation_table.main()
        return calls[-1]

    return call, tmp_path


def steps(settings):
    return [getattr(settings, stage).steps for stage in afi_gan.STAGES]


def test_start_and_what_follows_are_shortened_apart(asked):
    call, folder = asked
    whole = steps(interpolation_table.SETS["scenes"]())
    names, settings, seeds = call("--steps", "0.5", "--start", "2", "--seeds", "4")
    assert steps(settings) == [2 * whole[0], *(one // 2 for one in whole[1:])]
    assert names == interpolation_table.EVERYONE
    assert seeds == 4
    made = json.loads((folder / "interpolation_scenes.json").read_text())["made"]
    assert made["command"] == "python benchmarks/interpolation_table.py scenes --seeds 4 --steps 0.5 --start 2"
    assert made["seed"] == "0 … 3"
    assert (folder / "interpolation_scenes.png").read_bytes() == b"picture"


def test_those_that_were_chosen_are_in_the_command(asked):
    call, folder = asked
    assert call("--interpolators", "nearest:plain", "light:taught")[0] == ["nearest:plain", "light:taught"]
    made = json.loads((folder / "interpolation_scenes.json").read_text())["made"]
    assert made["command"].endswith("--steps 1 --interpolators nearest:plain light:taught")
