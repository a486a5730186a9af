import torch
from super_resolvers import receptive_radii, time_configurations, time_training


def test_every_configuration_against_the_plain_one():
    table = time_configurations(torch.device("cpu"), rounds=1, image_size=8, networks=("compact",))
    rows = {(row["memory format"], row["precision"]): row for row in table["rows"]}
    assert set(rows) == {
        (memory_format, p) for memory_format in ("contiguous", "channels-last") for p in ("fp32", "bf16")
    }
    plain = rows["contiguous", "fp32"]
    assert plain["x faster than plain"] == 1
    assert plain["dB to plain"] is None
    assert plain["parameters"] == 98_796
    assert rows["contiguous", "bf16"]["dB to plain"] > 30


def test_checkpointing_is_measured():
    rows = time_training(torch.device("cpu"), rounds=1, image_size=24, networks=("edsr-baseline",))["rows"]
    assert [row["blocks"] for row in rows] == ["plain", "checkpointed"]
    assert rows[0]["x plain"] == 1
    assert all(row["x plain"] > 0 for row in rows)
    assert rows[1]["MB at the peak"] < rows[0]["MB at the peak"]


def test_deeper_networks_have_larger_receptive_fields():
    radii = {row["network"]: row["receptive radius, low-resolution px"] for row in receptive_radii()["rows"]}
    assert 0 < radii["srcnn"] < radii["vdsr"] < radii["edsr-baseline"] < radii["edsr"]
