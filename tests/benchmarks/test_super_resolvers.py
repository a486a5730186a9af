import torch
from super_resolvers import inference, reaches, training


def test_every_way_beside_the_plain_one():
    table = inference(torch.device("cpu"), rounds=1, side=8, networks=("compact",))
    rows = {(row["layout"], row["precision"]): row for row in table["rows"]}
    assert set(rows) == {(layout, p) for layout in ("contiguous", "channels-last") for p in ("fp32", "bf16")}
    plain = rows["contiguous", "fp32"]
    assert plain["x faster than plain"] == 1
    assert plain["dB to plain"] is None
    assert plain["parameters"] == 98_796
    assert rows["contiguous", "bf16"]["dB to plain"] > 30


def test_recomputing_is_measured_beside_keeping():
    rows = training(torch.device("cpu"), rounds=1, side=24, networks=("edsr-baseline",))["rows"]
    assert [row["blocks"] for row in rows] == ["kept", "recomputed"]
    assert rows[0]["x kept"] == 1
    assert all(row["x kept"] > 0 for row in rows)
    assert rows[1]["MB at the peak"] < rows[0]["MB at the peak"]


def test_deep_networks_see_farther():
    found = {row["network"]: row["reach, small px"] for row in reaches()["rows"]}
    assert 0 < found["srcnn"] < found["vdsr"] < found["edsr-baseline"] < found["edsr"]
