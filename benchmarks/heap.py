"""What it takes on a CPU to fetch memory from the system for every large map: each call in processes that do, and in ones that keep theirs.

By default glibc gives maps of more than 32 MB back as soon as they are freed, and the next one is fetched anew, page by page. The
variables of :data:`KEEPING` make it keep them.
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

KEEPING = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**34)}
"""Sizes in bytes: below the first a map comes from the heap; the heap is cut when so much of its end is free."""

WAYS: dict[str, dict[str, str]] = {"fetched": {}, "kept": KEEPING}
NAMES = ("nearest", "bilinear", "dysample", "light", "afi")
WHOLE = ("mask-rcnn",)
CALLS = 5


def heap(
    device: torch.device, rounds: int, cells: tuple[int, int] = (100, 152), backbone: str = "resnet50"
) -> list[dict[str, Any]]:
    """One table: each interpolator on a map ``[1, 256, *cells]`` and a whole Mask R-CNN, in new processes by turns, ``rounds`` of each way.

    Raises:
        ValueError: for another device than a CPU, where the system's allocator has no part in it.
    """
    if device.type != "cpu":
        raise ValueError(f"The memory of a {device.type} is not glibc's; run this with --device cpu.")
    work = [json.dumps({"name": name, "cells": cells, "backbone": backbone}) for name in (*NAMES, *WHOLE)]
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(rounds):
        for one in work:
            for way in WAYS:
                found.setdefault((one, way), []).append(elsewhere(one, way))
    rows = [row(json.loads(one)["name"], found[one, "fetched"], found[one, "kept"]) for one in work]
    shapes = f"P3 256x{cells[0]}x{cells[1]}, and Mask R-CNN, {backbone}, on {4 * cells[0]}x{4 * cells[1]}"
    caption = f"{shapes}; float32, {rounds} processes of each"
    return [{"caption": caption, "rows": rows}]


def row(name: str, fetched: list[dict[str, float]], kept: list[dict[str, float]]) -> dict[str, Any]:
    """Medians over processes of milliseconds and of pages fetched in one call."""
    (slow, pages), (fast, fewer) = (
        [median(one[key] for one in way) for key in ("ms", "pages")] for way in (fetched, kept)
    )
    return {
        "call": name,
        "ms": round(slow, 1),
        "pages fetched": round(pages),
        "ms, memory kept": round(fast, 1),
        "pages fetched, memory kept": round(fewer),
        "x faster": round(slow / fast, 2),
    }


def elsewhere(work: str, way: str) -> dict[str, float]:
    """What this file says of ``work`` in a process of its own."""
    given = {name: value for name, value in os.environ.items() if name not in KEEPING}
    settings = {**given, "OMP_NUM_THREADS": str(torch.get_num_threads()), **WAYS[way]}
    command = [sys.executable, __file__, work]
    said = subprocess.run(command, env=settings, check=True, capture_output=True, text=True)
    return json.loads(said.stdout.splitlines()[-1])


@torch.inference_mode()
def measured(call: Callable[[], Any]) -> dict[str, float]:
    """Median milliseconds of a call, after three that do not count, and how many pages it had fetched."""
    import resource

    for _ in range(3):
        call()
    taken, pages = [], []
    for _ in range(CALLS):
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - start))
        pages.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return {"ms": median(taken), "pages": median(pages)}


def made(name: str, cells: tuple[int, int], backbone: str) -> Callable[[], Any]:
    """The call called ``name``."""
    from fast import mask_rcnn

    from featlift.interpolators import interpolator

    torch.manual_seed(0)
    if name == "mask-rcnn":
        detector, picture = mask_rcnn("nearest", 256, backbone), torch.rand(3, 4 * cells[0], 4 * cells[1])
        return lambda: detector([picture])
    module, x = interpolator(name, 256).eval(), torch.randn(1, 256, *cells)
    return lambda: module(x)


if __name__ == "__main__":
    print(json.dumps(measured(made(**json.loads(sys.argv[1])))))
