"""Random weights in published layouts: ``key shape`` lines, where ``[a-b]`` stands for every number from a to b."""

import re
from pathlib import Path

import pytest
import torch

KEYS = Path(__file__).parents[1] / "fixtures" / "official_keys"


def expanded(line):
    key, shape = line.split()
    span = re.search(r"\[(\d+)-(\d+)\]", key)
    numbers = range(int(span[1]), int(span[2]) + 1) if span else [None]
    keys = [key if n is None else f"{key[: span.start()]}{n}{key[span.end() :]}" for n in numbers]
    return dict.fromkeys(keys, shape)


def tensor(shape):
    if shape == "scalar":
        return torch.tensor(7)
    return torch.randn([int(side) for side in shape.split("x")]) * 0.05


def shapes_of(lines):
    return {key: shape for line in lines for key, shape in expanded(line).items()}


def random_state(lines):
    shapes = shapes_of(lines)
    state = {key: tensor(shape) for key, shape in shapes.items()}
    return {key: value.abs() + 0.5 if key.endswith("running_var") else value for key, value in state.items()}


@pytest.fixture(scope="session")
def official():
    """``official("generator")``: random weights in that layout, drawn once."""
    drawn = {}

    def state(layout):
        if layout not in drawn:
            torch.manual_seed(0)
            drawn[layout] = random_state((KEYS / f"{layout}.txt").read_text().splitlines())
        return drawn[layout]

    return state


@pytest.fixture(scope="session")
def official_shapes():
    """``official_shapes("generator")``: key → shape, without weights."""

    def shapes(layout):
        found = shapes_of((KEYS / f"{layout}.txt").read_text().splitlines())
        return {
            key: [] if shape == "scalar" else [int(side) for side in shape.split("x")] for key, shape in found.items()
        }

    return shapes
