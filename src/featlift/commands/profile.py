"""``featlift cost``: what each part of a detector costs, and what its doublings would cost with every other interpolator."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featlift.commands.upgrade import named
from featlift.deployment.latency_budget import noise
from featlift.detectors import detections_on
from featlift.evaluation.profiling import latencies, macs, parameters, peak_memory
from featlift.interpolators import INTERPOLATORS
from featlift.interpolators import interpolators as built
from featlift.upgrading.upsampling_steps import Doubling, doublings, trunk


@dataclass(frozen=True)
class Row:
    """The cost of one part for one picture.

    Attributes:
        name: of the part.
        parameters: those shared with a part that was counted before are left out.
        gmac: 10⁹ multiply-adds.
        milliseconds: median over the rounds.
        megabytes: 10⁶ bytes: the largest sum of allocations alive at once, weights and input not counted.
    """

    name: str
    parameters: int
    gmac: float
    milliseconds: float
    megabytes: float


@dataclass(frozen=True)
class Costs:
    """What :func:`cost` measured.

    Attributes:
        parts: backbone, pyramid, the doublings in it, heads, and the whole detector.
        doublings: name of an interpolator → what each doubling costs with it.
    """

    parts: tuple[Row, ...]
    doublings: dict[str, tuple[Row, ...]]


def cost(
    model: str,
    size: str = "800x1216",
    device: str = "cpu",
    interpolators: tuple[str, ...] = (),
    rounds: int = 5,
    picture: str = "cost.png",
) -> Costs:
    """Measure a detector part by part, and its doublings with every interpolator, in turns; prints two tables and draws a picture.

    Args:
        model: a run folder or detector file of ours, or a detector of torchvision ("maskrcnn_resnet50_fpn"; random weights will do).
        size: of the picture, HEIGHTxWIDTH in px.
        device: "cpu" or "cuda".
        interpolators: names to compare; all if none is named.
        rounds: how often each is timed, after two that do not count.
        picture: PNG or SVG to draw into; empty draws nothing.

    Raises:
        ValueError: for a size of another form, an unknown interpolator, or a detector that doubles nothing.
    """
    unknown = [name for name in interpolators if name not in INTERPOLATORS]
    if unknown:
        raise ValueError(f"Unknown interpolator '{unknown[0]}'. There are: {', '.join(INTERPOLATORS)}.")
    image = noise(size, device)
    detector = named(model).eval().to(device)
    steps = doublings(detector, image)
    now = parts(detector, image, steps, rounds)
    costs = Costs(now, with_each(interpolators or tuple(INTERPOLATORS), steps, image.device, rounds))
    height, width = detector.transform([image])[0].tensors.shape[-2:]  # type: ignore[operator]
    print(f"{model} on {device}, a picture of {size}, which it sees as {height}x{width}")
    print(f"{table_of_parts(costs)}\n\n{table_of_doublings(costs)}")
    if picture:
        print(draw(costs, Path(picture)))
    return costs


@torch.no_grad()
def parts(detector: nn.Module, image: Tensor, steps: Sequence[Doubling], rounds: int) -> tuple[Row, ...]:
    """Backbone, pyramid, each doubling inside it, heads, and the whole detector on ``image`` ``[3, H, W]``."""
    body, pyramid = trunk(detector)
    batch = detector.transform([image])[0]  # type: ignore[operator]
    below = body(batch.tensors)
    features, backbone = pyramid(below), detector.backbone
    heads = [module for name, module in detector.named_children() if module is not backbone]
    calls: dict[str, tuple[Sequence[nn.Module], Callable[[], Any]]] = {
        "backbone": ([body], lambda: body(batch.tensors)),
        "pyramid": ([pyramid], lambda: pyramid(below)),
        **{
            f"  {step.name}": (_learning(steps, i), _on_noise(step.now, step, image.device))
            for i, step in enumerate(steps)
        },
        "heads": (heads, lambda: detections_on(detector, batch, features)),
        "whole": ([detector], lambda: detector([image])),
    }
    return _rows(calls, image.device, rounds)


@torch.no_grad()
def with_each(
    names: Sequence[str], steps: Sequence[Doubling], device: torch.device, rounds: int
) -> dict[str, tuple[Row, ...]]:
    """The doublings with each interpolator of ``names``, new ones, shared by the steps as their papers do."""
    calls: dict[str, tuple[Sequence[nn.Module], Callable[[], Any]]] = {}
    for name in names:
        made = [module.eval().to(device) for module in built(name, steps[0].channels, len(steps))]
        for i, step in enumerate(steps):
            counted = [made[i]] if i < len(made) else []
            calls[f"{name} {i}"] = counted, _on_noise(made[i % len(made)], step, device)
    rows, count = _rows(calls, device, rounds), len(steps)
    return {
        name: tuple(replace(row, name=s.name) for row, s in zip(rows[count * k : count * (k + 1)], steps, strict=True))
        for k, name in enumerate(names)
    }


def together(rows: Sequence[Row], name: str) -> Row:
    """One after the other: sums, and the largest memory."""
    return Row(
        name,
        sum(row.parameters for row in rows),
        sum(row.gmac for row in rows),
        sum(row.milliseconds for row in rows),
        max(row.megabytes for row in rows),
    )


def table_of_parts(costs: Costs) -> str:
    """A line for each part."""
    head = f"{'part':<20}{'parameters':>14}{'GMAC':>10}{'ms':>10}{'MB':>10}"
    return "\n".join([head, *(f"{row.name:<20}{_numbers(row)}" for row in costs.parts)])


def table_of_doublings(costs: Costs) -> str:
    """A line for each interpolator: all doublings together, the milliseconds of each, and of the whole detector with them."""
    names = [row.name for row in next(iter(costs.doublings.values()))]
    head = f"{'interpolator':<20}{'parameters':>14}{'GMAC':>10}{'ms':>10}{'MB':>10}"
    lines = [head + "".join(f"{name:>10}" for name in names) + f"{'whole ms':>10}"]
    for name, rows in costs.doublings.items():
        each = "".join(f"{row.milliseconds:>10.2f}" for row in rows)
        lines.append(f"{name:<20}{_numbers(together(rows, name))}{each}{whole_with(costs, rows):>10.0f}")
    return "\n".join(lines)


def whole_with(costs: Costs, rows: Sequence[Row]) -> float:
    """Milliseconds of the whole detector if its doublings cost what ``rows`` say."""
    now = sum(row.milliseconds for row in costs.parts if row.name.startswith("  "))
    return costs.parts[-1].milliseconds - now + sum(row.milliseconds for row in rows)


def draw(costs: Costs, path: Path) -> Path:
    """Milliseconds as bars: the parts at the left, the doublings with each interpolator at the right, a colour for each step."""
    from matplotlib.figure import Figure

    figure = Figure(
        figsize=(11, 1.2 + 0.32 * max(len(costs.parts), len(costs.doublings))), layout="constrained", facecolor="white"
    )
    left, right = figure.subplots(1, 2)
    bars = left.barh([row.name for row in costs.parts], [row.milliseconds for row in costs.parts], color="#3b6ea5")
    left.bar_label(bars, labels=[f"{row.milliseconds:.0f}" for row in costs.parts], padding=3)
    left.set(title="parts, now", xlabel="milliseconds")
    _stacked(right, costs.doublings)
    for axes in (left, right):
        axes.margins(x=0.15)
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.part")
    figure.savefig(unfinished, format=path.suffix[1:], dpi=150)
    return unfinished.replace(path)


def _stacked(axes: Any, rows: Mapping[str, Sequence[Row]]) -> None:
    names, ends = list(rows), [0.0] * len(rows)
    for i, step in enumerate(row.name for row in next(iter(rows.values()))):
        widths = [of[i].milliseconds for of in rows.values()]
        axes.barh(names, widths, left=ends, label=step, color=f"C{i}")
        ends = [end + width for end, width in zip(ends, widths, strict=True)]
    for row, end in enumerate(ends):
        axes.annotate(f"{end:.0f}", (end, row), xytext=(3, 0), textcoords="offset points", va="center")
    axes.set(title="doublings, with each interpolator", xlabel="milliseconds")
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=len(names))


def _numbers(row: Row) -> str:
    return f"{row.parameters:>14,}{row.gmac:>10.2f}{row.milliseconds:>10.2f}{row.megabytes:>10.1f}"


def _learning(steps: Sequence[Doubling], i: int) -> list[nn.Module]:
    """What learns in step ``i`` and was in none before it."""
    module = steps[i].module
    return [] if module is None or module in [step.module for step in steps[:i]] else [module]


def _on_noise(now: Callable[[Tensor], Tensor], step: Doubling, device: torch.device) -> Callable[[], Tensor]:
    x = step.noise(device)
    return lambda: now(x)


def _rows(
    calls: Mapping[str, tuple[Sequence[nn.Module], Callable[[], Any]]], device: torch.device, rounds: int
) -> tuple[Row, ...]:
    times = latencies({name: call for name, (_, call) in calls.items()}, rounds)
    return tuple(
        Row(
            name,
            sum(map(parameters, modules)),
            macs(call) / 1e9,
            1e3 * times[name].median,
            peak_memory(call, device) / 1e6,
        )
        for name, (modules, call) in calls.items()
    )
