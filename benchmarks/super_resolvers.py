"""Super-resolution networks: memory formats and precisions, gradient checkpointing, and receptive radius."""

from collections.abc import Callable
from typing import Any

import torch

from featlift.deployment.sr_inference import time_inference
from featlift.image_sr import super_resolver
from featlift.image_sr.tiling import measure_receptive_radius
from featlift.profiling import count_macs, count_parameters, measure_latencies, measure_peak_memory

NETWORKS = ("compact", "edsr-baseline", "d-dbpn")
CHECKPOINTED = ("edsr-baseline", "d-dbpn")
NARROW_NETWORKS = {
    "srcnn": {},
    "vdsr": {"width": 8},
    "edsr-baseline": {"width": 16},
    "edsr": {"width": 16, "res_scale": 1.0},
    "d-dbpn": {"width": 8, "initial_channels": 8},
}
"""Networks with options of narrow variants; the receptive radius only depends on the depth."""


def super_resolvers(
    device: torch.device, rounds: int, image_size: int = 48, networks: tuple[str, ...] = NETWORKS
) -> list[dict[str, Any]]:
    """Return the tables of inference latency, of training with gradient checkpointing, and of receptive radii."""
    return [
        time_configurations(device, rounds, image_size, networks),
        time_training(device, rounds, image_size, tuple(name for name in networks if name in CHECKPOINTED)),
        receptive_radii(),
    ]


def time_configurations(
    device: torch.device, rounds: int, image_size: int, networks: tuple[str, ...]
) -> dict[str, Any]:
    """Time each network at 4x on an image of ``image_size`` px (fastest of interleaved ``rounds``), with its PSNR to contiguous float32."""
    low, rows = torch.rand(1, 3, image_size, image_size, device=device), []
    for name in networks:
        network = super_resolver(name, 4).to(device).eval()
        timings = {
            (timing.network.memory_format, timing.network.precision): timing
            for timing in time_inference(network, low, rounds=rounds)
        }
        plain = timings["contiguous", "fp32"].seconds
        rows += [
            {
                "network": name,
                "parameters": count_parameters(network),
                "GMAC": round(count_macs(lambda network=network: network(low)) / 1e9, 2),
                "memory format": memory_format,
                "precision": precision,
                "ms (fastest)": round(1e3 * timing.seconds, 1),
                "x faster than plain": round(plain / timing.seconds, 2),
                "dB to plain": None if timing.psnr == float("inf") else round(timing.psnr, 1),
            }
            for (memory_format, precision), timing in sorted(timings.items(), key=lambda pair: -pair[1].seconds)
        ]
    return {"caption": f"4x on {image_size}x{image_size}, random weights, {rounds} interleaved rounds", "rows": rows}


def time_training(device: torch.device, rounds: int, image_size: int, networks: tuple[str, ...]) -> dict[str, Any]:
    """Measure time (median of interleaved ``rounds``) and peak memory without weights of a forward and backward pass on one image."""
    rows = []
    for name in networks:
        network, low = super_resolver(name, 4).to(device), torch.rand(1, 3, image_size, image_size, device=device)
        calls = {mode: _step(network, low, mode == "checkpointed") for mode in ("plain", "checkpointed")}
        seconds = {mode: latency.median for mode, latency in measure_latencies(calls, rounds, warmup=1).items()}
        rows += [
            {
                "network": name,
                "blocks": mode,
                "seconds (median)": round(seconds[mode], 2),
                "x plain": round(seconds[mode] / seconds["plain"], 2),
                "MB at the peak": round(measure_peak_memory(call, device) / 1e6),
            }
            for mode, call in calls.items()
        ]
    return {
        "caption": f"One training step, 4x from {image_size}x{image_size}, {rounds} interleaved rounds",
        "rows": rows,
    }


def _step(network: torch.nn.Module, low: torch.Tensor, checkpointing: bool) -> Callable[[], None]:
    @torch.enable_grad()
    def step() -> None:
        network.gradient_checkpointing = checkpointing  # type: ignore[assignment]
        network.zero_grad(set_to_none=True)
        network(low).mean().backward()

    return step


def receptive_radii() -> dict[str, Any]:
    """Measure the receptive radius in low-resolution pixels: the margin with which `TiledSuperResolver` is exact."""
    rows = [
        {
            "network": name,
            "receptive radius, low-resolution px": measure_receptive_radius(super_resolver(name, 4, **options), 141),
        }
        for name, options in NARROW_NETWORKS.items()
    ]
    return {"caption": "Receptive radius at 4x", "rows": rows}
