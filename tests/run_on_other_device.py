"""Run commands of the command line on the device "other": ``python run_on_other_device.py COMMANDS.json``.

The file holds a list of lists of words. Prints ``{"codes": […], "crossings": {line: number}}`` as its last line.
"""

import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent / "fixtures"))
from other_device import CROSSINGS, other_device

from featlift.cli import main
from featlift.profiling import profile_detectors


def run(commands: list[list[str]]) -> list[int]:
    """Exit codes; the first failure ends the run, because later commands read its results."""
    codes = []
    for words in commands:
        with other_device():
            codes.append(main.main(words))
        if codes[-1]:
            break
    return codes


if __name__ == "__main__":
    torch.set_num_threads(1)
    profile_detectors.__defaults__ = (1, 0)  # one timed round: the times of this device mean nothing
    codes = run(json.loads(Path(sys.argv[1]).read_text()))
    print(json.dumps({"codes": codes, "crossings": CROSSINGS}))
