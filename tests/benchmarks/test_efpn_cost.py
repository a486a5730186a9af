"""The cost table: relative increases, parameters, and the network of every row."""

import torch
from efpn_cost import (
    DOUBLE_SIZE,
    TRANSFERS,
    build_calls,
    build_table,
    extension_parameters,
    extractor,
    relative_increase,
)

from featlift.profiling import count_macs


def test_double_size_costs_four_times():
    F = extractor("resnet18").to("meta")
    image, larger = torch.rand(1, 3, 64, 64, device="meta"), torch.rand(1, 3, 128, 128, device="meta")
    calls = {"FPN": lambda: F(image), DOUBLE_SIZE: lambda: F(larger)}
    counts = {name: count_macs(call) for name, call in calls.items()}
    assert counts[DOUBLE_SIZE] == 4 * counts["FPN"]
    assert relative_increase(counts, DOUBLE_SIZE) == 1
    assert list(build_calls(F, image, larger))[2:] == [f"EFPN, {title}" for title in TRANSFERS.values()]


def test_sizes():
    assert extension_parameters("EFPN, authors' width 512") == 32_512_768
    assert (
        extension_parameters("EFPN, width 128 (the default)")
        == extension_parameters("EFPN, width 128, 5 tiles")
        == 3_311_488
    )
    assert extension_parameters("FPN") is None


def test_rows():
    tera = {"R50": {"FPN": 1.0, DOUBLE_SIZE: 3.0, "EFPN, width 128, 1 tile": 1.5}}
    ms = {"FPN": 10.0, DOUBLE_SIZE: 40.0}
    rows = build_table(tera, ms, 96)[0]["rows"]
    assert rows[1]["R50, ms at 96"] == 40
    assert rows[2]["R50, share of 2x's extra"] == 0.25
    assert "R50, ms at 96" not in rows[2]
