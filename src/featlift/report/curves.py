"""Curves of everything a run logged, one small chart for each scalar of each stage, runs over each other.

What was logged of real and of fake maps (``accuracy_real``, ``accuracy_fake``) shares a chart: the fake is dashed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from featlift.report.data_uris import figure_uri
from featlift.report.records import RunRecord, Series

INK = "#808892"
"""Text and axes: a grey that reads on white and on black."""
RUN_COLOURS = ("#d98314", "#2f81f7", "#8957e5", "#2da44e", "#cf4a7e", "#57606a")
COLUMNS = 4
SIDES = {"_real": "-", "_fake": "--"}
"""Endings of names that share a chart, and the line of each."""

Curves = dict[tuple[str, str], Series]
"""Run and line style → what is drawn."""


def colour(position: int) -> str:
    """The colour of the run at ``position``, everywhere in the report."""
    return RUN_COLOURS[position % len(RUN_COLOURS)]


def stage_curves(runs: Sequence[RunRecord]) -> dict[str, str]:
    """Stage → an SVG (data URI) with a chart for each scalar that a run logged there."""
    stages: dict[str, dict[str, Curves]] = {}
    for run in runs:
        for stage, scalars in run.curves().items():
            for name, series in scalars.items():
                title, line = shared(name)
                stages.setdefault(stage, {}).setdefault(title, {})[run.name, line] = series
    colours = {run.name: colour(i) for i, run in enumerate(runs)}
    return {stage: _drawn(charts, colours) for stage, charts in stages.items()}


def shared(name: str) -> tuple[str, str]:
    """The chart that the scalar ``name`` is drawn in, and with which line."""
    side = next((side for side in SIDES if name.endswith(side)), "")
    return (f"{name.removesuffix(side)}: real –, fake - -", SIDES[side]) if side else (name, "-")


def _drawn(charts: Mapping[str, Curves], colours: Mapping[str, str]) -> str:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    rows = -(-len(charts) // COLUMNS)
    with rc_context({"svg.fonttype": "none", "font.size": 9, "font.family": "sans-serif", "axes.edgecolor": INK}):
        figure = Figure(figsize=(12, 2.3 * rows), layout="constrained")
        axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
        for panel, (name, curves) in zip(axes, charts.items(), strict=False):
            _chart(panel, name, curves, colours)
        for panel in axes[len(charts) :]:
            panel.set_axis_off()
        return figure_uri(figure, transparent=True)


def _chart(panel: Any, name: str, curves: Curves, colours: Mapping[str, str]) -> None:
    for (run, line), series in curves.items():
        steps, values = np.array(list(series)), np.array(list(series.values()), float)
        panel.plot(steps, values, color=colours[run], alpha=0.3, linewidth=0.8)
        panel.plot(steps, smoothed(values), color=colours[run], linewidth=1.6, linestyle=line)
    panel.set_title(name.replace("_", " "), color=INK, fontsize=10, loc="left")
    panel.tick_params(colors=INK, labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(color=INK, alpha=0.18, linewidth=0.6)
    if "accuracy" in name:
        panel.set_ylim(-0.03, 1.03)


def smoothed(values: np.ndarray) -> np.ndarray:
    """The mean over a window of a twentieth of the ``values`` (at least 1), shorter at both ends; what is not finite is
    left out.
    """
    half = len(values) // 40
    return np.array([_finite_mean(values[max(0, i - half) : i + half + 1]) for i in range(len(values))])


def _finite_mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")
