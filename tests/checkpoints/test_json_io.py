"""JSON of settings and results."""

import json
from pathlib import Path

import torch

from featlift.checkpoints.json_io import flatten_dict, to_jsonable, write_json

VALUES = {"a": (1, torch.tensor([2.0])), "b": {3, 1}, "c": Path("x"), "d": torch.device("cpu"), 5: None}
JSON = {"a": [1, [2.0]], "b": [1, 3], "c": "x", "d": "cpu", "5": None}


def test_to_jsonable():
    assert to_jsonable(VALUES) == JSON


def test_a_file_holds_what_json_can_hold(tmp_path):
    assert json.loads(write_json(tmp_path / "x.json", VALUES).read_text()) == JSON


def test_nested_dicts_are_flattened_to_dotted_names():
    assert flatten_dict({"a": {"b": {"c": 1}, "d": [2]}, "e": {}, "f": 3}) == {"a.b.c": 1, "a.d": [2], "f": 3}
