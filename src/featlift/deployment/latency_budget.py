"""``featlift upgrade --max-latency-ms``: selection of an interpolator by its latency on this machine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from featlift.deployment.upsampling_steps import UpsamplingStep, find_upsampling_steps
from featlift.detectors.fixed_size import parse_image_size
from featlift.device import resolve_device
from featlift.profiling import measure_latencies
from featlift.upgrading.adapters import build_adapters

BUDGET_CANDIDATES = ("afi", "srf", "deconv", "dysample", "carafe", "light", "pixel-shuffle")
"""By decreasing published gain over nearest interpolation: AFI-GAN's Table 6 (+2.6 and, for deconvolution, +1.6 AP), SRF-GAN's Table 5,
DySample's and CARAFE's papers (+1.2); then the interpolators without published results."""
EARLY_STOP_FACTOR = 10
"""A candidate whose first call exceeds the budget by this factor is not timed again."""


@dataclass(frozen=True)
class LatencyBudget:
    """Latency limit of an interpolator.

    Attributes:
        max_latency_ms: Instead of the named interpolator, take the best whose upsampling steps add at most this many ms per image,
            measured on this machine; 0 disables the measurement.
        image_size: Size of that image in pixels, HEIGHTxWIDTH or the side of a square.
        device: Device of the training and of the measurement: "auto" (a GPU if available), "cpu" or "cuda".
    """

    max_latency_ms: float = 0.0
    image_size: str = "800x1216"
    device: str = "auto"


UNLIMITED_BUDGET = LatencyBudget()
"""No limit, no measurement."""


def select_within_budget(detector: nn.Module, budget: LatencyBudget) -> str:
    """Return the first of :data:`BUDGET_CANDIDATES` that adds at most the budget over all upsampling steps of ``detector``.

    The candidates are timed in interleaved rounds, as the adapters of an upgrade, on noise of the size of the maps. Prints the latencies.

    Raises:
        ValueError: If no candidate is within the budget; the message lists the latencies.
    """
    budget = replace(budget, device=str(resolve_device(budget.device)))
    steps = find_upsampling_steps(detector.eval().to(budget.device), random_image(budget.image_size, budget.device))
    latencies = measure_added_latency(steps, budget)
    detector.cpu()
    summary = ", ".join(f"{name} {ms:.1f}" for name, ms in latencies.items())
    print(f"added latency in ms for an image of {budget.image_size} on {budget.device}: {summary}")
    within_budget = [name for name, ms in latencies.items() if ms <= budget.max_latency_ms]
    if not within_budget:
        raise ValueError(f"No interpolator adds at most {budget.max_latency_ms:g} ms; added ms of each: {summary}.")
    print(f"within {budget.max_latency_ms:g} ms: {within_budget[0]}")
    return within_budget[0]


def measure_added_latency(
    upsampling_steps: Sequence[UpsamplingStep], budget: LatencyBudget, rounds: int = 5
) -> dict[str, float]:
    """Return the latency in ms (median over ``rounds``) that each of :data:`BUDGET_CANDIDATES` adds over all ``upsampling_steps``."""
    channels = [step.channels for step in upsampling_steps]
    adapters = {name: build_adapters(name, channels, {}) for name in BUDGET_CANDIDATES}
    maps = [
        (step.random_input(budget.device), torch.zeros(1, step.channels, *step.out_size, device=budget.device))
        for step in upsampling_steps
    ]
    calls = {name: _build_call(modules, maps, budget.device) for name, modules in adapters.items()}
    first = {name: 1e3 * latency.median for name, latency in measure_latencies(calls, 1, warmup=0).items()}
    remaining = {name: calls[name] for name, ms in first.items() if ms <= EARLY_STOP_FACTOR * budget.max_latency_ms}
    latencies = measure_latencies(remaining, rounds, warmup=1)
    return first | {name: 1e3 * latency.median for name, latency in latencies.items()}


def _build_call(modules: Sequence[Any], maps: Sequence[tuple[Tensor, Tensor]], device: str) -> Callable[[], Any]:
    on_device = [module.eval().to(device) for module in modules]
    return lambda: [module(x, upsampled) for module, (x, upsampled) in zip(on_device, maps, strict=True)]


def random_image(size: str, device: str = "cpu") -> Tensor:
    """Return a random image ``[3, H, W]`` in 0…1 of ``size`` "HxW", or "H" for a square, in pixels.

    Raises:
        ValueError: If ``size`` has another format.
    """
    return torch.rand(3, *parse_image_size(size), generator=torch.Generator().manual_seed(0)).to(device)
