"""Training curves: one small chart per logged scalar and stage, with the curves of all runs.

Scalars logged for real and fake maps (``accuracy_real``, ``accuracy_fake``) share a chart; the fake one is dashed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from featlift.report.data_uris import figure_data_uri
from featlift.report.records import RunRecord, ScalarSeries

AXIS_COLOR = "#808892"
"""Text and axes: a gray that is legible on white and on black."""
RUN_COLORS = ("#d98314", "#2f81f7", "#8957e5", "#2da44e", "#cf4a7e", "#57606a")
CHARTS_PER_ROW = 4
LINE_STYLES = {"_real": "-", "_fake": "--"}
"""Suffix of a scalar name → line style; scalars that differ only in the suffix share a chart."""

ChartSeries = dict[tuple[str, str], ScalarSeries]
"""(Run name, line style) → series."""


def run_color(position: int) -> str:
    """Return the color of the run at ``position``, the same everywhere in the report."""
    return RUN_COLORS[position % len(RUN_COLORS)]


def plot_stage_curves(runs: Sequence[RunRecord]) -> dict[str, str]:
    """Return stage → SVG (data URI) with one chart per scalar that any run logged in that stage; none for a single log record."""
    stages: dict[str, dict[str, ChartSeries]] = {}
    for run in runs:
        for stage, scalars in run.scalar_curves().items():
            for name, series in scalars.items():
                title, line_style = chart_of_scalar(name)
                stages.setdefault(stage, {}).setdefault(title, {})[run.name, line_style] = series
    colors = {run.name: run_color(i) for i, run in enumerate(runs)}
    return {stage: _plot_charts(charts, colors) for stage, charts in stages.items() if _has_curve(charts)}


def _has_curve(charts: Mapping[str, ChartSeries]) -> bool:
    return any(len(series) > 1 for chart in charts.values() for series in chart.values())


def chart_of_scalar(name: str) -> tuple[str, str]:
    """Return the title of the chart of the scalar ``name`` and its line style."""
    suffix = next((suffix for suffix in LINE_STYLES if name.endswith(suffix)), "")
    return (f"{name.removesuffix(suffix)}: real –, fake - -", LINE_STYLES[suffix]) if suffix else (name, "-")


def _plot_charts(charts: Mapping[str, ChartSeries], colors: Mapping[str, str]) -> str:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    rows = -(-len(charts) // CHARTS_PER_ROW)
    with rc_context(
        {"svg.fonttype": "none", "font.size": 9, "font.family": "sans-serif", "axes.edgecolor": AXIS_COLOR}
    ):
        figure = Figure(figsize=(12, 2.3 * rows))
        figure.subplots_adjust(0.055, 0.25 / (2.3 * rows), 0.99, 1 - 0.3 / (2.3 * rows), 0.32, 0.4)
        axes = figure.subplots(rows, CHARTS_PER_ROW, squeeze=False).ravel()
        for panel, (name, curves) in zip(axes, charts.items(), strict=False):
            _plot_chart(panel, name, curves, colors)
        for panel in axes[len(charts) :]:
            panel.set_axis_off()
        return figure_data_uri(figure, transparent=True)


def _plot_chart(panel: Any, name: str, curves: ChartSeries, colors: Mapping[str, str]) -> None:
    for (run, line_style), series in curves.items():
        steps, values = np.array(list(series)), np.array(list(series.values()), float)
        panel.plot(steps, values, color=colors[run], alpha=0.3, linewidth=0.8)
        panel.plot(steps, smooth(values), color=colors[run], linewidth=1.6, linestyle=line_style)
    panel.set_title(name.replace("_", " "), color=AXIS_COLOR, fontsize=10, loc="left")
    panel.tick_params(colors=AXIS_COLOR, labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(color=AXIS_COLOR, alpha=0.18, linewidth=0.6)
    if "accuracy" in name:
        panel.set_ylim(-0.03, 1.03)


def smooth(values: np.ndarray) -> np.ndarray:
    """Return the moving mean over a twentieth of the ``values`` (at least 1), truncated at both ends; non-finite values are ignored."""
    radius = len(values) // 40
    return np.array([_finite_mean(values[max(0, i - radius) : i + radius + 1]) for i in range(len(values))])


def _finite_mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")
