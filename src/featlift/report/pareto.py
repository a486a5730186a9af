"""What is bought against what it costs, as one picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from featlift.report.curves import run_color
from featlift.report.data_uris import figure_data_uri
from featlift.report.figure import save_figure

LABEL_OFFSETS = [(x, y) for above, below in ((4, -12), (15, -23), (26, -34)) for x in (7, -7) for y in (above, below)]
"""Where a name may stand, in points from its dot, the best first."""

ParetoPoints = Mapping[str, tuple[float, Sequence[float]]]


def pareto_front(points: ParetoPoints) -> list[str]:
    """Names of those that nobody beats: no other costs at most as much and gives at least as much; cheapest first."""
    cheapest = sorted(points, key=lambda name: (points[name][0], -mean(points[name][1])))
    best, names = float("-inf"), []
    for name in cheapest:
        if mean(points[name][1]) > best:
            best = mean(points[name][1])
            names.append(name)
    return names


def plot_pareto(path: str | Path, points: ParetoPoints, xlabel: str, ylabel: str) -> Path:
    """Write a PNG or SVG (by the ending of ``path``) and return its path.

    Each name is a dot at (cost, mean over seeds), with every seed as a small one; those of the :func:`pareto_front` are joined. ``xlabel`` and
    ``ylabel`` are the titles of the axes; the axis of costs is logarithmic if the dearest costs ten times the cheapest.
    """
    return save_figure(_build_figure(points, xlabel, ylabel), Path(path))


def pareto_data_uri(points: ParetoPoints, xlabel: str, ylabel: str) -> str:
    """The picture of :func:`plot_pareto` as a data URI, for a page."""
    return figure_data_uri(_build_figure(points, xlabel, ylabel))


def _build_figure(points: ParetoPoints, xlabel: str, ylabel: str) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained", facecolor="white")
    panel = figure.subplots()
    best = pareto_front(points)
    panel.plot(
        [points[n][0] for n in best], [mean(points[n][1]) for n in best], color="0.75", zorder=1, drawstyle="steps-post"
    )
    for name, (cost, values) in points.items():
        tint = run_color(1) if name in best else run_color(0)
        panel.scatter([cost] * len(values), values, s=9, color=tint, alpha=0.4, zorder=2)
        panel.scatter([cost], [mean(values)], s=45, color=tint, zorder=3)
    spent = [cost for cost, _ in points.values()]
    panel.set(xscale="log" if max(spent) >= 10 * min(spent) else "linear", xlabel=xlabel, ylabel=ylabel)
    panel.grid(alpha=0.25)
    panel.margins(x=0.15, y=0.1)
    _label_points(panel, {name: (cost, mean(values)) for name, (cost, values) in points.items()})
    return figure


def _label_points(panel: Any, points: Mapping[str, tuple[float, float]]) -> None:
    """Write names beside dots, each at the first of a few places that no other name or dot takes; at the first if there is none."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.transforms import Bbox

    renderer = FigureCanvasAgg(panel.figure).get_renderer()
    panel.figure.draw(renderer)  # so that all has its place
    marks = [Bbox.from_bounds(x - 7, y - 7, 14, 14) for x, y in panel.transData.transform(list(points.values()))]
    taken = dict(zip(points, marks, strict=True))
    for name, dot in sorted(points.items(), key=lambda item: -item[1][1]):
        label = panel.annotate(name, dot, xytext=LABEL_OFFSETS[0], textcoords="offset points", fontsize=9)
        others = [box for other, box in taken.items() if other != name]
        placed = {place: _place_label(label, place, renderer) for place in LABEL_OFFSETS}
        free = (p for p, box in placed.items() if not box.count_overlaps(others) and _is_inside(box, panel.bbox))
        taken[f"{name}'s"] = _place_label(label, next(free, LABEL_OFFSETS[0]), renderer)


def _is_inside(box: Any, bounds: Any) -> bool:
    return bounds.x0 <= box.x0 and box.x1 <= bounds.x1


def _place_label(label: Any, offset: tuple[int, int], renderer: Any) -> Any:
    """The label's box, in pixels, after it was moved to ``offset`` (points from its dot; on the left it ends there)."""
    label.set_position(offset)
    label.set_horizontalalignment("right" if offset[0] < 0 else "left")
    return label.get_window_extent(renderer)
