"""The table of costs has a row per network; the published networks have the published sizes."""

import pytest
import torch
from level_cost import NETWORKS, measure_costs, rt_detr_r18


def test_a_row_per_network():
    pytest.importorskip("yolox", reason="needs pixeltable-yolox")
    (table,) = measure_costs({"YOLOX-nano": (NETWORKS["YOLOX-nano"][0], 64)}, rounds=0)
    (row,) = table["rows"]
    assert row["network"] == "YOLOX-nano"
    assert 0 < row["level / 2x image"] < 1.1
    assert "level, ms" not in row


def test_the_configuration_is_the_published_one():
    pytest.importorskip("transformers")
    with torch.device("meta"):
        parameters = sum(p.numel() for p in rt_detr_r18().parameters())
    assert parameters / 1e6 == pytest.approx(20, abs=0.3)
