"""The table of costs has a row per network."""

import pytest
from level_cost import NETWORKS, measure_costs


def test_a_row_per_network():
    pytest.importorskip("yolox", reason="needs pixeltable-yolox")
    (table,) = measure_costs({"YOLOX-nano": (NETWORKS["YOLOX-nano"][0], 64)}, rounds=0)
    (row,) = table["rows"]
    assert row["network"] == "YOLOX-nano"
    assert 0 < row["level / 2x image"] < 1.1
    assert "level, ms" not in row
