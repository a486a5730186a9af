"""``featlift table``: a table as the paper prints it, and beside each row what our runs of it found."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from featlift.cli import parser
from featlift.papers import baseline
from featlift.papers.baseline import DetectorConfig
from featlift.report.printed import PaperTable, load_paper_table
from featlift.report.recipes import TrainingRecipe, build_recipe, identifying_options
from featlift.report.records import RunRecord, read_run
from featlift.training.run import to_jsonable

COLUMN_METRICS = {
    f"{letters}_{kind}": (plural, key)
    for kind, plural in (("box", "boxes"), ("mask", "masks"))
    for letters, key in zip(
        ("AP", "AP50", "AP75", "APs", "APm", "APl"),
        ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
        strict=True,
    )
}
"""Column of a table → kind and name of our number."""
HIDDEN_COLUMNS = ("row", "ours", "reimplemented", "paper", "note", "flag_source", "source", "self_training_unlabeled")
"""Columns that are not shown; neither are those about the reading of the paper's text (``ocr_…``)."""
IGNORED_SETTINGS = (
    "seed",
    "teacher_from",
    "interpolator_from",
    "extractor_from",
    "start",
    "data.num_workers",
    "precision",
)
"""Settings whose difference says nothing about the result."""


@dataclass(frozen=True)
class RunGroup:
    """Runs of one row with the same settings and different seeds, and what in these settings differs from the paper's."""

    runs: tuple[RunRecord, ...]
    differences: tuple[str, ...]

    def format_value(self, column: str) -> str:
        """Mean (± standard deviation over seeds) in per cent, or parameters in millions, cut as the papers do; "" if not measured."""
        if column == "params_M":
            return str(self.runs[0].profile.num_parameters // 10**6) if self.runs[0].profile else ""
        kind, key = COLUMN_METRICS.get(column, ("", ""))
        found = [run.metrics[kind][key] for run in self.runs if run.metrics.get(kind, {}).get(key) is not None]
        spread = f" ±{100 * stdev(found):.1f}" if len(found) > 1 else ""
        return f"{100 * mean(found):.1f}{spread}" if found else ""


def paper_table(paper: str, number: str, runs: tuple[str, ...] = (), runs_folder: str = "runs") -> None:
    """A paper's table with our runs beside it, what differs between them, and the commands that make the rows.

    The column "here" has the parameters of the row's detector, built now, in millions, cut as the papers print them.

    Args:
        paper: afi-gan, srf-gan, fdsr, ….
        number: of the table.
        runs: run folders to lay beside; without any, those below ``runs_folder`` are searched.
        runs_folder: where finished runs are looked for.

    Raises:
        ValueError: if there is no such table.
    """
    from rich.console import Console

    whole = load_paper_table(paper, number)
    recipes = {i: made for i, row in enumerate(whole.rows) if (made := build_recipe(whole, row))}
    records = [read_run(folder) for folder in (runs or find_finished_runs(Path(runs_folder)))]
    groups = {i: group_runs(made, identifying_options(recipes), records) for i, made in recipes.items()}
    footnotes = list(dict.fromkeys(g.differences for of_row in groups.values() for g in of_row if g.differences))
    drawn = _build_table(whole, recipes, groups, footnotes)
    console = Console(highlight=False)
    wide = console.measure(drawn, options=console.options.update(width=400)).maximum
    console.width = max(console.width, wide)
    console.print(drawn)
    for text in _footer_lines(whole, recipes, footnotes, any(groups.values())):
        console.print(text, soft_wrap=True, markup=False)


def find_finished_runs(folder: Path) -> list[str]:
    """Folders of finished runs below ``folder``."""
    return sorted(str(path.parent) for path in folder.rglob("result.json") if (path.parent / "settings.json").exists())


def group_runs(recipe: TrainingRecipe, identifying: Sequence[str], records: Iterable[RunRecord]) -> list[RunGroup]:
    """The runs of ``recipe``, which must agree with it in all ``identifying`` options; those least unlike the paper come first."""
    asked = comparable_settings(to_jsonable(_recipe_settings(recipe)), data_root="COCO")
    found: dict[tuple[str, ...], list[RunRecord]] = {}
    for record in records:
        there = comparable_settings(record.settings, data_root=record.settings.get("data", {}).get("root", ""))
        if record.name == _result_name(recipe) and all(
            _is_equivalent(asked.get(n), there.get(n)) for n in identifying if n in asked
        ):
            found.setdefault(settings_differences(asked, there), []).append(record)
    return [RunGroup(tuple(found[key]), key) for key in sorted(found, key=len)]


def settings_differences(expected: dict[str, Any], actual: dict[str, Any]) -> tuple[str, ...]:
    """``name: the paper's → the run's``, for each setting that tells something."""
    names = [name for name in dict.fromkeys([*expected, *actual]) if name not in IGNORED_SETTINGS]
    return tuple(
        f"{name}: {expected.get(name, '–')} → {actual.get(name, '–')}"
        for name in names
        if expected.get(name) != actual.get(name)
    )


def comparable_settings(settings: Any, data_root: str) -> dict[str, Any]:
    """Settings under dotted names, of a training on ``data_root``; only the built-in ones have a number and a size in the settings."""
    found = flatten_settings(settings) | {"data.root": data_root}
    return {name: value for name, value in found.items() if data_root == "scenes" or not name.startswith("data.scene")}


def flatten_settings(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names; the arguments of parts stay together."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        nested = isinstance(value, dict) and not name.endswith("_options")
        found |= flatten_settings(value, f"{prefix}{name}.") if nested else {prefix + name: value}
    return found


def _recipe_settings(recipe: TrainingRecipe) -> Any:
    return parser.parse_training_args(recipe.paper, "featlift table", recipe.argv)["settings"]


def _result_name(recipe: TrainingRecipe) -> str:
    """The name that `featlift train` writes into the result."""
    return f"{recipe.paper}, {recipe.options['until']}" if "until" in recipe.options else recipe.paper


def _is_equivalent(expected: Any, actual: Any) -> bool:
    """The residual-block variant and AFI's own blocks are one row: the paper's tables mix them."""
    return {"afi-rb": "afi"}.get(str(expected), expected) == {"afi-rb": "afi"}.get(str(actual), actual)


def count_recipe_parameters(recipe: TrainingRecipe) -> int:
    """Parameters of the row's detector with COCO's 80 classes; no weights are fetched."""
    return _count_parameters(
        json.dumps(to_jsonable(replace(_recipe_settings(recipe).model, backbone_weights="random")))
    )


@lru_cache(maxsize=64)
def _count_parameters(model_json: str) -> int:
    model = DetectorConfig(**json.loads(model_json))
    below = baseline.build_backbone(model)
    with torch.device("meta"):
        return sum(p.numel() for p in baseline.build_on_backbone(below, model, 80).parameters())


def _build_table(
    table: PaperTable, recipes: dict[int, TrainingRecipe], groups: dict[int, list[RunGroup]], footnotes: list[Any]
) -> Any:
    from rich import box
    from rich.table import Table

    columns = [name for name in table.columns if name not in HIDDEN_COLUMNS and not name.startswith("ocr_")]
    columns = [name for name in columns if any(row[name] != "" for row in table.rows)]
    drawn = Table(
        box=box.SIMPLE_HEAD, title=f"{table.paper} table {table.number}: {table.caption}", title_justify="left"
    )
    for name in [*columns, "here"]:
        numeric = name in COLUMN_METRICS or name in ("params_M", "here")
        drawn.add_column(name.replace("_", " "), justify="right" if numeric else "left", no_wrap=True)
    for i, row in enumerate(table.rows):
        counted = f"{count_recipe_parameters(recipes[i]) // 10**6} M" if i in recipes else ""
        drawn.add_row(*(str(row[name]) for name in columns), counted)
        for group in groups.get(i, []):
            drawn.add_row(*_format_run_row(group, columns, footnotes), style="cyan")
    return drawn


def _format_run_row(group: RunGroup, columns: Sequence[str], footnotes: list[Any]) -> list[str]:
    mark = f" [{footnotes.index(group.differences) + 1}]" if group.differences else ""
    runs = "" if len(group.runs) == 1 else f" ({len(group.runs)} runs)"
    return [f"  ours{runs}{mark}".replace("[", r"\["), *(group.format_value(name) for name in columns[1:]), ""]


def _footer_lines(
    table: PaperTable, recipes: dict[int, TrainingRecipe], footnotes: list[Any], has_runs: bool
) -> Iterator[str]:
    yield f"{table.source}{f', {table.split}' if table.split else ''}. AP in per cent."
    for i, told in enumerate(footnotes, 1):
        yield f"[{i}] differs from the paper: {'; '.join(told)}"
    if not recipes:
        yield "Rows of this paper are not laid beside runs."
    elif not has_runs:
        first = {made.command: i for i, made in reversed(recipes.items())}
        yield "No run of ours is beside it; these commands make the rows (--data FOLDER names the pictures):"
        yield "\n".join(
            f"  {word} --run runs/{table.paper}-{table.number}-{i + 1}" for word, i in reversed(first.items())
        )
