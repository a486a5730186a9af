"""Latency of the forward and backward pass of every interpolator, with ratios to nearest interpolation."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from featlift.interpolators import INTERPOLATORS, interpolator
from featlift.profiling import Latency, count_macs, count_parameters, measure_latencies

MAPS = {"P3": (100, 152), "P4": (50, 76)}  # of an image of 800x1216
DUPLICATES = ("afi-rb",)  # another name of SRF-GAN's generator


def interpolators(
    device: torch.device, rounds: int, channels: int = 256, maps: dict[str, tuple[int, int]] = MAPS
) -> list[dict[str, Any]]:
    """Return one table per map ``[1, channels, H, W]``: interleaved latencies of all interpolators, and ratios to nearest."""
    names = [name for name in INTERPOLATORS if name not in DUPLICATES]
    modules = {name: interpolator(name, channels).to(device) for name in names}
    return [
        _table(modules, level, torch.randn(1, channels, *size, device=device), rounds) for level, size in maps.items()
    ]


def _table(modules: dict[str, nn.Module], level: str, x: torch.Tensor, rounds: int) -> dict[str, Any]:
    forward = measure_latencies({name: _forward(module, x) for name, module in modules.items()}, rounds)
    both = measure_latencies({name: _forward_and_backward(module, x) for name, module in modules.items()}, rounds)
    rows = [
        {
            "interpolator": name,
            "parameters": count_parameters(module),
            "GMAC": round(count_macs(_forward(module, x)) / 1e9, 2),
            **_columns("forward", forward[name], forward["nearest"]),
            **_columns("forward + backward", both[name], both["nearest"]),
        }
        for name, module in modules.items()
    ]
    shape = "x".join(map(str, x.shape[1:]))
    return {"caption": f"{level}, {shape}, float32, {rounds} interleaved rounds", "rows": rows}


def _columns(label: str, latency: Latency, nearest: Latency) -> dict[str, float]:
    return {
        f"{label}, ms (median)": round(1e3 * latency.median, 2),
        f"{label}, ms (fastest)": round(1e3 * latency.minimum, 2),
        f"{label}, x nearest": round(latency.median / nearest.median, 2),
    }


def _forward(module: nn.Module, x: torch.Tensor) -> Callable[[], object]:
    def call() -> torch.Tensor:
        module.eval()
        return module(x)

    return call


def _forward_and_backward(module: nn.Module, x: torch.Tensor) -> Callable[[], object]:
    inputs: Sequence[torch.Tensor] = [x.clone().requires_grad_(), *module.parameters()]

    def call() -> object:
        module.train()
        with torch.enable_grad():
            y = module(inputs[0])
            return torch.autograd.grad(y, inputs, torch.ones_like(y))

    return call
