import torch
from super_resolvers import super_resolvers


def test_every_way_beside_the_plain_one():
    (table,) = super_resolvers(torch.device("cpu"), rounds=1, side=8, networks=("compact",))
    rows = {(row["layout"], row["precision"]): row for row in table["rows"]}
    assert set(rows) == {(layout, p) for layout in ("contiguous", "channels-last") for p in ("fp32", "bf16")}
    plain = rows["contiguous", "fp32"]
    assert plain["x faster than plain"] == 1
    assert plain["dB to plain"] is None
    assert plain["parameters"] == 98_796
    assert rows["contiguous", "bf16"]["dB to plain"] > 30
