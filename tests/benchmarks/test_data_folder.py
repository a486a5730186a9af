"""Results name no folder of the machine that made them."""

from pathlib import Path

import data_folder
import pytest
from data_folder import shorten_paths


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fdsr.py {data}/deeppcb --runs {cwd}/runs/a", "fdsr.py DATA/deeppcb --runs runs/a"),
        ("--work={root}/machine/fsr --steps 1/2", "--work=OUT/fsr --steps 1/2"),
        ("AP and/or AR", "AP and/or AR"),
    ],
)
def test_folders_become_names(text, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(data_folder, "DATA", tmp_path / "sets")
    text = text.format(data=tmp_path / "sets", cwd=Path.cwd(), root=tmp_path.parent)
    assert shorten_paths({"made": [text, 3, None]}) == {"made": [expected, 3, None]}


def test_a_relative_data_folder(monkeypatch):
    monkeypatch.setattr(data_folder, "DATA", Path("data"))
    assert shorten_paths("x.py data/gtsdb mydata/gtsdb") == "x.py DATA/gtsdb mydata/gtsdb"
