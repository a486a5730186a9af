"""Every interpolator's forward, and forward and backward, beside nearest, DySample and CARAFE."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from featlift.evaluation.profiling import Latency, count_macs, count_parameters, measure_latencies
from featlift.interpolators import INTERPOLATORS, interpolator

MAPS = {"P3": (100, 152), "P4": (50, 76)}  # of a picture of 800x1216
SAME_NETWORK = ("afi-rb",)  # SRF-GAN's generator under its other name


def interpolators(
    device: torch.device, rounds: int, channels: int = 256, maps: dict[str, tuple[int, int]] = MAPS
) -> list[dict[str, Any]]:
    """One table per map ``[1, channels, H, W]``: milliseconds of each interpolator in turns, and ratios to nearest."""
    names = [name for name in INTERPOLATORS if name not in SAME_NETWORK]
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
    return {"caption": f"{level}, {shape}, float32, {rounds} rounds in turns", "rows": rows}


def _columns(what: str, taken: Latency, nearest: Latency) -> dict[str, float]:
    return {
        f"{what}, ms (median)": round(1e3 * taken.median, 2),
        f"{what}, ms (fastest)": round(1e3 * taken.minimum, 2),
        f"{what}, x nearest": round(taken.median / nearest.median, 2),
    }


def _forward(module: nn.Module, x: torch.Tensor) -> Callable[[], object]:
    def call() -> torch.Tensor:
        module.eval()
        return module(x)

    return call


def _forward_and_backward(module: nn.Module, x: torch.Tensor) -> Callable[[], object]:
    wanted: Sequence[torch.Tensor] = [x.clone().requires_grad_(), *module.parameters()]

    def call() -> object:
        module.train()
        with torch.enable_grad():
            y = module(wanted[0])
            return torch.autograd.grad(y, wanted, torch.ones_like(y))

    return call
