"""Cost of each part of a detector, and of its upsampling steps with every other interpolator, as tables and a plot."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featlift.deployment.upsampling_steps import UpsampleFn, UpsamplingStep, backbone_and_pyramid, find_upsampling_steps
from featlift.detectors import detections_from_features
from featlift.interpolators import INTERPOLATORS, build_interpolators
from featlift.profiling import count_macs, count_parameters, measure_latencies, measure_peak_memory
from featlift.registry import look_up
from featlift.report.figure import save_figure


@dataclass(frozen=True)
class PartProfile:
    """Cost of a part of the detector for one image.

    Attributes:
        name: Name of the part.
        num_parameters: Number of parameters, without those shared with an earlier part.
        gmacs: Multiply-adds in 10⁹.
        latency_ms: Median latency over the rounds in milliseconds.
        peak_memory_mb: Peak allocated memory in 10⁶ bytes, without weights and input.
    """

    name: str
    num_parameters: int
    gmacs: float
    latency_ms: float
    peak_memory_mb: float


@dataclass(frozen=True)
class ProfileReport:
    """Result of :func:`build_profile_report`.

    Attributes:
        parts: Backbone, pyramid, its upsampling steps, heads, and the whole detector.
        interpolators: Name of an interpolator → the cost of each upsampling step with it.
    """

    parts: tuple[PartProfile, ...]
    interpolators: dict[str, tuple[PartProfile, ...]]


def build_profile_report(
    detector: nn.Module, image: Tensor, interpolators: Sequence[str] = (), rounds: int = 5
) -> ProfileReport:
    """Profile the parts of ``detector`` on ``image`` ``[3, H, W]``, and its upsampling steps with each of ``interpolators``.

    Args:
        detector: Detector in evaluation mode, on the device of ``image``.
        image: Image in 0…1.
        interpolators: Names of the interpolators to compare; default: all.
        rounds: Number of timed runs, after two warm-up runs.

    Raises:
        ValueError: If an interpolator is unknown, or the detector has no upsampling steps.
    """
    for name in interpolators:
        look_up(INTERPOLATORS, name, "interpolator")
    steps = find_upsampling_steps(detector, image)
    parts = profile_parts(detector, image, steps, rounds)
    names = interpolators or tuple(INTERPOLATORS)
    return ProfileReport(parts, profile_interpolators(names, steps, image.device, rounds))


@torch.no_grad()
def profile_parts(
    detector: nn.Module, image: Tensor, upsampling_steps: Sequence[UpsamplingStep], rounds: int
) -> tuple[PartProfile, ...]:
    """Profile backbone, pyramid, each of its upsampling steps, heads, and the whole detector on ``image`` ``[3, H, W]``."""
    body, pyramid = backbone_and_pyramid(detector)
    batch = detector.transform([image])[0]  # type: ignore[operator]
    backbone_maps = body(batch.tensors)
    features, backbone = pyramid(backbone_maps), detector.backbone
    heads = [module for module in detector.children() if module is not backbone]
    calls: dict[str, tuple[Sequence[nn.Module], Callable[[], Any]]] = {
        "backbone": ([body], lambda: body(batch.tensors)),
        "pyramid": ([pyramid], lambda: pyramid(backbone_maps)),
        **{
            f"  {step.name}": (_new_modules(upsampling_steps, i), _build_noise_call(step.upsample, step, image.device))
            for i, step in enumerate(upsampling_steps)
        },
        "heads": (heads, lambda: detections_from_features(detector, batch, features)),
        "whole": ([detector], lambda: detector([image])),
    }
    return profile_calls(calls, image.device, rounds)


@torch.no_grad()
def profile_interpolators(
    names: Sequence[str], upsampling_steps: Sequence[UpsamplingStep], device: torch.device, rounds: int
) -> dict[str, tuple[PartProfile, ...]]:
    """Profile the upsampling steps with new interpolators ``names``, shared between the steps as in their papers."""
    calls: dict[str, tuple[Sequence[nn.Module], Callable[[], Any]]] = {}
    for name in names:
        modules = build_interpolators(name, upsampling_steps[0].channels, len(upsampling_steps))
        modules = [module.eval().to(device) for module in modules]
        for i, step in enumerate(upsampling_steps):
            new_modules = [modules[i]] if i < len(modules) else []
            calls[f"{name} {i}"] = new_modules, _build_noise_call(modules[i % len(modules)], step, device)
    rows, count = profile_calls(calls, device, rounds), len(upsampling_steps)
    return {
        name: tuple(
            replace(row, name=step.name)
            for row, step in zip(rows[count * k : count * (k + 1)], upsampling_steps, strict=True)
        )
        for k, name in enumerate(names)
    }


def sum_profiles(parts: Sequence[PartProfile], name: str) -> PartProfile:
    """Total of parts that run in sequence: sums, and the maximum of the peak memory."""
    return PartProfile(
        name,
        sum(row.num_parameters for row in parts),
        sum(row.gmacs for row in parts),
        sum(row.latency_ms for row in parts),
        max(row.peak_memory_mb for row in parts),
    )


def format_part_table(profile_report: ProfileReport) -> str:
    """Format a table with one line per part."""
    header = f"{'part':<20}{'parameters':>14}{'GMAC':>10}{'ms':>10}{'MB':>10}"
    return "\n".join([header, *(f"{row.name:<20}{format_numbers(row)}" for row in profile_report.parts)])


def format_interpolator_table(profile_report: ProfileReport) -> str:
    """Format a table with one line per interpolator: total of the upsampling steps, milliseconds of each step and of the whole detector."""
    names = [row.name for row in next(iter(profile_report.interpolators.values()))]
    header = f"{'interpolator':<20}{'parameters':>14}{'GMAC':>10}{'ms':>10}{'MB':>10}"
    lines = [header + "".join(f"{name:>10}" for name in names) + f"{'whole ms':>10}"]
    for name, rows in profile_report.interpolators.items():
        step_latencies = "".join(f"{row.latency_ms:>10.2f}" for row in rows)
        detector_latency = estimate_detector_latency(profile_report, rows)
        lines.append(f"{name:<20}{format_numbers(sum_profiles(rows, name))}{step_latencies}{detector_latency:>10.0f}")
    return "\n".join(lines)


def estimate_detector_latency(profile_report: ProfileReport, step_profiles: Sequence[PartProfile]) -> float:
    """Estimate milliseconds of the whole detector with upsampling steps of the latencies in ``step_profiles``."""
    current = sum(row.latency_ms for row in profile_report.parts if row.name.startswith("  "))
    return profile_report.parts[-1].latency_ms - current + sum(row.latency_ms for row in step_profiles)


def plot_profile(profile_report: ProfileReport, path: Path) -> Path:
    """Plot latency bars: the parts on the left, the upsampling steps with each interpolator on the right, one color per step."""
    from matplotlib.figure import Figure

    figure = Figure(
        figsize=(11, 1.2 + 0.32 * max(len(profile_report.parts), len(profile_report.interpolators))),
        layout="constrained",
        facecolor="white",
    )
    left, right = figure.subplots(1, 2)
    bars = left.barh(
        [row.name for row in profile_report.parts], [row.latency_ms for row in profile_report.parts], color="#3b6ea5"
    )
    left.bar_label(bars, labels=[f"{row.latency_ms:.0f}" for row in profile_report.parts], padding=3)
    left.set(title="parts of the detector", xlabel="milliseconds")
    _plot_stacked_bars(right, profile_report.interpolators)
    for axes in (left, right):
        axes.margins(x=0.15)
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
    return save_figure(figure, path)


def _plot_stacked_bars(axes: Any, rows: Mapping[str, Sequence[PartProfile]]) -> None:
    names, ends = list(rows), [0.0] * len(rows)
    for i, step in enumerate(row.name for row in next(iter(rows.values()))):
        widths = [steps[i].latency_ms for steps in rows.values()]
        axes.barh(names, widths, left=ends, label=step, color=f"C{i}")
        ends = [end + width for end, width in zip(ends, widths, strict=True)]
    for row, end in enumerate(ends):
        axes.annotate(f"{end:.0f}", (end, row), xytext=(3, 0), textcoords="offset points", va="center")
    axes.set(title="upsampling steps with each interpolator", xlabel="milliseconds")
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=len(names))


def format_numbers(row: PartProfile) -> str:
    """Format the numbers of a row: parameters, 10⁹ multiply-adds, milliseconds, 10⁶ bytes."""
    return f"{row.num_parameters:>14,}{row.gmacs:>10.2f}{row.latency_ms:>10.2f}{row.peak_memory_mb:>10.1f}"


def _new_modules(upsampling_steps: Sequence[UpsamplingStep], i: int) -> list[nn.Module]:
    """The module of upsampling step ``i`` if no earlier step shares it, else an empty list."""
    module = upsampling_steps[i].module
    return [] if module is None or module in [step.module for step in upsampling_steps[:i]] else [module]


def _build_noise_call(upsample: UpsampleFn, step: UpsamplingStep, device: torch.device) -> Callable[[], Tensor]:
    x, guide = step.random_input(device), step.random_guide(device)
    return lambda: upsample(x, guide)


def profile_calls(
    calls: Mapping[str, tuple[Sequence[nn.Module], Callable[[], Any]]], device: torch.device, rounds: int
) -> tuple[PartProfile, ...]:
    """Profile functions by name, given with the modules whose parameters they use; latencies are measured interleaved."""
    times = measure_latencies({name: call for name, (_, call) in calls.items()}, rounds)
    return tuple(
        PartProfile(
            name,
            sum(map(count_parameters, modules)),
            count_macs(call) / 1e9,
            1e3 * times[name].median,
            measure_peak_memory(call, device) / 1e6,
        )
        for name, (modules, call) in calls.items()
    )
