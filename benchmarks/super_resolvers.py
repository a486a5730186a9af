"""Super-resolution networks: every memory layout and number format beside the plain one, recomputed blocks, and how far a pixel is seen."""

from collections.abc import Callable
from typing import Any

import torch

from featlift.deployment.sr_inference import time_inference
from featlift.evaluation.profiling import count_macs, count_parameters, measure_latencies, measure_peak_memory
from featlift.image_sr import super_resolver
from featlift.image_sr.tiling import measure_receptive_radius

NETWORKS = ("compact", "edsr-baseline", "d-dbpn")
RECOMPUTED = ("edsr-baseline", "d-dbpn")
REACHING = {
    "srcnn": {},
    "vdsr": {},
    "edsr-baseline": {"width": 16},
    "edsr": {"width": 16, "share": 1.0},
    "d-dbpn": {"width": 8, "initial": 8},
}
"""Networks and options that make them narrow: how far they see depends on how deep they are alone."""


def super_resolvers(
    device: torch.device, rounds: int, side: int = 48, networks: tuple[str, ...] = NETWORKS
) -> list[dict[str, Any]]:
    """Three tables: what inference takes in each form, what training takes with blocks recomputed, how far a pixel is seen."""
    return [
        inference(device, rounds, side, networks),
        training(device, rounds, side, tuple(name for name in networks if name in RECOMPUTED)),
        reaches(),
    ]


def inference(device: torch.device, rounds: int, side: int, networks: tuple[str, ...]) -> dict[str, Any]:
    """Milliseconds (fastest of ``rounds`` in turns) of each network at 4x on a picture of ``side`` px, and how far its result is from
    plain float32.
    """
    low, rows = torch.rand(1, 3, side, side, device=device), []
    for name in networks:
        network = super_resolver(name, 4).to(device).eval()
        ways = {
            (way.network.memory_format, way.network.precision): way
            for way in time_inference(network, low, rounds=rounds)
        }
        plain = ways["contiguous", "fp32"].seconds
        rows += [
            {
                "network": name,
                "parameters": count_parameters(network),
                "GMAC": round(count_macs(lambda network=network: network(low)) / 1e9, 2),
                "layout": layout,
                "precision": precision,
                "ms (fastest)": round(1e3 * way.seconds, 1),
                "x faster than plain": round(plain / way.seconds, 2),
                "dB to plain": None if way.psnr == float("inf") else round(way.psnr, 1),
            }
            for (layout, precision), way in sorted(ways.items(), key=lambda pair: -pair[1].seconds)
        ]
    return {"caption": f"4x on {side}x{side}, random weights, {rounds} rounds in turns", "rows": rows}


def training(device: torch.device, rounds: int, side: int, networks: tuple[str, ...]) -> dict[str, Any]:
    """Seconds (median of ``rounds`` in turns) of one picture forward and backward, and the most memory that it held beside the network."""
    rows = []
    for name in networks:
        network, low = super_resolver(name, 4).to(device), torch.rand(1, 3, side, side, device=device)
        calls = {way: _step(network, low, way == "recomputed") for way in ("kept", "recomputed")}
        taken = {way: one.median for way, one in measure_latencies(calls, rounds, warmup=1).items()}
        rows += [
            {
                "network": name,
                "blocks": way,
                "seconds (median)": round(taken[way], 2),
                "x kept": round(taken[way] / taken["kept"], 2),
                "MB at the peak": round(measure_peak_memory(call, device) / 1e6),
            }
            for way, call in calls.items()
        ]
    return {"caption": f"One step of training, 4x from {side}x{side}, {rounds} rounds in turns", "rows": rows}


def _step(network: torch.nn.Module, low: torch.Tensor, recompute: bool) -> Callable[[], None]:
    @torch.enable_grad()
    def step() -> None:
        network.recompute = recompute  # type: ignore[assignment]
        network.zero_grad(set_to_none=True)
        network(low).mean().backward()

    return step


def reaches() -> dict[str, Any]:
    """How many small pixels away one can be and still change an output: what `Tiled` needs as margin to be exact."""
    rows = [
        {"network": name, "reach, small px": measure_receptive_radius(super_resolver(name, 4, **options), 141)}
        for name, options in REACHING.items()
    ]
    return {"caption": "How far a network sees at 4x", "rows": rows}
