"""``report.html``: all results of runs and comparisons on one self-contained page."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from featlift.checkpoints.atomic import write_atomic
from featlift.checkpoints.json_io import flatten_dict
from featlift.evaluation.comparison import Comparison
from featlift.evaluation.object_changes import OUTCOMES, ObjectChanges
from featlift.features import Features
from featlift.report.annotated_crops import AnnotatedImage, to_uint8
from featlift.report.curves import plot_stage_curves, run_color
from featlift.report.data_uris import image_data_uri
from featlift.report.examples import ComparisonExamples, ReportDataset, build_run_examples
from featlift.report.feature_maps import build_level_maps
from featlift.report.pareto import ParetoPoints, pareto_data_uri
from featlift.report.records import RunRecord
from featlift.report.tables import TableRow, class_rows, cost_rows, metric_rows
from featlift.report.templates import load_template

MAX_OBJECTS, MAX_COMPARED_IMAGES, MAX_RUN_IMAGES = 9, 3, 6
"""Number of enlarged objects per outcome, of whole images per comparison (and of its last run), and of whole images of a single run."""


def write_report(
    folder: str | Path,
    runs: Sequence[RunRecord],
    comparisons: Sequence[Comparison] = (),
    dataset: ReportDataset | None = None,
    features: Mapping[str, Features] | None = None,
    title: str | None = None,
    pareto_points: ParetoPoints | None = None,
) -> Path:
    """Write ``report.html`` into ``folder`` and return its path.

    Args:
        folder: Output folder.
        runs: Runs of the report; the first is the reference of all differences.
        comparisons: Comparisons between these runs, by name.
        dataset: Ground truth and images of the examples; None omits them.
        features: Run name → feature maps of one image; with ``"image"`` ``[1, 3, H, W]`` the image is included.
        title: Heading of the page; by default the names of the runs.
        pareto_points: Name → latency in ms per image and box AP (percent) of every seed.

    Raises:
        ValueError: If there is no run, two runs have the same name, or a comparison names an unknown run.
    """
    _check_runs(runs, comparisons)
    heading = title or _build_title([run.name for run in runs])
    context = _number_context(runs, comparisons) | _image_context(runs, comparisons, dataset) | {"title": heading}
    context["maps"] = build_level_maps(features) if features else []
    context["input_image"] = _input_image(features) if features else None
    context["pareto"] = pareto_data_uri(pareto_points, "ms per image", "box AP, %") if pareto_points else None
    page = load_template("page.html").render(context)
    return write_atomic(Path(folder) / "report.html", page)


def _build_title(names: Sequence[str]) -> str:
    """Return "a", "b against a" or "b and c against a"."""
    return f"{' and '.join(names[1:])} against {names[0]}" if len(names) > 1 else names[0]


def _check_runs(runs: Sequence[RunRecord], comparisons: Sequence[Comparison]) -> None:
    names = [run.name for run in runs]
    if not names:
        raise ValueError("A report needs at least one run.")
    if len(set(names)) < len(names):
        raise ValueError(f"Runs need different names; these are {names}.")
    for comparison in comparisons:
        if not {comparison.first_name, comparison.second_name} <= set(names):
            raise ValueError(
                f"The comparison of '{comparison.first_name}' with '{comparison.second_name}' names a run that is not among {names}."
            )


def _number_context(runs: Sequence[RunRecord], comparisons: Sequence[Comparison]) -> dict[str, Any]:
    kinds = [kind for kind in ("boxes", "masks") if any(kind in run.metrics for run in runs)]
    tables = {kind: metric_rows(runs, comparisons, kind) for kind in kinds}
    return {
        "written": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "runs": [{"name": run.name, "color": run_color(i)} for i, run in enumerate(runs)],
        "colors": {run.name: run_color(i) for i, run in enumerate(runs)},
        "tables": tables,
        "whisker_range": {kind: _whisker_range(rows) for kind, rows in tables.items()},
        "classes": {kind: class_rows(runs, kind) for kind in kinds},
        "costs": cost_rows(runs),
        "cost_note": next((run.profile for run in runs if run.profile), None),
        "curves": plot_stage_curves(runs),
        "settings": _build_settings_rows([run.settings for run in runs]),
        "metadata": _build_settings_rows([run.metadata for run in runs]),
        "summaries": [_build_summary(runs, comparison) for comparison in comparisons],
    }


def _whisker_range(rows: Sequence[TableRow]) -> float:
    """Return the largest distance of an interval's end from zero."""
    intervals = [cell.interval for row in rows for cell in row.cells if cell.interval]
    return max([abs(end) for interval in intervals for end in (interval.low, interval.high)], default=0) or 1


