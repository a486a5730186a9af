"""What is bought against what it costs, as one picture."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from featlift.report.curves import colour

Points = Mapping[str, tuple[float, Sequence[float]]]


def front(points: Points) -> list[str]:
    """Names of those that nobody beats: no other costs at most as much and gives at least as much; cheapest first."""
    cheapest = sorted(points, key=lambda name: (points[name][0], -mean(points[name][1])))
    best, names = float("-inf"), []
    for name in cheapest:
        if mean(points[name][1]) > best:
            best = mean(points[name][1])
            names.append(name)
    return names


def pareto(path: str | Path, points: Points, costs: str, gives: str) -> Path:
    """Write a PNG or SVG (by the ending of ``path``) and return its path.

    Each name is a dot at (cost, mean over seeds), with every seed as a small one; those of the :func:`front` are joined. ``costs`` and
    ``gives`` are the titles of the axes; the axis of costs is logarithmic.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    _figure(points, costs, gives).savefig(draft, format=path.suffix[1:], dpi=150)
    return draft.replace(path)


def inline(points: Points, costs: str, gives: str) -> str:
    """The picture of :func:`pareto` as a data URI, for a page."""
    buffer = io.BytesIO()
    _figure(points, costs, gives).savefig(buffer, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _figure(points: Points, costs: str, gives: str) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained", facecolor="white")
    panel = figure.subplots()
    best = front(points)
    panel.plot(
        [points[n][0] for n in best], [mean(points[n][1]) for n in best], color="0.75", zorder=1, drawstyle="steps-post"
    )
    for name, (cost, values) in points.items():
        tint = colour(1) if name in best else colour(0)
        panel.scatter([cost] * len(values), values, s=9, color=tint, alpha=0.4, zorder=2)
        panel.scatter([cost], [mean(values)], s=45, color=tint, zorder=3)
        panel.annotate(name, (cost, mean(values)), xytext=(7, 4), textcoords="offset points", fontsize=9)
    panel.set(xscale="log", xlabel=costs, ylabel=gives)
    panel.grid(alpha=0.25)
    panel.margins(x=0.15, y=0.1)
    return figure
