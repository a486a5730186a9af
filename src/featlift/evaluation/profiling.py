"""What a network costs: parameters, multiply-adds, time and memory of one forward pass.

`costs` measures several detectors in turns, so that what disturbs the machine disturbs all alike; `macs`, `latencies`
and `peak_memory` take any call without arguments, such as ``lambda: interpolator(x)``. Calls run without gradients.
"""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

Call = Callable[[], Any]


@dataclass(frozen=True)
class Latency:
    """Seconds of one call over several rounds. The median is what to expect, the fastest what the machine can do."""

    median: float
    fastest: float


@dataclass(frozen=True)
class Cost:
    """The cost of one picture."""

    parameters: int
    """All of ``parameters()``, frozen ones included; batch norm that is frozen into buffers is not (as the papers
    count).
    """
    gmac: float
    """10⁹ multiply-adds of one forward pass (FLOP / 2): what detection papers call GFLOPs."""
    latency: Latency
    memory: int
    """Bytes: the largest sum of PyTorch's allocations alive at once during one forward pass, weights and input not
    counted.
    """
    size: tuple[int, int]
    """(height, width) of the picture, px."""
    device: str


def cost(detector: nn.Module, picture: Tensor | tuple[int, int], rounds: int = 10, warmup: int = 2) -> Cost:
    """`costs` of one detector."""
    return costs({"it": detector}, picture, rounds, warmup)["it"]


def costs(
    detectors: Mapping[str, nn.Module], picture: Tensor | tuple[int, int], rounds: int = 10, warmup: int = 2
) -> dict[str, Cost]:
    """The cost of each detector (torchvision's contract, evaluation mode) on one ``picture``, where its weights are.

    ``picture`` is ``[3, H, W]`` in 0…1, or (height, width) for noise. Prefer a real picture: a two-stage detector works
    the harder the more it finds. Latencies are taken in turns, `Latency.median` of the one over that of the other is
    their ratio.
    """
    image = (
        picture if isinstance(picture, Tensor) else torch.rand(3, *picture, generator=torch.Generator().manual_seed(0))
    )
    modes = {name: detector.training for name, detector in detectors.items()}
    calls = {name: _on(detector.eval(), image) for name, detector in detectors.items()}
    try:
        times = latencies(calls, rounds, warmup)
        return {name: _cost(detectors[name], calls[name], times[name], image) for name in detectors}
    finally:
        for name, detector in detectors.items():
            detector.train(modes[name])


def _on(detector: nn.Module, image: Tensor) -> Call:
    here = image.to(device_of(detector))
    return lambda: detector([here])


def _cost(detector: nn.Module, call: Call, latency: Latency, image: Tensor) -> Cost:
    height, width = image.shape[-2:]
    device = device_of(detector)
    memory = peak_memory(call, device)
    return Cost(parameters(detector), macs(call) / 1e9, latency, memory, (height, width), str(device))


def parameters(module: nn.Module) -> int:
    """All parameters, frozen ones included, shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())


@torch.no_grad()
def macs(call: Call) -> float:
    """Multiply-adds of ``call``: half of what ``torch.utils.flop_counter`` counts (convolutions, products of matrices,
    attention).

    Additions, activations, resizing and sampling count as nothing there. torchvision's deformable convolution, which it
    does not know either, is counted here like the plain convolution of its shape (its offsets are a convolution of
    their own).
    """
    from torch.utils.flop_counter import FlopCounterMode
    from torchvision.ops import deform_conv2d  # noqa: F401  (registers the operator)

    with FlopCounterMode(display=False, custom_mapping={torch.ops.torchvision.deform_conv2d: _deformable}) as counter:
        call()
    return counter.get_total_flops() / 2


def _deformable(x: torch.Size, weight: torch.Size, *_: Any, out_shape: torch.Size) -> int:
    return 2 * prod(out_shape) * prod(weight[1:])


@torch.no_grad()
def latencies(calls: Mapping[str, Call], rounds: int = 10, warmup: int = 2) -> dict[str, Latency]:
    """Seconds of each call, in turns: after ``warmup`` rounds that are not counted, ``rounds`` that are.

    Raises:
        ValueError: if ``rounds`` is less than 1.
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}; a latency needs at least one round that counts.")
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warmup + rounds):
        for name, call in calls.items():
            taken = _timed(call)
            if turn >= warmup:
                seconds[name].append(taken)
    return {name: Latency(statistics.median(taken), min(taken)) for name, taken in seconds.items()}


def _timed(call: Call) -> float:
    synchronise()
    begun = time.perf_counter()
    call()
    synchronise()
    return time.perf_counter() - begun


def peak_memory(call: Call, device: str | torch.device = "cpu") -> int:
    """Bytes that PyTorch had allocated at once during ``call``, above what it had before.

    CUDA: the allocator's own peak. CPU: the running sum of the allocations and releases that ``torch.profiler`` saw.
    Both hold the call's tensors and the scratch space that comes from PyTorch's allocator (oneDNN's packed weights,
    say); memory that libraries take elsewhere or keep for later is in neither.
    """
    place = torch.device(device)
    return _peak_on_cuda(call, place) if place.type == "cuda" else _peak_on_cpu(call)


@torch.no_grad()
def _peak_on_cuda(call: Call, place: torch.device) -> int:
    torch.cuda.synchronize(place)
    torch.cuda.reset_peak_memory_stats(place)
    before = torch.cuda.memory_allocated(place)
    call()
    torch.cuda.synchronize(place)
    return torch.cuda.max_memory_allocated(place) - before


@torch.no_grad()
def _peak_on_cpu(call: Call) -> int:
    from torch.profiler import ProfilerActivity, profile

    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # on machines without a GPU the profiler reports that as an error
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    recorded = profiler.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = sorted((event for event in recorded if event.name() == "[memory]"), key=lambda event: event.start_ns())
    alive = peak = 0
    for change in changes:
        alive += change.nbytes()  # pyright: ignore[reportAttributeAccessIssue]
        peak = max(peak, alive)
    return peak


def device_of(module: nn.Module) -> torch.device:
    """Where the parameters of ``module`` are; the CPU if it has none."""
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


def synchronise() -> None:
    """Wait until the GPU has done what it was told, so that the clock can be read."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
