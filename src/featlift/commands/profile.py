"""``featlift cost``: what each part of a detector costs, and what its doublings would cost with every other interpolator."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featlift.commands.upgrade import load_detector_by_name
from featlift.deployment.latency_budget import random_image
from featlift.detectors import detections_from_features
from featlift.evaluation.profiling import count_macs, count_parameters, measure_latencies, measure_peak_memory
from featlift.interpolators import INTERPOLATORS
from featlift.interpolators import build_interpolators as built
from featlift.upgrading.upsampling_steps import UpsamplingStep, backbone_and_pyramid, find_upsampling_steps


@dataclass(frozen=True)
class PartProfile:
    """The cost of one part for one picture.

    Attributes:
        name: of the part.
        num_parameters: those shared with a part that was counted before are left out.
        gmacs: 10⁹ multiply-adds.
        latency_ms: median over the rounds.
        peak_memory_mb: 10⁶ bytes: the largest sum of allocations alive at once, weights and input not counted.
    """

    name: str
    num_parameters: int
    gmacs: float
    latency_ms: float
    peak_memory_mb: float


@dataclass(frozen=True)
class ProfileReport:
    """What :func:`profile` measured.

    Attributes:
        parts: backbone, pyramid, the doublings in it, heads, and the whole detector.
        interpolators: name of an interpolator → what each doubling costs with it.
    """

    parts: tuple[PartProfile, ...]
    interpolators: dict[str, tuple[PartProfile, ...]]


def profile(
    model: str,
    image_size: str = "800x1216",
    device: str = "cpu",
    interpolators: tuple[str, ...] = (),
    rounds: int = 5,
    plot_file: str = "cost.png",
) -> ProfileReport:
    """Measure a detector part by part, and its doublings with every interpolator, in turns; prints two tables and draws a picture.

    Args:
        model: a run folder or detector file of ours, or a detector of torchvision ("maskrcnn_resnet50_fpn"; random weights will do).
        image_size: of the picture, HEIGHTxWIDTH in px.
        device: "cpu" or "cuda".
        interpolators: names to compare; all if none is named.
        rounds: how often each is timed, after two that do not count.
        plot_file: PNG or SVG to draw into; empty draws nothing.

    Raises:
        ValueError: for a size of another form, an unknown interpolator, or a detector that doubles nothing.
    """
    unknown = [name for name in interpolators if name not in INTERPOLATORS]
    if unknown:
        raise ValueError(f"Unknown interpolator '{unknown[0]}'. There are: {', '.join(INTERPOLATORS)}.")
    image = random_image(image_size, device)
    detector = load_detector_by_name(model).eval().to(device)
    steps = find_upsampling_steps(detector, image)
    now = profile_parts(detector, image, steps, rounds)
    costs = ProfileReport(
        now, profile_interpolators(interpolators or tuple(INTERPOLATORS), steps, image.device, rounds)
    )
    height, width = detector.transform([image])[0].tensors.shape[-2:]  # type: ignore[operator]
    print(f"{model} on {device}, a picture of {image_size}, which it sees as {height}x{width}")
    print(f"{format_part_table(costs)}\n\n{format_interpolator_table(costs)}")
    if plot_file:
        print(plot_profile(costs, Path(plot_file)))
    return costs


@torch.no_grad()
def profile_parts(
    detector: nn.Module, image: Tensor, upsampling_steps: Sequence[UpsamplingStep], rounds: int
) -> tuple[PartProfile, ...]:
    """Backbone, pyramid, each doubling inside it, heads, and the whole detector on ``image`` ``[3, H, W]``."""
    body, pyramid = backbone_and_pyramid(detector)
    batch = detector.transform([image])[0]  # type: ignore[operator]
    below = body(batch.tensors)
    features, backbone = pyramid(below), detector.backbone
    heads = [module for name, module in detector.named_children() if module is not backbone]
    calls: dict[str, tuple[Sequence[nn.Module], Callable[[], Any]]] = {
        "backbone": ([body], lambda: body(batch.tensors)),
        "pyramid": ([pyramid], lambda: pyramid(below)),
        **{
            f"  {step.name}": (_new_modules(upsampling_steps, i), _build_noise_call(step.upsample, step, image.device))
            for i, step in enumerate(upsampling_steps)
        },
        "heads": (heads, lambda: detections_from_features(detector, batch, features)),
        "whole": ([detector], lambda: detector([image])),
    }
    return _profile_calls(calls, image.device, rounds)


@torch.no_grad()
def profile_interpolators(
    names: Sequence[str], upsampling_steps: Sequence[UpsamplingStep], device: torch.device, rounds: int
) -> dict[str, tuple[PartProfile, ...]]:
    """The doublings with each interpolator of ``names``, new ones, shared by the steps as their papers do."""
    calls: dict[str, tuple[Sequence[nn.Module], Callable[[], Any]]] = {}
    for name in names:
        made = [module.eval().to(device) for module in built(name, upsampling_steps[0].channels, len(upsampling_steps))]
        for i, step in enumerate(upsampling_steps):
            counted = [made[i]] if i < len(made) else []
            calls[f"{name} {i}"] = counted, _build_noise_call(made[i % len(made)], step, device)
    rows, count = _profile_calls(calls, device, rounds), len(upsampling_steps)
    return {
        name: tuple(
            replace(row, name=s.name)
            for row, s in zip(rows[count * k : count * (k + 1)], upsampling_steps, strict=True)
        )
        for k, name in enumerate(names)
    }


def sum_profiles(parts: Sequence[PartProfile], name: str) -> PartProfile:
    """One after the other: sums, and the largest memory."""
    return PartProfile(
        name,
        sum(row.num_parameters for row in parts),
        sum(row.gmacs for row in parts),
        sum(row.latency_ms for row in parts),
        max(row.peak_memory_mb for row in parts),
    )


def format_part_table(profile_report: ProfileReport) -> str:
    """A line for each part."""
    head = f"{'part':<20}{'parameters':>14}{'GMAC':>10}{'ms':>10}{'MB':>10}"
    return "\n".join([head, *(f"{row.name:<20}{_format_numbers(row)}" for row in profile_report.parts)])


def format_interpolator_table(profile_report: ProfileReport) -> str:
    """A line for each interpolator: all doublings together, the milliseconds of each, and of the whole detector with them."""
    names = [row.name for row in next(iter(profile_report.interpolators.values()))]
    head = f"{'interpolator':<20}{'parameters':>14}{'GMAC':>10}{'ms':>10}{'MB':>10}"
    lines = [head + "".join(f"{name:>10}" for name in names) + f"{'whole ms':>10}"]
    for name, rows in profile_report.interpolators.items():
        each = "".join(f"{row.latency_ms:>10.2f}" for row in rows)
        lines.append(
            f"{name:<20}{_format_numbers(sum_profiles(rows, name))}{each}{estimate_detector_latency(profile_report, rows):>10.0f}"
        )
    return "\n".join(lines)


def estimate_detector_latency(profile_report: ProfileReport, step_profiles: Sequence[PartProfile]) -> float:
    """Milliseconds of the whole detector if its doublings cost what ``step_profiles`` say."""
    now = sum(row.latency_ms for row in profile_report.parts if row.name.startswith("  "))
    return profile_report.parts[-1].latency_ms - now + sum(row.latency_ms for row in step_profiles)


def plot_profile(profile_report: ProfileReport, path: Path) -> Path:
    """Milliseconds as bars: the parts at the left, the doublings with each interpolator at the right, a color for each step."""
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
    left.set(title="parts, now", xlabel="milliseconds")
    _plot_stacked_bars(right, profile_report.interpolators)
    for axes in (left, right):
        axes.margins(x=0.15)
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.part")
    figure.savefig(unfinished, format=path.suffix[1:], dpi=150)
    return unfinished.replace(path)


def _plot_stacked_bars(axes: Any, rows: Mapping[str, Sequence[PartProfile]]) -> None:
    names, ends = list(rows), [0.0] * len(rows)
    for i, step in enumerate(row.name for row in next(iter(rows.values()))):
        widths = [of[i].latency_ms for of in rows.values()]
        axes.barh(names, widths, left=ends, label=step, color=f"C{i}")
        ends = [end + width for end, width in zip(ends, widths, strict=True)]
    for row, end in enumerate(ends):
        axes.annotate(f"{end:.0f}", (end, row), xytext=(3, 0), textcoords="offset points", va="center")
    axes.set(title="doublings, with each interpolator", xlabel="milliseconds")
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=len(names))


def _format_numbers(row: PartProfile) -> str:
    return f"{row.num_parameters:>14,}{row.gmacs:>10.2f}{row.latency_ms:>10.2f}{row.peak_memory_mb:>10.1f}"


def _new_modules(upsampling_steps: Sequence[UpsamplingStep], i: int) -> list[nn.Module]:
    """What learns in step ``i`` and was in none before it."""
    module = upsampling_steps[i].module
    return [] if module is None or module in [step.module for step in upsampling_steps[:i]] else [module]


def _build_noise_call(
    upsample: Callable[[Tensor], Tensor], step: UpsamplingStep, device: torch.device
) -> Callable[[], Tensor]:
    x = step.random_input(device)
    return lambda: upsample(x)


def _profile_calls(
    calls: Mapping[str, tuple[Sequence[nn.Module], Callable[[], Any]]], device: torch.device, rounds: int
) -> tuple[PartProfile, ...]:
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
