"""Inference variants of the heavy interpolators, the light interpolator against nearest, and both in a Mask R-CNN."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from featlift.backbones import Backbone
from featlift.deployment.optimize import find_fastest_variant, optimize
from featlift.deployment.variants import VARIANTS
from featlift.detectors import Detector, detector, extractor
from featlift.interpolators import interpolator
from featlift.profiling import Latency, measure_latencies

HEAVY = ("afi", "srf")
LIGHT = ("nearest", "bilinear", "light", "light-agnostic", "dysample")
EXACT, BFLOAT16 = 1e-4, 1e-2
"""Largest relative errors: of a different order of summation, and of bfloat16."""


def optimized_interpolators(
    device: torch.device,
    rounds: int,
    channels: int = 256,
    cells: tuple[int, int] = (100, 152),
    backbone: str = "resnet50",
) -> list[dict[str, Any]]:
    """Return the three tables. Maps ``[1, channels, *cells]`` are p3 of an image of 8 times the size, the input of the detectors."""
    image = torch.rand(3, 8 * cells[0], 8 * cells[1], device=device)
    return [
        *heavy_interpolators(device, rounds, channels, cells),
        *light_interpolators(device, rounds, channels, cells),
        mask_rcnn_table(image, channels, backbone, rounds),
    ]


def heavy_interpolators(
    device: torch.device, rounds: int, channels: int = 256, cells: tuple[int, int] = (100, 152)
) -> list[dict[str, Any]]:
    """Time every variant of the heavy interpolators against the plain module."""
    x = torch.randn(1, channels, *cells, device=device)
    rows = [row for name in HEAVY for row in variant_rows(name, x, rounds)]
    shape = "x".join(map(str, x.shape[1:]))
    return [{"caption": f"Variants of the heavy interpolators, P3 {shape}, {rounds} interleaved rounds", "rows": rows}]


def light_interpolators(
    device: torch.device, rounds: int, channels: int = 256, cells: tuple[int, int] = (100, 152)
) -> list[dict[str, Any]]:
    """Time the light interpolators against nearest interpolation."""
    x = torch.randn(1, channels, *cells, device=device)
    shape = "x".join(map(str, x.shape[1:]))
    caption = f"The light interpolator, P3 {shape}, float32, {rounds} interleaved rounds"
    return [{"caption": caption, "rows": light_rows(x, rounds)}]


def variant_rows(name: str, x: torch.Tensor, rounds: int) -> list[dict[str, Any]]:
    """Return one row per variant of the interpolator: its latency and its speedup over the plain module."""
    module = interpolator(name, x.shape[1]).to(x.device).eval()
    with torch.inference_mode():
        variants = {variant: build(module) for variant, build in VARIANTS.items()}
        reference = variants["plain"](x)
        errors = {key: ((copy(x) - reference).norm() / reference.norm()).item() for key, copy in variants.items()}
        latencies = measure_latencies({key: _call(copy, x) for key, copy in variants.items()}, rounds)
    return [
        {
            "interpolator": name,
            "variant": key,
            **columns(latencies, key, "plain"),
            "relative error": f"{errors[key]:.0e}",
        }
        for key in variants
    ]


def light_rows(x: torch.Tensor, rounds: int) -> list[dict[str, Any]]:
    """Return one row per light interpolator, plain and in its fastest variant, with ratios to plain nearest interpolation."""
    plain = {name: interpolator(name, x.shape[1]).to(x.device).eval() for name in LIGHT}
    with torch.inference_mode():
        choices = {
            name: find_fastest_variant(module, x, EXACT, tuple(VARIANTS), rounds) for name, module in plain.items()
        }
        modules = dict(plain) | {
            f"{name}, {c.variant}": c.module for name, c in choices.items() if c.variant != "plain"
        }
        latencies = measure_latencies({name: _call(module, x) for name, module in modules.items()}, rounds)
    return [{"interpolator": name, **columns(latencies, name, "nearest", slower=True)} for name in modules]


def mask_rcnn_table(image: torch.Tensor, channels: int, backbone: str, rounds: int) -> dict[str, Any]:
    """Time Mask R-CNN with nearest, light and AFI, plain and optimized; weights and detections are random."""
    detectors: dict[str, Detector] = {}
    for name in ("nearest", "light", "afi"):
        detectors[name] = mask_rcnn(name, channels, backbone).to(image.device)
    for name, tolerance in (("light", EXACT), ("afi", EXACT), ("afi", BFLOAT16)):
        optimized = mask_rcnn(name, channels, backbone).to(image.device)
        variant = optimize(optimized, [image], tolerance, rounds=rounds)[0].variant
        detectors[f"{name}, optimized within {tolerance:g} ({variant})"] = optimized
    with torch.inference_mode():
        calls = {name: (lambda model=model: model([image])) for name, model in detectors.items()}
        latencies = measure_latencies(calls, rounds)
    size = "x".join(map(str, image.shape[1:]))
    rows = [{"pyramid": name, **columns(latencies, name, "nearest", slower=True)} for name in detectors]
    return {
        "caption": f"Mask R-CNN, {backbone}, FPN {channels}, image {size}, {rounds} interleaved rounds",
        "rows": rows,
    }


def mask_rcnn(name: str, channels: int, backbone: str) -> Detector:
    """Build a Mask R-CNN with the interpolator ``name``; all other weights are random and equal for all names."""
    torch.manual_seed(0)
    bottom_up = Backbone(backbone)
    upsampler = interpolator(name, channels)
    torch.manual_seed(1)
    return detector("mask-rcnn", extractor("mask-rcnn", bottom_up, [upsampler], channels), 80).eval()


def columns(latencies: Mapping[str, Latency], name: str, reference: str, slower: bool = False) -> dict[str, float]:
    """Return ms and the ratios of medians and of fastest rounds to ``reference``: speedup, or slowdown if ``slower``."""
    latency, base = latencies[name], latencies[reference]
    ratios = {"median": base.median / latency.median, "fastest": base.minimum / latency.minimum}
    title = f"x {reference}'s time" if slower else f"x faster than {reference}"
    return {
        "ms (median)": round(1e3 * latency.median, 2),
        "ms (fastest)": round(1e3 * latency.minimum, 2),
        **{f"{title} ({kind})": round(1 / ratio if slower else ratio, 3) for kind, ratio in ratios.items()},
    }


def _call(module: nn.Module, x: torch.Tensor) -> Callable[[], torch.Tensor]:
    return lambda: module(x)
