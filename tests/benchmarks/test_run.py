"""The benchmarks at a tiny size: the compared modules are equivalent, and the results are complete."""

import copy
import platform

import pytest
import torch
from memory_allocation import RETAIN_MEMORY, memory_allocation
from optimized_interpolators import light_interpolators, optimized_interpolators
from run import collect_metadata, write_result
from stage1_step import GANModules, featlift_step, published_step

from featlift.deployment.variants import EAGER_VARIANTS, VARIANTS
from featlift.papers.afi_gan.settings import AdversarialConfig
from interpolators import interpolators
from report import fill_blocks, read_results

CPU = torch.device("cpu")


def test_interpolators_against_nearest(tmp_path):
    tables = interpolators(CPU, rounds=1, channels=8, maps={"P5": (3, 5)})
    rows = {row["interpolator"]: row for row in tables[0]["rows"]}
    assert {"nearest", "dysample", "carafe", "freqfusion", "afi", "srf", "deconv"} <= set(rows)
    assert rows["nearest"]["forward, x nearest"] == rows["nearest"]["forward + backward, x nearest"] == 1
    assert rows["nearest"]["parameters"] == 0
    write_result("tiny", tables, collect_metadata(CPU, "pytest"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.json"]
    page = fill_blocks("", read_results(tmp_path))
    assert "| afi |" in page
    assert torch.__version__.partition("+")[0] in page


def test_both_schedules_make_the_same_updates():
    """After three steps all weights of both schedules are equal, with and without the adversarial gradient."""
    modules = GANModules("mobilenetv3_small_050", 8).train()
    for adversarial in (AdversarialConfig(weight=0.1), AdversarialConfig(weight=0.1, backprop_to_generator=False)):
        results = []
        for build_step in (featlift_step, published_step):
            torch.manual_seed(0)
            copied = copy.deepcopy(modules)
            step = build_step(copied, adversarial)
            for _ in range(3):
                step(torch.rand(1, 3, 64, 96))
            results.append(copied)
        for (name, weight), expected in zip(results[0].named_parameters(), results[1].parameters(), strict=True):
            torch.testing.assert_close(
                weight, expected, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
            )
        assert any(not torch.equal(a, b) for a, b in zip(results[0].parameters(), modules.parameters(), strict=True))


def test_the_light_one_alone(monkeypatch):
    monkeypatch.setattr(
        "optimized_interpolators.VARIANTS", {name: build for name, build in VARIANTS.items() if name in EAGER_VARIANTS}
    )
    (table,) = light_interpolators(CPU, 1, 8, (8, 12))
    rows = {row["interpolator"]: row for row in table["rows"]}
    assert {"nearest", "light", "light-agnostic", "dysample"} <= set(rows)
    assert rows["nearest"]["x nearest's time (median)"] == 1
    assert rows["light"]["ms (median)"] > 0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the variables are glibc's")
def test_a_process_that_retains_its_memory_has_no_page_faults(monkeypatch):
    """A map of 50 MB per call: thousands of page faults, or none, independent of the environment of the test."""
    for name, value in RETAIN_MEMORY.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("memory_allocation.INTERPOLATORS", ("nearest",))
    monkeypatch.setattr("memory_allocation.DETECTORS", ())
    for _ in range(2):  # the kernel may take memory back under load
        rows = [row for table in memory_allocation(CPU, 1, (110, 110)) for row in table["rows"]]
        assert [row["call"] for row in rows] == ["nearest"]
        assert rows[0]["page faults"] > 10_000
        if rows[0]["page faults, memory retained"] < 100:
            return
    pytest.fail(f"page faults although the memory is retained: {rows}")


def test_glibc_does_not_allocate_gpu_memory():
    with pytest.raises(ValueError, match="--device cpu"):
        memory_allocation(torch.device("cuda"), 1)


def test_variants_against_the_plain_module(monkeypatch):
    monkeypatch.setattr(
        "optimized_interpolators.VARIANTS", {name: build for name, build in VARIANTS.items() if name in EAGER_VARIANTS}
    )
    variants, alone, detectors = (
        table["rows"] for table in optimized_interpolators(CPU, 1, 8, (8, 12), "mobilenetv3_small_050")
    )
    assert [(row["interpolator"], row["variant"]) for row in variants] == [
        (name, variant) for name in ("afi", "srf") for variant in EAGER_VARIANTS
    ]
    for row in variants:
        assert ("bf16" in row["variant"]) == (float(row["relative error"]) > 1e-4)
        assert (
            row["variant"] != "plain"
            or row["x faster than plain (median)"] == row["x faster than plain (fastest)"] == 1
        )
    assert {row["interpolator"].partition(",")[0] for row in alone} >= {"nearest", "light", "dysample"}
    assert [row["pyramid"].partition(",")[0] for row in detectors] == ["nearest", "light", "afi", "light", "afi", "afi"]
    assert alone[0]["x nearest's time (median)"] == detectors[0]["x nearest's time (median)"] == 1
