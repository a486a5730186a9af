"""``report.html``: everything on one page that needs nothing but itself."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib.resources import files
from pathlib import Path
from typing import Any

from featlift.evaluation.comparison import Comparison
from featlift.evaluation.object_changes import OUTCOMES, Gains
from featlift.features import Features
from featlift.report.annotated_crops import View, to_pixels
from featlift.report.curves import colour, stage_curves
from featlift.report.data_uris import pixels_uri
from featlift.report.examples import Evidence, Scenes, single
from featlift.report.feature_maps import level_maps
from featlift.report.pareto import Points, inline
from featlift.report.records import RunRecord
from featlift.report.tables import Row, class_rows, cost_rows, metric_rows, signed

CROPS, WHOLES, ALONE = 9, 3, 6
"""Enlarged objects an outcome, whole pictures a comparison (and of its last run), whole pictures of a run alone."""


def write(
    folder: str | Path,
    runs: Sequence[RunRecord],
    comparisons: Sequence[Comparison] = (),
    evidence: Evidence | None = None,
    features: Mapping[str, Features] | None = None,
    title: str | None = None,
    pareto: Points | None = None,
) -> Path:
    """Write ``report.html`` into ``folder`` and return its path.

    The first of ``runs`` is what the others are compared with; ``comparisons`` name runs. ``features`` are maps of one
    picture, run → `Features` (with ``"image"`` ``[1, 3, H, W]`` the picture is shown too). Without ``evidence`` there
    are no pictures of objects. ``pareto`` is milliseconds a picture and the box AP (per cent) of every seed, by name.

    Raises:
        ValueError: if there is no run, two runs have one name, or a comparison names a run that is not there.
    """
    _check(runs, comparisons)
    heading = title or _heading([run.name for run in runs])
    context = _numbers(runs, comparisons) | _pictures(runs, comparisons, evidence) | {"title": heading}
    context["maps"] = level_maps(features) if features else []
    context["maps_picture"] = _image(features) if features else None
    context["pareto"] = inline(pareto, "milliseconds a picture", "box AP, per cent") if pareto else None
    page = _template().render(context)
    path = Path(folder) / "report.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".html.part")
    unfinished.write_text(page, encoding="utf-8")
    return unfinished.replace(path)


def _heading(names: Sequence[str]) -> str:
    """ "a", "b against a", "b and c against a"."""
    return f"{' and '.join(names[1:])} against {names[0]}" if len(names) > 1 else names[0]


def _check(runs: Sequence[RunRecord], comparisons: Sequence[Comparison]) -> None:
    names = [run.name for run in runs]
    if not names:
        raise ValueError("A report needs at least one run.")
    if len(set(names)) < len(names):
        raise ValueError(f"Runs need different names to be told apart; these are {names}.")
    for comparison in comparisons:
        if not {comparison.first, comparison.second} <= set(names):
            raise ValueError(
                f"The comparison of '{comparison.first}' with '{comparison.second}' is not of the runs {names}."
            )


def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["signed"] = signed
    return environment.from_string((files("featlift.report") / "page.html").read_text(encoding="utf-8"))


def _numbers(runs: Sequence[RunRecord], comparisons: Sequence[Comparison]) -> dict[str, Any]:
    kinds = [kind for kind in ("boxes", "masks") if any(kind in run.metrics for run in runs)]
    tables = {kind: metric_rows(runs, comparisons, kind) for kind in kinds}
    return {
        "written": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "runs": [{"name": run.name, "colour": colour(i)} for i, run in enumerate(runs)],
        "colours": {run.name: colour(i) for i, run in enumerate(runs)},
        "tables": tables,
        "reach": {kind: _reach(rows) for kind, rows in tables.items()},
        "classes": {kind: class_rows(runs, kind) for kind in kinds},
        "costs": cost_rows(runs),
        "cost_note": next((run.cost for run in runs if run.cost), None),
        "curves": stage_curves(runs),
        "settings": _side_by_side([run.settings for run in runs]),
        "metadata": _side_by_side([run.metadata for run in runs]),
        "tiles": [_tiles(runs, comparison) for comparison in comparisons],
    }


def _reach(rows: Sequence[Row]) -> float:
    """How far the whiskers of a table go from zero."""
    intervals = [cell.interval for row in rows for cell in row.cells if cell.interval]
    return max([abs(end) for interval in intervals for end in (interval.low, interval.high)], default=0) or 1


def _tiles(runs: Sequence[RunRecord], comparison: Comparison) -> dict[str, Any]:
    named = {run.name: run for run in runs}
    first, second = named[comparison.first], named[comparison.second]
    return {
        "comparison": comparison,
        "intervals": [
            (name, comparison.intervals["boxes"][key])
            for key, name in (("ap", "AP"), ("ap_tiny", "AP tiny"))
            if key in comparison.intervals.get("boxes", {})
        ],
        "gained": len(comparison.gains.of("gained")),
        "lost": len(comparison.gains.of("lost")),
        "objects": len(comparison.gains.fates),
        "slower": second.cost.latency.median / first.cost.latency.median if first.cost and second.cost else None,
    }


def _pictures(
    runs: Sequence[RunRecord], comparisons: Sequence[Comparison], evidence: Evidence | None
) -> dict[str, Any]:
    named = {run.name: run for run in runs}
    sections = []
    for comparison in comparisons:
        section = {"comparison": comparison, "groups": _groups(comparison.gains), "crops": {}, "wholes": []}
        if evidence:
            pair = (named[comparison.first], named[comparison.second])
            scenes = Scenes(evidence, comparison, pair)
            section["crops"] = {outcome: scenes.objects(outcome, CROPS) for outcome in ("gained", "lost", "moved")}
            section["wholes"] = scenes.wholes(WHOLES)
        sections.append(section)
    shown = single(evidence, runs[-1], WHOLES if comparisons else ALONE) if evidence else []
    return {"sections": sections, "shown": shown}


def _groups(gains: Gains) -> dict[str, list[dict[str, Any]]]:
    """Bars: for sizes and for classes, how many objects had each outcome and how long the bars are (0…1)."""
    tables = {"size": gains.by_size(), "class": gains.by_category()}
    return {
        title: [_bar(name, counts, _longest(table)) for name, counts in table.items()]
        for title, table in tables.items()
    }


def _longest(table: Mapping[str, Counter]) -> int:
    return max([counts[outcome] for counts in table.values() for outcome in ("gained", "lost")], default=0) or 1


def _bar(name: str, counts: Counter, longest: int) -> dict[str, Any]:
    known = {outcome: counts[outcome] for outcome in OUTCOMES}
    return {"name": name, "counts": known, "total": sum(known.values()), "longest": longest}


def _side_by_side(values: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Nested settings of several runs as rows ``name, texts, differ``."""
    flat = [_flat(one) for one in values]
    names = dict.fromkeys(name for one in flat for name in one)
    rows = [(name, [one.get(name, "–") for one in flat]) for name in names]
    return [{"name": name, "texts": texts, "differ": len(set(texts)) > 1} for name, texts in rows]


def _flat(values: Mapping[str, Any], above: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{above}{name}.")
        else:
            flat[above + name] = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return flat


def _image(features: Mapping[str, Features]) -> View | None:
    image = next((one["image"] for one in features.values() if "image" in one), None)
    if image is None:
        return None
    return View(pixels_uri(to_pixels(image[0]), "JPEG"), image.shape[3], image.shape[2])
