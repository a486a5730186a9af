"""The cost table: shares, sizes, and that every row is the right network."""

import torch
from efpn_cost import TRANSFERS, everyone, extractor, share, size, table

from featlift.evaluation.profiling import count_macs


def test_a_picture_twice_as_large_costs_four_times_and_efpn_its_extension():
    F = extractor("resnet18").to("meta")
    picture, larger = torch.rand(1, 3, 64, 64, device="meta"), torch.rand(1, 3, 128, 128, device="meta")
    found = {"FPN": lambda: F(picture), "FPN, picture twice as large": lambda: F(larger)}
    counts = {name: count_macs(call) for name, call in found.items()}
    assert counts["FPN, picture twice as large"] == 4 * counts["FPN"]
    assert share(counts, "FPN, picture twice as large") == 1
    assert list(everyone(F, picture, larger))[2:] == [f"EFPN, {title}" for title in TRANSFERS.values()]


def test_sizes():
    assert size("EFPN, authors' width 512") == 32_512_768
    assert size("EFPN, width 128 (the default)") == size("EFPN, width 128, windows around 5 tiles") == 3_311_488
    assert size("FPN") is None


def test_rows():
    tera = {"R50": {"FPN": 1.0, "FPN, picture twice as large": 3.0, "EFPN, width 128, windows around 1 tile": 1.5}}
    clock = {"FPN": 10.0, "FPN, picture twice as large": 40.0}
    rows = table(tera, clock, 96)[0]["rows"]
    assert rows[1]["R50, ms at 96"] == 40
    assert rows[2]["R50, share of 2x's extra"] == 0.25
    assert "R50, ms at 96" not in rows[2]
