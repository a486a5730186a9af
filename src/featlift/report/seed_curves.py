"""Curves of several methods, with bands over seeds."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from featlift.report.figure import save_figure


def plot_seed_curves(
    curves: Mapping[str, Mapping[float, Sequence[float]]], path: Path, xlabel: str, ylabel: str
) -> None:
    """Plot ``curves`` (name → x value → values, one per seed) to ``path`` (PNG or SVG, by its suffix).

    Lines connect the means; bands extend from the minimum to the maximum. ``xlabel`` and ``ylabel`` are the axis labels.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for number, (name, curve) in enumerate(curves.items()):
        xs, cycle = sorted(curve), number // 10 % 3
        means, marker, style = [sum(curve[x]) / len(curve[x]) for x in xs], "os^"[cycle], ("-", "--", ":")[cycle]
        (line,) = axes.plot(xs, means, marker=marker, linestyle=style, markersize=3.5, label=name)
        axes.fill_between(
            xs, [min(curve[x]) for x in xs], [max(curve[x]) for x in xs], alpha=0.15, color=line.get_color()
        )
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(alpha=0.3)
    figure.legend(frameon=False, fontsize="small", loc="outside right upper")
    save_figure(figure, path)
