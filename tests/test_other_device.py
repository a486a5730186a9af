"""Trainings, evaluations and other commands on a device that is not the CPU (``fixtures/other_device.py``).

Each runs in a process of its own: the device is registered with PyTorch for the rest of the process.
"""

import json
from pathlib import Path

import pytest
from tests.device_commands import BASELINE, COMMANDS, split_command, write_inputs
from tests.forked_scripts import run_script

SCRIPT = Path(__file__).parent / "run_on_other_device.py"
STEP_FILES = (
    "training/",
    "losses",
    "distillation/discriminator",
    "distillation/patch",
    "interpolators/",
    "pyramids/",
    "backbones/",
)
"""Files whose lines run in every step; where the loop logs and saves they may read values of the device."""


@pytest.fixture(scope="module")
def places(coco, tmp_path_factory):
    return write_inputs(tmp_path_factory.mktemp("other"), coco)


def run_commands(commands: list[str], places: dict[str, Path], tmp_path: Path) -> dict[str, int]:
    """Run ``commands`` on the device; return the lines that read values of it, with their number."""
    words = [split_command(command, places) for command in commands]
    (tmp_path / "commands.json").write_text(json.dumps(words))
    done = run_script(SCRIPT, tmp_path / "commands.json")
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["codes"] == [0] * len(commands), done.stderr[-3000:]
    return result["crossings"]


@pytest.mark.slow
@pytest.mark.parametrize("paper", COMMANDS)
def test_no_tensor_is_left_on_the_cpu(paper, places, tmp_path):
    crossings = run_commands(COMMANDS[paper], places, tmp_path)
    steps = {
        line for line in crossings if line.startswith(STEP_FILES) and "grad_scaler" not in line
    }  # PyTorch's own, in fp16
    assert {line.partition(":")[0] for line in steps} <= {"training/loop.py", "training/checkpointing.py"}, steps
    if paper == "efpn":  # the small RoIs of a step: their numbers, and which they are
        head = {line: number for line, number in crossings.items() if "counts = " in line or "small = " in line}
        assert sum(head.values()) == 2, head
        assert not any(line.startswith("detectors/ohem") for line in crossings), crossings


@pytest.mark.slow
def test_a_training_waits_for_the_device_only_where_it_logs_and_saves(places, tmp_path):
    command = BASELINE.replace("{out}/baseline", "{out}/sync") + " --log-every 2 --save-every 4"
    crossings = run_commands([command], places, tmp_path)
    training = {
        line: number for line, number in crossings.items() if line.startswith(("training/", "baseline/", "losses"))
    }
    assert {line.partition(":")[0] for line in training} == {"training/loop.py", "training/checkpointing.py"}
    assert sum(training.values()) <= 2 + 1 + 1, training  # two log records, one snapshot, one check of the parameters
