"""The benchmarks themselves, made tiny: what they compare is the same thing, and what they keep is complete."""

import copy
import platform

import pytest
import torch
from fast import fast, light
from heap import KEEPING, heap
from run import keep, made
from stage1_step import Players, ours, published

from featlift.deployment.variants import EAGER_VARIANTS, VARIANTS
from featlift.papers.afi_gan import AdversarialConfig
from interpolators import interpolators
from report import filled, read

CPU = torch.device("cpu")


def test_interpolators_beside_nearest(tmp_path):
    tables = interpolators(CPU, rounds=1, channels=4, maps={"P5": (3, 5)})
    rows = {row["interpolator"]: row for row in tables[0]["rows"]}
    assert {"nearest", "dysample", "carafe", "afi", "srf", "deconv"} <= set(rows)
    assert rows["nearest"]["forward, x nearest"] == rows["nearest"]["forward + backward, x nearest"] == 1
    assert rows["nearest"]["parameters"] == 0
    keep("tiny", tables, made(CPU, "pytest"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.json"]
    page = filled("", read(tmp_path))
    assert "| afi |" in page
    assert torch.__version__.partition("+")[0] in page


def test_both_schedules_make_the_same_updates():
    """Ours leaves out work, not learning: after three steps all weights are equal, with the adversarial gradient and without."""
    players = Players("mobilenetv3_small_050", 8).train()
    for adversary in (AdversarialConfig(weight=0.1), AdversarialConfig(weight=0.1, backprop_to_generator=False)):
        results = []
        for schedule in (ours, published):
            torch.manual_seed(0)
            copied = copy.deepcopy(players)
            step = schedule(copied, adversary)
            for _ in range(3):
                step(torch.rand(1, 3, 64, 96))
            results.append(copied)
        for (name, mine), theirs in zip(results[0].named_parameters(), results[1].parameters(), strict=True):
            torch.testing.assert_close(
                mine, theirs, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
            )
        assert any(not torch.equal(a, b) for a, b in zip(results[0].parameters(), players.parameters(), strict=True))


def test_the_light_one_alone(monkeypatch):
    monkeypatch.setattr("fast.FORMS", {name: make for name, make in VARIANTS.items() if name in EAGER_VARIANTS})
    (table,) = light(CPU, 1, 8, (8, 12))
    rows = {row["interpolator"]: row for row in table["rows"]}
    assert {"nearest", "light", "light-agnostic", "dysample"} <= set(rows)
    assert rows["nearest"]["x nearest's time (median)"] == 1
    assert rows["light"]["ms (median)"] > 0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the variables are glibc's")
def test_a_process_that_keeps_its_memory_fetches_none(monkeypatch):
    """A map of 50 MB for each call: thousands of pages of 4 kB, or none, whatever the environment says."""
    for name, value in KEEPING.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("heap.NAMES", ("nearest",))
    monkeypatch.setattr("heap.WHOLE", ())
    (table,) = heap(CPU, 1, (110, 110))
    (row,) = table["rows"]
    assert row["call"] == "nearest"
    assert row["pages fetched"] > 10_000
    assert row["pages fetched, memory kept"] < 100


def test_the_memory_of_a_gpu_is_not_glibcs():
    with pytest.raises(ValueError, match="--device cpu"):
        heap(torch.device("cuda"), 1)


def test_fast_forms_beside_the_plain_one(monkeypatch):
    monkeypatch.setattr("fast.FORMS", {name: make for name, make in VARIANTS.items() if name in EAGER_VARIANTS})
    forms, alone, whole = (table["rows"] for table in fast(CPU, 1, 8, (8, 12), "mobilenetv3_small_050"))
    assert [(row["interpolator"], row["form"]) for row in forms] == [
        (name, f) for name in ("afi", "srf") for f in EAGER_VARIANTS
    ]
    for row in forms:
        assert ("bf16" in row["form"]) == (float(row["relative error"]) > 1e-4)
        assert (
            row["form"] != "plain" or row["x faster than plain (median)"] == row["x faster than plain (fastest)"] == 1
        )
    assert {row["interpolator"].partition(",")[0] for row in alone} >= {"nearest", "light", "dysample"}
    assert [row["pyramid"].partition(",")[0] for row in whole] == ["nearest", "light", "afi", "light", "afi", "afi"]
    assert alone[0]["x nearest's time (median)"] == whole[0]["x nearest's time (median)"] == 1
