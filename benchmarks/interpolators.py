"""Latency of the forward and backward pass of every interpolator, with ratios to nearest interpolation."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from featlift.interpolators import INTERPOLATORS, interpolator
from featlift.interpolators.guide import needs_guide
from featlift.profiling import Latency, count_macs, count_parameters, measure_latencies

MAPS = {"P3": (100, 152), "P4": (50, 76)}  # of an image of 800x1216
DUPLICATES = ("afi-rb",)  # another name of SRF-GAN's generator


def interpolators(
    device: torch.device, rounds: int, channels: int = 256, maps: dict[str, tuple[int, int]] = MAPS
) -> list[dict[str, Any]]:
    """Return one table per map ``[1, channels, H, W]``: interleaved latencies of all interpolators, and ratios to nearest."""
    names = [name for name in INTERPOLATORS if name not in DUPLICATES]
    modules = {name: interpolator(name, channels).to(device) for name in names}
    return [_table(modules, level, _map_and_guide(channels, size, device), rounds) for level, size in maps.items()]


def _map_and_guide(channels: int, size: tuple[int, int], device: torch.device) -> list[torch.Tensor]:
    """Return a random map ``[1, C, *size]`` and a guide of twice the size, which only some interpolators read."""
    return [torch.randn(1, channels, ratio * size[0], ratio * size[1], device=device) for ratio in (1, 2)]


def _table(modules: dict[str, nn.Module], level: str, maps: Sequence[torch.Tensor], rounds: int) -> dict[str, Any]:
    forward = measure_latencies({name: _forward(module, maps) for name, module in modules.items()}, rounds)
    both = measure_latencies({name: _forward_and_backward(module, maps) for name, module in modules.items()}, rounds)
    rows = [
        {
            "interpolator": name,
            "parameters": count_parameters(module),
            "GMAC": round(count_macs(_forward(module, maps)) / 1e9, 2),
            **_columns("forward", forward[name], forward["nearest"]),
            **_columns("forward + backward", both[name], both["nearest"]),
        }
        for name, module in modules.items()
    ]
    shape = "x".join(map(str, maps[0].shape[1:]))
    return {"caption": f"{level}, {shape}, float32, {rounds} interleaved rounds", "rows": rows}


def _columns(label: str, latency: Latency, nearest: Latency) -> dict[str, float]:
    return {
        f"{label}, ms (median)": round(1e3 * latency.median, 2),
        f"{label}, ms (fastest)": round(1e3 * latency.minimum, 2),
        f"{label}, x nearest": round(latency.median / nearest.median, 2),
    }


def _forward(module: nn.Module, maps: Sequence[torch.Tensor]) -> Callable[[], object]:
    def call() -> torch.Tensor:
        module.eval()
        return module(*maps)

    return call


def _forward_and_backward(module: nn.Module, maps: Sequence[torch.Tensor]) -> Callable[[], object]:
    read = maps if needs_guide(module) else maps[:1]
    leaves = [x.clone().requires_grad_() for x in read]
    inputs: Sequence[torch.Tensor] = [*leaves, *module.parameters()]

    def call() -> object:
        module.train()
        with torch.enable_grad():
            y = module(*leaves)
            return torch.autograd.grad(y, inputs, torch.ones_like(y))

    return call
