import time
from dataclasses import replace

import gpu
import pytest
import torch
from tests.device_commands import COMMANDS


@pytest.fixture
def setup():
    return gpu.Setup(torch.device("cpu"), True, time.monotonic() + 60)


def test_commands_name_the_device_and_trainings_the_precision():
    assert gpu.set_device("train efpn --device other --precision bf16 --run r", "cuda", "fp16") == (
        "train efpn --device cuda --run r --precision fp16"
    )
    assert gpu.set_device("evaluate r --device other", "cuda", "fp16") == "evaluate r --device cuda"
    for commands in COMMANDS.values():
        for command in commands:
            assert "other" not in gpu.set_device(command, "cuda", "fp32")


def test_every_command_is_run_in_every_precision_until_one_fails(setup, monkeypatch):
    called = []

    def run(words):
        called.append(words)
        return words[0] == "evaluate" and "bf16" in str(words)

    monkeypatch.setattr(gpu.cli, "main", run)
    monkeypatch.setattr(gpu, "write_inputs", lambda folder: {"coco": folder / "coco", "out": folder})
    (table,) = gpu.check_commands(setup, ("cascade", "efpn"))
    assert [row["commands"] for row in table["rows"]] == ["cascade", "efpn"]
    assert all(row["fp32"] == row["fp16"] == "ok" for row in table["rows"])
    assert all(row["bf16"].startswith("failed: featlift evaluate") for row in table["rows"])
    assert len(called) == (2 + 2 + 2) + (3 + 2 + 3)


def test_commands_that_cannot_run_or_are_too_late_are_recorded(setup, monkeypatch):
    monkeypatch.setattr(gpu.cli, "main", lambda words: 0)
    monkeypatch.setattr(gpu, "write_inputs", lambda folder: dict.fromkeys(("coco", "places", "known", "out"), folder))
    monkeypatch.setattr(gpu.importlib.util, "find_spec", lambda name: None)
    (table,) = gpu.check_commands(setup, ("fsr-gan",))
    assert table["rows"][0]["bf16"] == "ok, without index (no LanceDB), without search (no LanceDB)"
    late = replace(setup, tiny=False, deadline=time.monotonic() - 1)
    (table,) = gpu.check_commands(late, ("fsr-gan",))
    assert table["rows"][0]["fp32"] == "not run: no time left"


def test_retrieval_is_timed(setup):
    table = gpu.retrieval_table(setup.device, 1, 1)
    assert len(table["rows"]) == 4
    assert all(row["ms (fastest)"] > 0 for row in table["rows"])


def test_a_part_that_fails_is_recorded(setup, monkeypatch, capsys):
    def fail(setup):
        raise RuntimeError("out of memory")

    monkeypatch.setitem(gpu.PARTS, "compile", fail)
    (table,) = gpu.run_part("compile", setup)
    assert table["caption"] == "compile: failed"
    assert "out of memory" in table["rows"][0]["error"]
    assert "out of memory" in capsys.readouterr().err


def test_compiled_interpolators_equal_eager_ones(setup, monkeypatch):
    monkeypatch.setattr(gpu, "COMPILED", ("light",))
    monkeypatch.setattr(gpu.torch, "compile", lambda module: torch.nn.Sequential(module))
    (table,) = gpu.check_compiled(setup)
    assert table["rows"][0]["relative error"] == 0
