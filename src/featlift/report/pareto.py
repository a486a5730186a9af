"""Plot of accuracy against cost with its Pareto front."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from featlift.report.curves import run_color
from featlift.report.data_uris import figure_data_uri
from featlift.report.figure import save_figure

FRONT_COLOR, DOMINATED_COLOR = run_color(1), run_color(0)
LABEL_OFFSETS = [(x, y) for y in (-3, 5, -12, 16, -24, 28, -36, 40, -48) for x in (7, -7, 30, -30, 60, -60)]
"""Candidate positions of a label, in points from its dot, in order of preference; negative x is right-aligned."""
LEADER_DISTANCE = 10
"""Labels farther than this from their dot, in points, are connected to it by a line."""

ParetoPoints = Mapping[str, tuple[float, Sequence[float]]]
"""Name → (cost, value of every seed)."""


def pareto_front(points: ParetoPoints) -> list[str]:
    """Return the names that no other point dominates (at most the same cost, at least the same mean value), cheapest first."""
    by_cost = sorted(points, key=lambda name: (points[name][0], -mean(points[name][1])))
    best, names = float("-inf"), []
    for name in by_cost:
        if mean(points[name][1]) > best:
            best = mean(points[name][1])
            names.append(name)
    return names


def plot_pareto(path: str | Path, points: ParetoPoints, xlabel: str, ylabel: str) -> Path:
    """Write a PNG or SVG (by the suffix of ``path``) and return its path.

    Each name is a large dot at (cost, mean over seeds) with a small dot per seed; the points of the :func:`pareto_front` are connected
    and have another color. ``xlabel`` and ``ylabel`` are the axis titles. The cost axis is logarithmic if the largest cost is at least
    ten times the smallest.
    """
    return save_figure(_build_figure(points, xlabel, ylabel), Path(path))


def pareto_data_uri(points: ParetoPoints, xlabel: str, ylabel: str) -> str:
    """Return the figure of :func:`plot_pareto` as an SVG data URI."""
    return figure_data_uri(_build_figure(points, xlabel, ylabel))


def _build_figure(points: ParetoPoints, xlabel: str, ylabel: str) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained", facecolor="white")
    panel = figure.subplots()
    front = pareto_front(points)
    front_costs, front_means = [points[name][0] for name in front], [mean(points[name][1]) for name in front]
    panel.plot(front_costs, front_means, color="0.75", zorder=1, drawstyle="steps-post")
    for name, (cost, values) in points.items():
        color = FRONT_COLOR if name in front else DOMINATED_COLOR
        if len(values) > 1:
            panel.scatter([cost] * len(values), values, s=9, color=color, alpha=0.4, zorder=2)
        panel.scatter([cost], [mean(values)], s=45, color=color, zorder=3)
    costs = [cost for cost, _ in points.values()]
    panel.set(xscale="log" if max(costs) >= 10 * min(costs) else "linear", xlabel=xlabel, ylabel=ylabel)
    panel.grid(alpha=0.25)
    panel.margins(x=0.15, y=0.1)
    _add_legend(figure, any(len(values) > 1 for _, values in points.values()))
    _label_points(panel, points)
    return figure


def _add_legend(figure: Any, has_seeds: bool) -> None:
    from matplotlib.lines import Line2D

    marks = [("Pareto front", FRONT_COLOR, 7), ("dominated", DOMINATED_COLOR, 7)]
    marks += [("one seed", "0.6", 3)] if has_seeds else []
    handles = [
        Line2D([], [], marker="o", linestyle="", label=label, color=color, markersize=size)
        for label, color, size in marks
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(marks), frameon=False, fontsize=9)


def _label_points(panel: Any, points: ParetoPoints) -> None:
    """Place each name at the position of LABEL_OFFSETS that covers the fewest other names and dots and is nearest to its own dot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(panel.figure).get_renderer()
    panel.figure.draw(renderer)  # fixes the layout
    means = {name: (cost, mean(values)) for name, (cost, values) in points.items()}
    dots = dict(zip(means, panel.transData.transform(list(means.values())), strict=True))
    seeds = panel.transData.transform([(cost, value) for cost, values in points.values() for value in values])
    labels: list[Any] = []
    for name, dot in sorted(means.items(), key=lambda item: -item[1][1]):
        label = panel.annotate(name, dot, xytext=LABEL_OFFSETS[0], textcoords="offset points", fontsize=9)
        label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1, "zorder": 2.5})
        others = [position for other, position in dots.items() if other != name]
        costs = {}
        for preference, offset in enumerate(LABEL_OFFSETS):
            box = _place_label(label, offset, renderer)
            covered = box.count_overlaps(labels) + _count_near(box, [*others, dots[name]], 7) + _is_outside(box, panel)
            ambiguous = _count_near(box, others, _distance(box, dots[name]) + 3)
            costs[offset] = 1000 * covered + 40 * ambiguous + 15 * _count_near(box, seeds, 3) + preference
        labels.append(_place_label(label, min(costs, key=costs.__getitem__), renderer))
        _draw_leader(panel, labels[-1], dots[name])


def _place_label(label: Any, offset: tuple[int, int], renderer: Any) -> Any:
    """Move the label to ``offset`` (points from its dot; right-aligned if negative in x) and return its box in pixels."""
    label.set_position(offset)
    label.set_horizontalalignment("right" if offset[0] < 0 else "left")
    return label.get_window_extent(renderer)


def _is_outside(box: Any, panel: Any) -> bool:
    bounds = panel.bbox
    return not (bounds.x0 <= box.x0 and box.x1 <= bounds.x1 and bounds.y0 <= box.y0 and box.y1 <= bounds.y1)


def _count_near(box: Any, dots: Sequence[Any], distance: float) -> int:
    """Count the dots (x, y) in pixels that are inside of ``box`` or less than ``distance`` pixels from it."""
    return sum(_distance(box, dot) < distance for dot in dots)


def _distance(box: Any, dot: Any) -> float:
    """Return the distance of a dot from a box in pixels, 0 inside."""
    x, y = _nearest_in(box, dot)
    return math.hypot(dot[0] - x, dot[1] - y)


def _nearest_in(box: Any, dot: Any) -> tuple[float, float]:
    return min(max(dot[0], box.x0), box.x1), min(max(dot[1], box.y0), box.y1)


def _draw_leader(panel: Any, box: Any, dot: Any) -> None:
    """Connect a dot and its distant label by a line."""
    if _distance(box, dot) > LEADER_DISTANCE * panel.figure.dpi / 72:
        ends = panel.transData.inverted().transform([dot, _nearest_in(box, dot)])
        panel.plot(*ends.T, color="0.5", linewidth=0.7, zorder=1.5, scalex=False, scaley=False)
