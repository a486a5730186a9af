"""What is bought against what it costs, as one picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from featlift.report.curves import colour
from featlift.report.data_uris import figure_uri
from featlift.report.figure import written

PLACES = [(x, y) for above, below in ((4, -12), (15, -23), (26, -34)) for x in (7, -7) for y in (above, below)]
"""Where a name may stand, in points from its dot, the best first."""

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
    ``gives`` are the titles of the axes; the axis of costs is logarithmic if the dearest costs ten times the cheapest.
    """
    return written(_figure(points, costs, gives), Path(path))


def inline(points: Points, costs: str, gives: str) -> str:
    """The picture of :func:`pareto` as a data URI, for a page."""
    return figure_uri(_figure(points, costs, gives))


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
    spent = [cost for cost, _ in points.values()]
    panel.set(xscale="log" if max(spent) >= 10 * min(spent) else "linear", xlabel=costs, ylabel=gives)
    panel.grid(alpha=0.25)
    panel.margins(x=0.15, y=0.1)
    _name(panel, {name: (cost, mean(values)) for name, (cost, values) in points.items()})
    return figure


def _name(panel: Any, dots: Mapping[str, tuple[float, float]]) -> None:
    """Write names beside dots, each at the first of a few places that no other name or dot takes; at the first if there is none."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.transforms import Bbox

    renderer = FigureCanvasAgg(panel.figure).get_renderer()
    panel.figure.draw(renderer)  # so that all has its place
    marks = [Bbox.from_bounds(x - 7, y - 7, 14, 14) for x, y in panel.transData.transform(list(dots.values()))]
    taken = dict(zip(dots, marks, strict=True))
    for name, dot in sorted(dots.items(), key=lambda item: -item[1][1]):
        label = panel.annotate(name, dot, xytext=PLACES[0], textcoords="offset points", fontsize=9)
        others = [box for other, box in taken.items() if other != name]
        placed = {place: _placed(label, place, renderer) for place in PLACES}
        free = (p for p, box in placed.items() if not box.count_overlaps(others) and _inside(box, panel.bbox))
        taken[f"{name}'s"] = _placed(label, next(free, PLACES[0]), renderer)


def _inside(box: Any, whole: Any) -> bool:
    return whole.x0 <= box.x0 and box.x1 <= whole.x1


def _placed(label: Any, place: tuple[int, int], renderer: Any) -> Any:
    """The label's box, in pixels, after it was moved to ``place`` (points from its dot; on the left it ends there)."""
    label.set_position(place)
    label.set_horizontalalignment("right" if place[0] < 0 else "left")
    return label.get_window_extent(renderer)
