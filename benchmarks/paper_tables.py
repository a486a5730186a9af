"""Print a table of a paper with FeatLift's runs below its rows and the commands that train them.

    python benchmarks/paper_tables.py PAPER NUMBER [RUN …]

The tables are transcribed in ``benchmarks/papers/<paper>.toml``. Without RUN, all finished runs below ``runs`` are used.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from paper_commands import PaperRow, TrainingRecipe, identifying_options
from paper_rows import find_recipe, read_records, row_value

from featlift.checkpoints.json_io import to_jsonable
from featlift.cli import parser
from featlift.cli.option_table import load_option_table
from featlift.commands.evaluate import evaluate
from featlift.detectors.config import DetectorConfig, build_backbone, build_on_backbone
from featlift.registry import suggest
from featlift.report.records import RunRecord

PAPERS = Path(__file__).parent / "papers"
"""Folder of the transcribed tables."""

COLUMN_METRICS = {
    f"{letters}_{kind}": (plural, key)
    for kind, plural in (("box", "boxes"), ("mask", "masks"))
    for letters, key in zip(
        ("AP", "AP50", "AP75", "APs", "APm", "APl"),
        ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
        strict=True,
    )
}
"""Table column → IoU type and key of the metric in ``result.json``."""
HIDDEN_COLUMNS = ("row", "ours", "reimplemented", "paper", "note", "flag_source", "source", "self_training_unlabeled")
"""Columns that are not printed, like the OCR notes (``ocr_…``)."""
IGNORED_SETTINGS = (
    "seed",
    "teacher_from",
    "interpolator_from",
    "extractor_from",
    "init_from",
    "self_training.labels_from",
    "data.num_workers",
    "precision",
)
"""Settings that do not affect the result and are not listed as differences."""
SCENE_SETTINGS = ("data.num_scenes", "data.num_val_scenes", "data.scene_size")
"""Settings that apply to the synthetic scenes only."""


@dataclass(frozen=True)
class PaperTable:
    """A table as printed in a paper.

    Attributes:
        paper: Name of the paper, such as "afi-gan".
        number: "1", "2", … as printed, or a word.
        source: Title, venue and year of the paper.
        caption: Subject of the table.
        split: Dataset split of the results.
        columns: Column names; ``AP_box`` … are in percent, ``params_M`` in millions, truncated and not rounded.
        rows: Rows as mappings with all columns.
    """

    paper: str
    number: str
    source: str
    caption: str
    split: str
    columns: tuple[str, ...]
    rows: tuple[PaperRow, ...]


def list_papers() -> list[str]:
    """Return the names of the papers with transcribed tables."""
    return sorted(path.stem.replace("_", "-") for path in PAPERS.glob("*.toml"))


def load_paper_table(paper: str, number: str) -> PaperTable:
    """Return table ``number`` of ``paper``.

    Raises:
        ValueError: If the paper or the table is unknown; the message lists the known ones.
    """
    if paper not in list_papers():
        raise ValueError(
            f"No tables of '{paper}'.{suggest(paper, list_papers())} Papers with tables: {', '.join(list_papers())}."
        )
    content = _read_toml(PAPERS / f"{paper.replace('-', '_')}.toml")
    tables: Mapping[str, Any] = content["table"]
    if number not in tables:
        note = f" {content['note']}" if "note" in content else ""
        raise ValueError(f"'{paper}' has no table '{number}'; choose one of {', '.join(tables)}.{note}")
    table, columns = tables[number], tuple(tables[number]["columns"])
    rows = tuple(dict(zip(columns, row, strict=True)) for row in table["rows"])
    return PaperTable(paper, number, content["source"], table["caption"], table.get("split", ""), columns, rows)


def _read_toml(path: Path) -> dict[str, Any]:
    reader = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    with path.open("rb") as file:
        return reader.load(file)


@dataclass(frozen=True)
class RunGroup:
    """Runs of a row with equal settings and different seeds, and the differences of these settings from the paper's."""

    runs: tuple[RunRecord, ...]
    differences: tuple[str, ...]

    def format_value(self, column: str, row: PaperRow | None = None) -> str:
        """Format the mean (± standard deviation over seeds) in per cent, or the parameters in millions, truncated; "" if absent.

        Columns of EFPN, FDSR and FSR-GAN depend on the ``row`` of the table, too, and are in the paper's unit.
        """
        found = (
            [row_value(row, column, run) for run in self.runs]
            if row is not None and column not in COLUMN_METRICS
            else []
        )
        if present := [value for value in found if value is not None]:
            spread = f" ±{stdev(present):.3g}" if len(present) > 1 else ""
            return f"{mean(present):.{1 if abs(mean(present)) >= 1 else 4}f}{spread}"
        if column == "params_M":
            return str(self.runs[0].profile.num_parameters // 10**6) if self.runs[0].profile else ""
        iou_type, key = COLUMN_METRICS.get(column, ("", ""))
        values = [run.metrics[iou_type][key] for run in self.runs if run.metrics.get(iou_type, {}).get(key) is not None]
        spread = f" ±{100 * stdev(values):.1f}" if len(values) > 1 else ""
        return f"{100 * mean(values):.1f}{spread}" if values else ""


def print_table(paper: str, number: str, runs: Sequence[str] = (), runs_folder: str = "runs") -> None:
    """Print a paper's table with FeatLift's runs, the differences in their settings, and the commands that train the rows.

    The column "here" has the parameters of FeatLift's detector of the row in millions, truncated as in the papers.

    Args:
        paper: Paper: afi-gan, srf-gan, fdsr, ….
        number: Number of the table.
        runs: Run folders to print; default: all finished runs below ``runs_folder``.
        runs_folder: Folder that is searched for finished runs.

    Raises:
        ValueError: If the table does not exist.
    """
    from rich.console import Console

    table = load_paper_table(paper, number)
    recipes = {i: recipe for i, row in enumerate(table.rows) if (recipe := find_recipe(table.paper, row, table.split))}
    folders = runs or find_finished_runs(Path(runs_folder))
    records = [record for folder in folders for record in read_records(Path(folder))]
    groups = {i: group_runs(recipe, identifying_options(recipes), records) for i, recipe in recipes.items()}
    footnotes = list(dict.fromkeys(g.differences for row in groups.values() for g in row if g.differences))
    output = _build_table(table, recipes, groups, footnotes)
    console = Console(highlight=False)
    console.width = max(console.width, console.measure(output, options=console.options.update(width=400)).maximum)
    console.print(output)
    for line in _footer_lines(table, recipes, footnotes, any(groups.values())):
        console.print(line, soft_wrap=True, markup=False)


def find_finished_runs(folder: Path) -> list[str]:
    """Return the folders of finished runs below ``folder``, sorted."""
    return sorted(str(path.parent) for path in folder.rglob("result.json") if (path.parent / "settings.json").exists())


def group_runs(recipe: TrainingRecipe, identifying: Sequence[str], records: Iterable[RunRecord]) -> list[RunGroup]:
    """Group the runs that agree with ``recipe`` in all ``identifying`` options by settings; fewest differences from the paper first."""
    expected = comparable_settings(to_jsonable(_recipe_settings(recipe)), data_root="COCO")
    groups: dict[tuple[str, ...], list[RunRecord]] = {}
    for record in records:
        actual = comparable_settings(record.settings, data_root=record.settings.get("data", {}).get("root", ""))
        is_same_kind = record.name == _result_name(recipe) and _is_same_evaluation(recipe, record)
        if is_same_kind and all(
            _is_equivalent(name, expected.get(name), actual.get(name)) for name in identifying if name in expected
        ):
            groups.setdefault(settings_differences(expected, actual), []).append(record)
    return [RunGroup(tuple(groups[key]), key) for key in sorted(groups, key=len)]


def _is_same_evaluation(recipe: TrainingRecipe, record: RunRecord) -> bool:
    metadata = record.metadata
    return metadata.get("variant", "") == inference_variant(recipe) and metadata.get("detector", "") == recipe.detector


def inference_variant(recipe: TrainingRecipe) -> str:
    """Return the kind of inference of the evaluation of ``recipe``, see `InferenceOptions.variant`."""
    arguments = parser.parse_function_args(evaluate, load_option_table("evaluate"), ["RUN", *recipe.inference.split()])
    return arguments["inference"].variant


def settings_differences(expected: dict[str, Any], actual: dict[str, Any]) -> tuple[str, ...]:
    """List ``name: expected → actual`` for each setting that differs, without :data:`IGNORED_SETTINGS`."""
    names = [name for name in dict.fromkeys([*expected, *actual]) if name not in IGNORED_SETTINGS]
    return tuple(
        f"{name}: {expected.get(name, '–')} → {actual.get(name, '–')}"
        for name in names
        if expected.get(name) != actual.get(name)
    )


def comparable_settings(settings: Any, data_root: str) -> dict[str, Any]:
    """Settings under dotted names of a training on ``data_root``; the settings of the synthetic scenes are kept for "scenes" only."""
    flat = flatten_settings(settings) | {"data.root": data_root}
    return {name: value for name, value in flat.items() if data_root == "scenes" or name not in SCENE_SETTINGS}


def flatten_settings(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings to dotted names; dictionaries ``…_options`` stay whole."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        nested = isinstance(value, dict) and not name.endswith("_options")
        flat |= flatten_settings(value, f"{prefix}{name}.") if nested else {prefix + name: value}
    return flat


def _recipe_settings(recipe: TrainingRecipe) -> Any:
    return parser.parse_training_args(recipe.paper, recipe.argv)["settings"]


def _result_name(recipe: TrainingRecipe) -> str:
    """The name that `featlift train` writes into ``result.json``."""
    return f"{recipe.paper}, {recipe.options['stop_after']}" if "stop_after" in recipe.options else recipe.paper


def _is_equivalent(name: str, expected: Any, actual: Any) -> bool:
    """Whether two settings are equal; "afi-rb" and "afi" are treated as equal because the paper's tables mix them, and so are any two
    folders of unlabeled images.
    """
    if name.startswith("self_training."):
        return bool(expected) == bool(actual)
    return {"afi-rb": "afi"}.get(str(expected), expected) == {"afi-rb": "afi"}.get(str(actual), actual)


def count_recipe_parameters(recipe: TrainingRecipe) -> int:
    """Count the parameters of the row's detector with COCO's 80 classes; downloads no weights."""
    return _count_parameters(
        json.dumps(to_jsonable(replace(_recipe_settings(recipe).model, backbone_weights="random")))
    )


@lru_cache(maxsize=64)
def _count_parameters(model_json: str) -> int:
    model = DetectorConfig(**json.loads(model_json))
    backbone = build_backbone(model)
    with torch.device("meta"):
        return sum(p.numel() for p in build_on_backbone(backbone, model, 80).parameters())


def _build_table(
    table: PaperTable, recipes: dict[int, TrainingRecipe], groups: dict[int, list[RunGroup]], footnotes: list[Any]
) -> Any:
    from rich import box
    from rich.table import Table

    columns = [name for name in table.columns if name not in HIDDEN_COLUMNS and not name.startswith("ocr_")]
    columns = [name for name in columns if any(row[name] != "" for row in table.rows)]
    output = Table(
        box=box.SIMPLE_HEAD, title=f"{table.paper} table {table.number}: {table.caption}", title_justify="left"
    )
    for name in [*columns, "here"]:
        numeric = name in COLUMN_METRICS or name in ("params_M", "here")
        output.add_column(name.replace("_", " "), justify="right" if numeric else "left", no_wrap=True)
    for i, row in enumerate(table.rows):
        counted = i in recipes and recipes[i].paper not in ("fdsr", "fsr-gan")
        parameters = f"{count_recipe_parameters(recipes[i]) // 10**6} M" if counted else ""
        output.add_row(*(str(row[name]) for name in columns), parameters)
        for group in groups.get(i, []):
            output.add_row(*_format_run_row(group, row, columns, footnotes), style="cyan")
    return output


def _format_run_row(group: RunGroup, row: PaperRow, columns: Sequence[str], footnotes: list[Any]) -> list[str]:
    mark = f" [{footnotes.index(group.differences) + 1}]" if group.differences else ""
    runs = "" if len(group.runs) == 1 else f" ({len(group.runs)} runs)"
    return [f"  FeatLift{runs}{mark}".replace("[", r"\["), *(group.format_value(name, row) for name in columns[1:]), ""]


def _footer_lines(
    table: PaperTable, recipes: dict[int, TrainingRecipe], footnotes: list[Any], has_runs: bool
) -> Iterator[str]:
    yield f"{table.source}{f', {table.split}' if table.split else ''}. AP in per cent."
    for i, differences in enumerate(footnotes, 1):
        yield f"[{i}] differs from the paper: {'; '.join(differences)}"
    if not recipes:
        yield "The rows of this table cannot be compared with runs."
    elif not has_runs:
        first = {recipe.command: i for i, recipe in reversed(recipes.items())}
        yield "No run matches this table; these commands train its rows (add --data FOLDER for the images):"
        folders = {command: f"runs/{table.paper}-{table.number}-{i + 1}" for command, i in reversed(first.items())}
        yield "\n".join(f"  {command} --run {folder}" for command, folder in folders.items())
        for recipe in recipes.values():
            evaluation = recipe.evaluation(folders[recipe.command])
            yield from (f"  {command}" for command in (recipe.preparation, evaluation) if command)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    command_line = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command_line.add_argument("paper", help=f"One of {', '.join(list_papers())}")
    command_line.add_argument("number", help="Number of the table")
    command_line.add_argument("runs", nargs="*", help="Run folders; default: all finished runs below --runs-folder")
    command_line.add_argument("--runs-folder", default="runs")
    args = command_line.parse_args(argv)
    try:
        print_table(args.paper, args.number, args.runs, args.runs_folder)
    except ValueError as error:
        command_line.error(str(error))


if __name__ == "__main__":
    main()
