"""The heavy interpolators in their fast forms beside the plain module; the light one beside nearest; both in a whole Mask R-CNN."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from featlift.backbones import Backbone
from featlift.deployment.optimize import find_fastest_variant, optimize
from featlift.deployment.variants import VARIANTS
from featlift.detectors import Detector, detector, extractor
from featlift.evaluation.profiling import Latency, measure_latencies
from featlift.interpolators import interpolator

HEAVY = ("afi", "srf")
LIGHT = ("nearest", "bilinear", "light", "light-agnostic", "dysample")
EXACT, HALF = 1e-4, 1e-2
"""Largest relative errors: of the same arithmetic in another order, and of bfloat16."""


def fast(
    device: torch.device,
    rounds: int,
    channels: int = 256,
    cells: tuple[int, int] = (100, 152),
    backbone: str = "resnet50",
) -> list[dict[str, Any]]:
    """Three tables; maps ``[1, channels, *cells]`` are p3 of a picture of 8 times the size, which the detectors are shown."""
    picture = torch.rand(3, 8 * cells[0], 8 * cells[1], device=device)
    return [
        *heavy(device, rounds, channels, cells),
        *light(device, rounds, channels, cells),
        whole(picture, channels, backbone, rounds),
    ]


def heavy(
    device: torch.device, rounds: int, channels: int = 256, cells: tuple[int, int] = (100, 152)
) -> list[dict[str, Any]]:
    """Every form of the heavy interpolators beside the plain one."""
    x = torch.randn(1, channels, *cells, device=device)
    rows = [row for name in HEAVY for row in forms_of(name, x, rounds)]
    shape = "x".join(map(str, x.shape[1:]))
    return [{"caption": f"Forms of the heavy interpolators, P3 {shape}, {rounds} rounds in turns", "rows": rows}]


def light(
    device: torch.device, rounds: int, channels: int = 256, cells: tuple[int, int] = (100, 152)
) -> list[dict[str, Any]]:
    """The light interpolators beside nearest."""
    x = torch.randn(1, channels, *cells, device=device)
    shape = "x".join(map(str, x.shape[1:]))
    caption = f"The light interpolator, P3 {shape}, float32, {rounds} rounds in turns"
    return [{"caption": caption, "rows": beside(x, rounds)}]


def forms_of(name: str, x: torch.Tensor, rounds: int) -> list[dict[str, Any]]:
    """A row for each form of the interpolator: its time, and how often it goes into the plain one's."""
    module = interpolator(name, x.shape[1]).to(x.device).eval()
    with torch.inference_mode():
        made = {form: make(module) for form, make in VARIANTS.items()}
        reference = made["plain"](x)
        errors = {form: ((one(x) - reference).norm() / reference.norm()).item() for form, one in made.items()}
        taken = measure_latencies({form: _on(one, x) for form, one in made.items()}, rounds)
    return [
        {"interpolator": name, "form": form, **columns(taken, form, "plain"), "relative error": f"{errors[form]:.0e}"}
        for form in made
    ]


def beside(x: torch.Tensor, rounds: int) -> list[dict[str, Any]]:
    """A row for each light interpolator, plain and in the form that is fastest here; ratios to plain nearest interpolation."""
    plain = {name: interpolator(name, x.shape[1]).to(x.device).eval() for name in LIGHT}
    with torch.inference_mode():
        chosen = {
            name: find_fastest_variant(module, x, EXACT, tuple(VARIANTS), rounds) for name, module in plain.items()
        }
        made = dict(plain) | {f"{name}, {c.variant}": c.module for name, c in chosen.items() if c.variant != "plain"}
        taken = measure_latencies({name: _on(module, x) for name, module in made.items()}, rounds)
    return [{"interpolator": name, **columns(taken, name, "nearest", slower=True)} for name in made]


def whole(picture: torch.Tensor, channels: int, backbone: str, rounds: int) -> dict[str, Any]:
    """Mask R-CNN end to end with nearest, light and AFI, as they are and hastened; the weights are random, and so are the objects."""
    made: dict[str, Detector] = {}
    for name in ("nearest", "light", "afi"):
        made[name] = mask_rcnn(name, channels, backbone).to(picture.device)
    for name, tolerance in (("light", EXACT), ("afi", EXACT), ("afi", HALF)):
        hastened = mask_rcnn(name, channels, backbone).to(picture.device)
        form = optimize(hastened, [picture], tolerance, rounds=rounds)[0].variant
        made[f"{name}, hastened within {tolerance:g} ({form})"] = hastened
    with torch.inference_mode():
        taken = measure_latencies({name: (lambda one=one: one([picture])) for name, one in made.items()}, rounds)
    size = "x".join(map(str, picture.shape[1:]))
    rows = [{"pyramid": name, **columns(taken, name, "nearest", slower=True)} for name in made]
    return {
        "caption": f"Mask R-CNN, {backbone}, FPN {channels}, picture {size}, {rounds} rounds in turns",
        "rows": rows,
    }


def mask_rcnn(name: str, channels: int, backbone: str) -> Detector:
    """With the interpolator called ``name``; all else has the same random weights whatever the name."""
    torch.manual_seed(0)
    below = Backbone(backbone)
    given = interpolator(name, channels)
    torch.manual_seed(1)
    return detector("mask-rcnn", extractor("mask-rcnn", below, [given], channels), 80).eval()


def columns(taken: Mapping[str, Latency], name: str, reference: str, slower: bool = False) -> dict[str, float]:
    """Milliseconds, and the ratio to ``reference`` of medians and of fastest rounds: how many times faster, or ``slower``."""
    one, other = taken[name], taken[reference]
    ratios = {"median": other.median / one.median, "fastest": other.minimum / one.minimum}
    word = f"x {reference}'s time" if slower else f"x faster than {reference}"
    return {
        "ms (median)": round(1e3 * one.median, 2),
        "ms (fastest)": round(1e3 * one.minimum, 2),
        **{f"{word} ({kind})": round(1 / ratio if slower else ratio, 3) for kind, ratio in ratios.items()},
    }


def _on(module: nn.Module, x: torch.Tensor) -> Callable[[], torch.Tensor]:
    return lambda: module(x)