def _build_summary(runs: Sequence[RunRecord], comparison: Comparison) -> dict[str, Any]:
    runs_by_name = {run.name: run for run in runs}
    first, second = runs_by_name[comparison.first_name], runs_by_name[comparison.second_name]
    return {
        "comparison": comparison,
        "intervals": [
            (name, comparison.intervals["boxes"][key])
            for key, name in (("ap", "AP"), ("ap_tiny", "AP tiny"))
            if key in comparison.intervals.get("boxes", {})
        ],
        "gained": len(comparison.object_changes.with_outcome("gained")),
        "lost": len(comparison.object_changes.with_outcome("lost")),
        "objects": len(comparison.object_changes.outcomes),
        "latency_ratio": second.profile.latency.median / first.profile.latency.median
        if first.profile and second.profile
        else None,
    }


def _image_context(
    runs: Sequence[RunRecord], comparisons: Sequence[Comparison], dataset: ReportDataset | None
) -> dict[str, Any]:
    runs_by_name = {run.name: run for run in runs}
    sections = []
    for comparison in comparisons:
        section = {
            "comparison": comparison,
            "groups": _build_bar_groups(comparison.object_changes),
            "object_pairs": {},
            "image_pairs": [],
        }
        if dataset:
            pair = (runs_by_name[comparison.first_name], runs_by_name[comparison.second_name])
            examples = ComparisonExamples(dataset, comparison, pair)
            section["object_pairs"] = {
                outcome: examples.object_pairs(outcome, MAX_OBJECTS) for outcome in ("gained", "lost", "shifted")
            }
            section["image_pairs"] = examples.image_pairs(MAX_COMPARED_IMAGES)
        sections.append(section)
    run_examples = (
        build_run_examples(dataset, runs[-1], MAX_COMPARED_IMAGES if comparisons else MAX_RUN_IMAGES) if dataset else []
    )
    return {"sections": sections, "examples": run_examples}


def _build_bar_groups(changes: ObjectChanges) -> dict[str, list[dict[str, Any]]]:
    """Return the bars by size and by class: object counts of each outcome and the count of the longest bar."""
    tables = {"size": changes.count_by_size(), "class": changes.count_by_category()}
    return {
        title: [_build_bar(name, counts, _max_count(table)) for name, counts in table.items()]
        for title, table in tables.items()
    }


def _max_count(table: Mapping[str, Counter]) -> int:
    return max([counts[outcome] for counts in table.values() for outcome in ("gained", "lost")], default=0) or 1


def _build_bar(name: str, counts: Counter, max_count: int) -> dict[str, Any]:
    all_counts = {outcome: counts[outcome] for outcome in OUTCOMES}
    return {"name": name, "counts": all_counts, "max_count": max_count}


def _build_settings_rows(settings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Flatten the nested settings of several runs into rows ``name, texts, differ``."""
    flat = [{name: _format_setting(value) for name, value in flatten_dict(values).items()} for values in settings]
    names = dict.fromkeys(name for values in flat for name in values)
    rows = [(name, [values.get(name, "–") for values in flat]) for name in names]
    return [{"name": name, "texts": texts, "differ": len(set(texts)) > 1} for name, texts in rows]


def _format_setting(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def _input_image(features: Mapping[str, Features]) -> AnnotatedImage | None:
    image = next((maps["image"] for maps in features.values() if "image" in maps), None)
    if image is None:
        return None
    return AnnotatedImage(image_data_uri(to_uint8(image[0]), "JPEG"), image.shape[3], image.shape[2])
