"""Super-resolution networks in every memory layout and number format, beside the plain one."""

from typing import Any

import torch

from featlift.evaluation.cost import macs, parameters
from featlift.image_sr import super_resolver
from featlift.image_sr.inference import measured

NETWORKS = ("compact", "edsr-baseline", "d-dbpn")


def super_resolvers(
    device: torch.device, rounds: int, side: int = 48, networks: tuple[str, ...] = NETWORKS
) -> list[dict[str, Any]]:
    """Milliseconds (fastest of ``rounds`` in turns) of each network at 4x on a picture of ``side`` px, and how far its result is from
    plain float32.
    """
    low, rows = torch.rand(1, 3, side, side, device=device), []
    for name in networks:
        network = super_resolver(name, 4).to(device).eval()
        ways = {(way.network.layout, way.network.precision): way for way in measured(network, low, rounds=rounds)}
        plain = ways["contiguous", "fp32"].seconds
        rows += [
            {
                "network": name,
                "parameters": parameters(network),
                "GMAC": round(macs(lambda network=network: network(low)) / 1e9, 2),
                "layout": layout,
                "precision": precision,
                "ms (fastest)": round(1e3 * way.seconds, 1),
                "x faster than plain": round(plain / way.seconds, 2),
                "dB to plain": None if way.psnr == float("inf") else round(way.psnr, 1),
            }
            for (layout, precision), way in sorted(ways.items(), key=lambda pair: -pair[1].seconds)
        ]
    return [{"caption": f"4x on {side}x{side}, random weights, {rounds} rounds in turns", "rows": rows}]
