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

ForwardCall = Callable[[], Any]


@dataclass(frozen=True)
class Latency:
    """Seconds of one call over several rounds. The median is what to expect, the fastest what the machine can do."""

    median: float
    minimum: float


@dataclass(frozen=True)
class ModelProfile:
    """The cost of one picture."""

    num_parameters: int
    """All of ``parameters()``, frozen ones included; batch norm that is frozen into buffers is not (as the papers
    count).
    """
    gmacs: float
    """10⁹ multiply-adds of one forward pass (FLOP / 2): what detection papers call GFLOPs."""
    latency: Latency
    peak_memory: int
    """Bytes: the largest sum of PyTorch's allocations alive at once during one forward pass, weights and input not
    counted.
    """
    image_size: tuple[int, int]
    """(height, width) of the picture, px."""
    device: str


def profile_detector(
    detector: nn.Module, image: Tensor | tuple[int, int], rounds: int = 10, warmup: int = 2
) -> ModelProfile:
    """`costs` of one detector."""
    return profile_detectors({"it": detector}, image, rounds, warmup)["it"]


def profile_detectors(
    detectors: Mapping[str, nn.Module], image: Tensor | tuple[int, int], rounds: int = 10, warmup: int = 2
) -> dict[str, ModelProfile]:
    """The cost of each detector (torchvision's contract, evaluation mode) on one ``image``, where its weights are.

    ``image`` is ``[3, H, W]`` in 0…1, or (height, width) for noise. Prefer a real picture: a two-stage detector works
    the harder the more it finds. Latencies are taken in turns, `Latency.median` of the one over that of the other is
    their ratio.
    """
    image = image if isinstance(image, Tensor) else torch.rand(3, *image, generator=torch.Generator().manual_seed(0))
    modes = {name: detector.training for name, detector in detectors.items()}
    calls = {name: _forward_call(detector.eval(), image) for name, detector in detectors.items()}
    try:
        times = measure_latencies(calls, rounds, warmup)
        return {name: _profile(detectors[name], calls[name], times[name], image) for name in detectors}
    finally:
        for name, detector in detectors.items():
            detector.train(modes[name])


def _forward_call(detector: nn.Module, image: Tensor) -> ForwardCall:
    here = image.to(device_of(detector))
    return lambda: detector([here])


def _profile(detector: nn.Module, call: ForwardCall, latency: Latency, image: Tensor) -> ModelProfile:
    height, width = image.shape[-2:]
    device = device_of(detector)
    memory = measure_peak_memory(call, device)
    return ModelProfile(
        count_parameters(detector), count_macs(call) / 1e9, latency, memory, (height, width), str(device)
    )


def count_parameters(module: nn.Module) -> int:
    """All parameters, frozen ones included, shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())


@torch.no_grad()
def count_macs(call: ForwardCall) -> float:
    """Multiply-adds of ``call``: half of what ``torch.utils.flop_counter`` counts (convolutions, products of matrices,
    attention).

    Additions, activations, resizing and sampling count as nothing there. torchvision's deformable convolution, which it
    does not know either, is counted here like the plain convolution of its shape (its offsets are a convolution of
    their own).
    """
    from torch.utils.flop_counter import FlopCounterMode
    from torchvision.ops import deform_conv2d  # noqa: F401  (registers the operator)

    with FlopCounterMode(
        display=False, custom_mapping={torch.ops.torchvision.deform_conv2d: _deform_conv_flops}
    ) as counter:
        call()
    return counter.get_total_flops() / 2


def _deform_conv_flops(input_shape: torch.Size, weight_shape: torch.Size, *_: Any, out_shape: torch.Size) -> int:
    return 2 * prod(out_shape) * prod(weight_shape[1:])


@torch.no_grad()
def measure_latencies(calls: Mapping[str, ForwardCall], rounds: int = 10, warmup: int = 2) -> dict[str, Latency]:
    """Seconds of each call, in turns: after ``warmup`` rounds that are not counted, ``rounds`` that are.

    Raises:
        ValueError: if ``rounds`` is less than 1.
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}; a latency needs at least one round that counts.")
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warmup + rounds):
        for name, call in calls.items():
            taken = _time_call(call)
            if turn >= warmup:
                seconds[name].append(taken)
    return {name: Latency(statistics.median(taken), min(taken)) for name, taken in seconds.items()}


def _time_call(call: ForwardCall) -> float:
    synchronize_cuda()
    begun = time.perf_counter()
    call()
    synchronize_cuda()
    return time.perf_counter() - begun


def measure_peak_memory(call: ForwardCall, device: str | torch.device = "cpu") -> int:
    """Bytes that PyTorch had allocated at once during ``call``, above what it had before.

    CUDA: the allocator's own peak. CPU: the running sum of the allocations and releases that ``torch.profiler`` saw.
    Both hold the call's tensors and the scratch space that comes from PyTorch's allocator (oneDNN's packed weights,
    say); memory that libraries take elsewhere or keep for later is in neither.
    """
    place = torch.device(device)
    return _measure_cuda_peak(call, place) if place.type == "cuda" else _measure_cpu_peak(call)


@torch.no_grad()
def _measure_cuda_peak(call: ForwardCall, device: torch.device) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


@torch.no_grad()
def _measure_cpu_peak(call: ForwardCall) -> int:
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


def synchronize_cuda() -> None:
    """Wait until the GPU has done what it was told, so that the clock can be read."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
