"""Cost of memory allocation of large maps on a CPU: each call with glibc's default settings, and with freed memory retained.

By default glibc returns blocks of more than 32 MB to the system when they are freed; the next block causes a page fault per page. The
variables of :data:`RETAIN_MEMORY` make it retain them.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

RETAIN_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**34)}
"""In bytes: blocks below the first are allocated on the heap; the heap is trimmed when its free end exceeds the second."""

ENVIRONMENTS: dict[str, dict[str, str]] = {"default": {}, "retained": RETAIN_MEMORY}
INTERPOLATORS = ("nearest", "bilinear", "dysample", "light", "afi")
DETECTORS = ("mask-rcnn",)
NUM_CALLS = 5


def memory_allocation(
    device: torch.device, rounds: int, cells: tuple[int, int] = (100, 152), backbone: str = "resnet50"
) -> list[dict[str, Any]]:
    """Return one table: each interpolator on a map ``[1, 256, *cells]`` and a Mask R-CNN, in ``rounds`` new processes per environment.

    Raises:
        ValueError: If the device is not a CPU, where glibc does not allocate the memory.
    """
    if device.type != "cpu":
        raise ValueError(f"glibc does not allocate the memory of {device.type}; run this with --device cpu.")
    tasks = [json.dumps({"name": name, "cells": cells, "backbone": backbone}) for name in (*INTERPOLATORS, *DETECTORS)]
    results: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(rounds):
        for task in tasks:
            for environment in ENVIRONMENTS:
                results.setdefault((task, environment), []).append(run_in_subprocess(task, environment))
    rows = [build_row(json.loads(task)["name"], results[task, "default"], results[task, "retained"]) for task in tasks]
    shapes = f"P3 256x{cells[0]}x{cells[1]}, and Mask R-CNN, {backbone}, on {4 * cells[0]}x{4 * cells[1]}"
    caption = f"{shapes}; float32, {rounds} processes of each"
    return [{"caption": caption, "rows": rows}]


def build_row(name: str, default: list[dict[str, float]], retained: list[dict[str, float]]) -> dict[str, Any]:
    """Return medians over processes of ms and page faults per call."""
    (default_ms, default_pages), (retained_ms, retained_pages) = (
        [median(values[key] for values in results) for key in ("ms", "pages")] for results in (default, retained)
    )
    return {
        "call": name,
        "ms": round(default_ms, 1),
        "page faults": round(default_pages),
        "ms, memory retained": round(retained_ms, 1),
        "page faults, memory retained": round(retained_pages),
        "x faster": round(default_ms / retained_ms, 2),
    }


def run_in_subprocess(task: str, environment: str) -> dict[str, float]:
    """Run this file with ``task`` in a new process and return its measurement."""
    inherited = {name: value for name, value in os.environ.items() if name not in RETAIN_MEMORY}
    env = {**inherited, "OMP_NUM_THREADS": str(torch.get_num_threads()), **ENVIRONMENTS[environment]}
    process = subprocess.run([sys.executable, __file__, task], env=env, check=True, capture_output=True, text=True)
    return json.loads(process.stdout.splitlines()[-1])


@torch.inference_mode()
def measure(call: Callable[[], Any]) -> dict[str, float]:
    """Return the median ms and page faults of a call, after three warm-up calls."""
    import resource

    for _ in range(3):
        call()
    times, pages = [], []
    for _ in range(NUM_CALLS):
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
        pages.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return {"ms": median(times), "pages": median(pages)}


def build_call(name: str, cells: tuple[int, int], backbone: str) -> Callable[[], Any]:
    """Return the forward call of ``name``."""
    from featlift.interpolators import interpolator

    torch.manual_seed(0)
    if name == "mask-rcnn":
        from optimized_interpolators import mask_rcnn

        detector, image = mask_rcnn("nearest", 256, backbone), torch.rand(3, 4 * cells[0], 4 * cells[1])
        return lambda: detector([image])
    module, x = interpolator(name, 256).eval(), torch.randn(1, 256, *cells)
    return lambda: module(x)


if __name__ == "__main__":
    print(json.dumps(measure(build_call(**json.loads(sys.argv[1])))))
