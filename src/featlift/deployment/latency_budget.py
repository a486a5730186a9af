"""``featlift upgrade --budget-ms``: which interpolator is worth its milliseconds here."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from featlift.evaluation.profiling import measure_latencies
from featlift.upgrading.residual import build_adapters
from featlift.upgrading.upsampling_steps import UpsamplingStep, find_upsampling_steps

BUDGET_CANDIDATES = ("afi", "srf", "deconv", "dysample", "carafe", "light", "pixel-shuffle")
"""From the largest published gain over nearest interpolation to the smallest: AFI-GAN's Table 6 (+2.6 and, for deconvolution, +1.6 AP),
SRF-GAN's Table 5, DySample's and CARAFE's papers (+1.2); behind them what nobody has published."""
EARLY_STOP_FACTOR = 10
"""What takes so many times the budget at its first call has no further ones."""


@dataclass(frozen=True)
class LatencyBudget:
    """What an interpolator may cost.

    Attributes:
        max_latency_ms: take, instead of the one that is named, the best whose doublings add at most so many milliseconds to a picture,
            measured here and now; 0 measures nothing.
        image_size: of that picture, HEIGHTxWIDTH in px.
        device: where to measure, "cpu" or "cuda".
    """

    max_latency_ms: float = 0.0
    image_size: str = "800x1216"
    device: str = "cpu"


UNLIMITED_BUDGET = LatencyBudget()
"""Nothing is measured."""


def select_within_budget(detector: nn.Module, budget: LatencyBudget) -> str:
    """The first of :data:`BUDGET_CANDIDATES` whose additions to all doublings of ``detector`` together take no longer than the budget.

    They are timed in turns, in the form an upgrade gives them, on noise of the size of the maps. Prints what was measured.

    Raises:
        ValueError: if none of them does; the message tells what each takes.
    """
    steps = find_upsampling_steps(detector.eval().to(budget.device), random_image(budget.image_size, budget.device))
    taken = measure_added_latency(steps, budget)
    detector.cpu()
    told = ", ".join(f"{name} {milliseconds:.1f}" for name, milliseconds in taken.items())
    print(f"milliseconds that each would add to a picture of {budget.image_size} on {budget.device}: {told}")
    fitting = [name for name, milliseconds in taken.items() if milliseconds <= budget.max_latency_ms]
    if not fitting:
        raise ValueError(f"No interpolator adds at most {budget.max_latency_ms:g} ms; milliseconds of each: {told}.")
    print(f"within {budget.max_latency_ms:g} ms: {fitting[0]}")
    return fitting[0]


def measure_added_latency(
    upsampling_steps: Sequence[UpsamplingStep], budget: LatencyBudget, rounds: int = 5
) -> dict[str, float]:
    """What each of :data:`BUDGET_CANDIDATES` would add to ``upsampling_steps``, all together: the median over the rounds."""
    made = {name: build_adapters(name, [step.channels for step in upsampling_steps], {}) for name in BUDGET_CANDIDATES}
    maps = [
        (s.random_input(budget.device), torch.zeros(1, s.channels, *s.out_size, device=budget.device))
        for s in upsampling_steps
    ]
    calls = {name: _build_call(parts, maps, budget.device) for name, parts in made.items()}
    first = {name: 1e3 * latency.median for name, latency in measure_latencies(calls, 1, warmup=0).items()}
    near = {name: calls[name] for name, taken in first.items() if taken <= EARLY_STOP_FACTOR * budget.max_latency_ms}
    return first | {name: 1e3 * latency.median for name, latency in measure_latencies(near, rounds, warmup=1).items()}


def _build_call(modules: Sequence[Any], maps: Sequence[tuple[Tensor, Tensor]], device: str) -> Callable[[], Any]:
    ready = [part.eval().to(device) for part in modules]
    return lambda: [part(x, old) for part, (x, old) in zip(ready, maps, strict=True)]


def random_image(size: str, device: str = "cpu") -> Tensor:
    """A random picture ``[3, H, W]`` in 0…1 of the ``size`` "HxW" in px. Raises ValueError for a size of another form."""
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", size)
    if not found:
        raise ValueError(f"'{size}' is no size; write HEIGHTxWIDTH in pixels, as in 800x1216.")
    return torch.rand(3, int(found[1]), int(found[2]), generator=torch.Generator().manual_seed(0)).to(device)
