"""Model profiling: parameters, multiply-adds, latency and peak memory of one forward pass.

`profile_detectors` times several detectors in turns, so that load on the machine affects all alike; `count_macs`,
`measure_latencies` and `measure_peak_memory` take any call without arguments, such as ``lambda: interpolator(x)``. Calls run
without gradients.
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

from featlift.device import device_of, synchronize_cuda

ForwardCall = Callable[[], Any]


@dataclass(frozen=True)
class Latency:
    """Median and minimum of the seconds per call over several rounds."""

    median: float
    minimum: float


@dataclass(frozen=True)
class ModelProfile:
    """Profile of one forward pass on one image."""

    num_parameters: int
    """All of ``parameters()``, frozen ones included; batch norm frozen into buffers is excluded, as in the papers."""
    gmacs: float
    """10⁹ multiply-adds of one forward pass (FLOP / 2), called GFLOPs in detection papers."""
    latency: Latency
    peak_memory: int
    """Peak of PyTorch's allocations during one forward pass in bytes, weights and input excluded."""
    image_size: tuple[int, int]
    """(height, width) of the image, px."""
    device: str


def profile_detectors(
    detectors: Mapping[str, nn.Module], image: Tensor | tuple[int, int], rounds: int = 10, warmup: int = 2
) -> dict[str, ModelProfile]:
    """Profile each detector (torchvision interface, evaluation mode) on one ``image``, on the device of its weights.

    ``image`` is ``[3, H, W]`` in 0…1, or (height, width) for noise. Prefer a real image: the run time of a two-stage detector
    depends on the number of proposals. Latencies are measured in turns, so the ratio of two medians is meaningful.
    """
    image = image if isinstance(image, Tensor) else torch.rand(3, *image, generator=torch.Generator().manual_seed(0))
    modes = {name: detector.training for name, detector in detectors.items()}
    calls = {name: _forward_call(detector.eval(), image) for name, detector in detectors.items()}
    try:
        latencies = measure_latencies(calls, rounds, warmup)
        return {name: _profile(detectors[name], calls[name], latencies[name], image) for name in detectors}
    finally:
        for name, detector in detectors.items():
            detector.train(modes[name])


def _forward_call(detector: nn.Module, image: Tensor) -> ForwardCall:
    image = image.to(device_of(detector))
    return lambda: detector([image])


def _profile(detector: nn.Module, call: ForwardCall, latency: Latency, image: Tensor) -> ModelProfile:
    height, width = image.shape[-2:]
    device = device_of(detector)
    peak_memory = measure_peak_memory(call, device)
    return ModelProfile(
        count_parameters(detector), count_macs(call) / 1e9, latency, peak_memory, (height, width), str(device)
    )


def count_parameters(module: nn.Module) -> int:
    """Count all parameters, frozen ones included, shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())


@torch.no_grad()
def count_macs(call: ForwardCall) -> float:
    """Count the multiply-adds of ``call``: half the FLOPs of ``torch.utils.flop_counter`` (convolutions, matrix products, attention).

    Additions, activations, resizing and sampling count as zero. torchvision's deformable convolution, which the counter does not
    support, is counted as a standard convolution of its shape (its offsets come from a separate convolution).
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
    """Measure the seconds of each call in turns: ``warmup`` rounds that are discarded, then ``rounds`` rounds.

    Raises:
        ValueError: If ``rounds`` is less than 1.
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}; it must be at least 1.")
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warmup + rounds):
        for name, call in calls.items():
            elapsed = _time_call(call)
            if turn >= warmup:
                seconds[name].append(elapsed)
    return {name: Latency(statistics.median(times), min(times)) for name, times in seconds.items()}


def _time_call(call: ForwardCall) -> float:
    synchronize_cuda()
    start = time.perf_counter()
    call()
    synchronize_cuda()
    return time.perf_counter() - start


def measure_peak_memory(call: ForwardCall, device: str | torch.device = "cpu") -> int:
    """Measure the peak of PyTorch's allocations during ``call`` in bytes, above the allocation before it.

    CUDA: the peak reported by the caching allocator. CPU: the peak of the running sum of the allocations and releases recorded by
    ``torch.profiler``. Both include tensors and scratch space from PyTorch's allocator (such as oneDNN's packed
    weights); memory that libraries allocate elsewhere or cache is excluded.
    """
    device = torch.device(device)
    return _measure_cuda_peak(call, device) if device.type == "cuda" else _measure_cpu_peak(call)


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

    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # without a GPU, the profiler logs its absence as an error
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    events = profiler.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = sorted((event for event in events if event.name() == "[memory]"), key=lambda event: event.start_ns())
    allocated = peak = 0
    for change in changes:
        allocated += change.nbytes()  # pyright: ignore[reportAttributeAccessIssue]
        peak = max(peak, allocated)
    return peak
