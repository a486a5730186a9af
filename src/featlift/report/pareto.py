"""Plot of accuracy against cost with its Pareto front."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from featlift.report.curves import run_color
from featlift.report.data_uris import figure_data_uri
from featlift.report.figure import save_figure

LABEL_OFFSETS = [(x, y) for above, below in ((4, -12), (15, -23), (26, -34)) for x in (7, -7) for y in (above, below)]
"""Candidate positions of a label, in points from its dot, in order of preference."""

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

    Each name is a large dot at (cost, mean over seeds) with a small dot per seed; the points of the :func:`pareto_front` are connected.
    ``xlabel`` and ``ylabel`` are the axis titles. The cost axis is logarithmic if the largest cost is at least ten times the smallest.
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
        color = run_color(1) if name in front else run_color(0)
        panel.scatter([cost] * len(values), values, s=9, color=color, alpha=0.4, zorder=2)
        panel.scatter([cost], [mean(values)], s=45, color=color, zorder=3)
    costs = [cost for cost, _ in points.values()]
    panel.set(xscale="log" if max(costs) >= 10 * min(costs) else "linear", xlabel=xlabel, ylabel=ylabel)
    panel.grid(alpha=0.25)
    panel.margins(x=0.15, y=0.1)
    _label_points(panel, {name: (cost, mean(values)) for name, (cost, values) in points.items()})
    return figure


def _label_points(panel: Any, points: Mapping[str, tuple[float, float]]) -> None:
    """Place each name at the first of LABEL_OFFSETS that overlaps no other name or dot; at the first one if all overlap."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.transforms import Bbox

    renderer = FigureCanvasAgg(panel.figure).get_renderer()
    panel.figure.draw(renderer)  # fixes the layout
    marks = [Bbox.from_bounds(x - 7, y - 7, 14, 14) for x, y in panel.transData.transform(list(points.values()))]
    occupied = dict(zip(points, marks, strict=True))
    for name, dot in sorted(points.items(), key=lambda item: -item[1][1]):
        label = panel.annotate(name, dot, xytext=LABEL_OFFSETS[0], textcoords="offset points", fontsize=9)
        others = [box for other, box in occupied.items() if other != name]
        boxes = {offset: _place_label(label, offset, renderer) for offset in LABEL_OFFSETS}
        free = (
            offset for offset, box in boxes.items() if not box.count_overlaps(others) and _is_inside(box, panel.bbox)
        )
        occupied[f"label of {name}"] = _place_label(label, next(free, LABEL_OFFSETS[0]), renderer)


def _is_inside(box: Any, bounds: Any) -> bool:
    return bounds.x0 <= box.x0 and box.x1 <= bounds.x1


def _place_label(label: Any, offset: tuple[int, int], renderer: Any) -> Any:
    """Move the label to ``offset`` (points from its dot; right-aligned if negative in x) and return its box in pixels."""
    label.set_position(offset)
    label.set_horizontalalignment("right" if offset[0] < 0 else "left")
    return label.get_window_extent(renderer)
