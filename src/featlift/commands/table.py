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
from featlift.papers.baseline import Model
from featlift.report.printed import Printed, printed
from featlift.report.recipes import Recipe, identity, recipe
from featlift.report.records import RunRecord, read_run
from featlift.training.run import plain

MEASURED = {
    f"{letters}_{kind}": (plural, key)
    for kind, plural in (("box", "boxes"), ("mask", "masks"))
    for letters, key in zip(
        ("AP", "AP50", "AP75", "APs", "APm", "APl"),
        ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
        strict=True,
    )
}
"""Column of a table → kind and name of our number."""
SILENT = ("row", "ours", "reimplemented", "paper", "note", "flag_source", "source", "self_training_unlabeled")
"""Columns that are not shown; neither are those about the reading of the paper's text (``ocr_…``)."""
UNTOLD = ("seed", "teacher_from", "interpolator_from", "extractor_from", "start", "data.workers", "precision")
"""Settings whose difference says nothing about the result."""


@dataclass(frozen=True)
class Group:
    """Runs of one row with the same settings and different seeds, and what in these settings differs from the paper's."""

    runs: tuple[RunRecord, ...]
    differences: tuple[str, ...]

    def value(self, column: str) -> str:
        """Mean (± standard deviation over seeds) in per cent, or parameters in millions, cut as the papers do; "" if not measured."""
        if column == "params_M":
            return str(self.runs[0].cost.parameters // 10**6) if self.runs[0].cost else ""
        kind, key = MEASURED.get(column, ("", ""))
        found = [run.metrics[kind][key] for run in self.runs if run.metrics.get(kind, {}).get(key) is not None]
        spread = f" ±{100 * stdev(found):.1f}" if len(found) > 1 else ""
        return f"{100 * mean(found):.1f}{spread}" if found else ""


def table(paper: str, number: str, runs: tuple[str, ...] = (), under: str = "runs") -> None:
    """A paper's table with our runs beside it, what differs between them, and the commands that make the rows.

    The column "here" has the parameters of the row's detector, built now, in millions, cut as the papers print them.

    Args:
        paper: afi-gan, srf-gan, fdsr, ….
        number: of the table.
        runs: run folders to lay beside; without any, those below ``under`` are searched.
        under: where finished runs are looked for.

    Raises:
        ValueError: if there is no such table.
    """
    from rich.console import Console

    whole = printed(paper, number)
    recipes = {i: made for i, row in enumerate(whole.rows) if (made := recipe(whole, row))}
    records = [read_run(folder) for folder in (runs or finished(Path(under)))]
    groups = {i: grouped(made, identity(recipes), records) for i, made in recipes.items()}
    footnotes = list(dict.fromkeys(g.differences for of_row in groups.values() for g in of_row if g.differences))
    drawn = _drawn(whole, recipes, groups, footnotes)
    console = Console(highlight=False)
    wide = console.measure(drawn, options=console.options.update(width=400)).maximum
    console.width = max(console.width, wide)
    console.print(drawn)
    for text in _below(whole, recipes, footnotes, any(groups.values())):
        console.print(text, soft_wrap=True, markup=False)


def finished(under: Path) -> list[str]:
    """Folders of finished runs below ``under``."""
    return sorted(str(path.parent) for path in under.rglob("result.json") if (path.parent / "settings.json").exists())


def grouped(made: Recipe, telling: Sequence[str], records: Iterable[RunRecord]) -> list[Group]:
    """The runs of ``made``, which must agree with it in all ``telling`` options; those least unlike the paper come first."""
    asked = told(plain(_settings(made)), pictures="COCO")
    found: dict[tuple[str, ...], list[RunRecord]] = {}
    for record in records:
        there = told(record.settings, pictures=record.settings.get("data", {}).get("root", ""))
        if record.name == _name(made) and all(_alike(asked.get(n), there.get(n)) for n in telling if n in asked):
            found.setdefault(differences(asked, there), []).append(record)
    return [Group(tuple(found[key]), key) for key in sorted(found, key=len)]


def differences(asked: dict[str, Any], there: dict[str, Any]) -> tuple[str, ...]:
    """``name: the paper's → the run's``, for each setting that tells something."""
    names = [name for name in dict.fromkeys([*asked, *there]) if name not in UNTOLD]
    return tuple(
        f"{name}: {asked.get(name, '–')} → {there.get(name, '–')}"
        for name in names
        if asked.get(name) != there.get(name)
    )


def told(settings: Any, pictures: str) -> dict[str, Any]:
    """Settings under dotted names, of a training on ``pictures``; only the built-in ones have a number and a size in the settings."""
    found = flat(settings) | {"data.root": pictures}
    return {name: value for name, value in found.items() if pictures == "scenes" or not name.startswith("data.scene")}


def flat(settings: Any, above: str = "") -> dict[str, Any]:
    """Nested settings under dotted names; the arguments of parts stay together."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        nested = isinstance(value, dict) and not name.endswith("_options")
        found |= flat(value, f"{above}{name}.") if nested else {above + name: value}
    return found


def _settings(made: Recipe) -> Any:
    return parser.with_presets(made.paper, "featlift table", made.words)["settings"]


def _name(made: Recipe) -> str:
    """The name that `featlift train` writes into the result."""
    return f"{made.paper}, {made.options['until']}" if "until" in made.options else made.paper


def _alike(asked: Any, there: Any) -> bool:
    """The residual-block variant and AFI's own blocks are one row: the paper's tables mix them."""
    return {"afi-rb": "afi"}.get(str(asked), asked) == {"afi-rb": "afi"}.get(str(there), there)


def parameters(made: Recipe) -> int:
    """Parameters of the row's detector with COCO's 80 classes; no weights are fetched."""
    return _counted(json.dumps(plain(replace(_settings(made).model, weights="random"))))


@lru_cache(maxsize=64)
def _counted(described: str) -> int:
    model = Model(**json.loads(described))
    below = baseline.backbone(model)
    with torch.device("meta"):
        return sum(p.numel() for p in baseline.on_backbone(below, model, 80).parameters())


def _drawn(whole: Printed, recipes: dict[int, Recipe], groups: dict[int, list[Group]], footnotes: list[Any]) -> Any:
    from rich import box
    from rich.table import Table

    columns = [name for name in whole.columns if name not in SILENT and not name.startswith("ocr_")]
    columns = [name for name in columns if any(row[name] != "" for row in whole.rows)]
    drawn = Table(
        box=box.SIMPLE_HEAD, title=f"{whole.paper} table {whole.number}: {whole.caption}", title_justify="left"
    )
    for name in [*columns, "here"]:
        numeric = name in MEASURED or name in ("params_M", "here")
        drawn.add_column(name.replace("_", " "), justify="right" if numeric else "left", no_wrap=True)
    for i, row in enumerate(whole.rows):
        counted = f"{parameters(recipes[i]) // 10**6} M" if i in recipes else ""
        drawn.add_row(*(str(row[name]) for name in columns), counted)
        for group in groups.get(i, []):
            drawn.add_row(*_ours(group, columns, footnotes), style="cyan")
    return drawn


def _ours(group: Group, columns: Sequence[str], footnotes: list[Any]) -> list[str]:
    mark = f" [{footnotes.index(group.differences) + 1}]" if group.differences else ""
    runs = "" if len(group.runs) == 1 else f" ({len(group.runs)} runs)"
    return [f"  ours{runs}{mark}".replace("[", r"\["), *(group.value(name) for name in columns[1:]), ""]


def _below(whole: Printed, recipes: dict[int, Recipe], footnotes: list[Any], any_run: bool) -> Iterator[str]:
    yield f"{whole.source}{f', {whole.split}' if whole.split else ''}. AP in per cent."
    for i, told in enumerate(footnotes, 1):
        yield f"[{i}] differs from the paper: {'; '.join(told)}"
    if not recipes:
        yield "Rows of this paper are not laid beside runs."
    elif not any_run:
        first = {made.command: i for i, made in reversed(recipes.items())}
        yield "No run of ours is beside it; these commands make the rows (--data FOLDER names the pictures):"
        yield "\n".join(
            f"  {word} --run runs/{whole.paper}-{whole.number}-{i + 1}" for word, i in reversed(first.items())
        )
