"""``featlift versus``: interpolators against each other at equal budget, pre-training counted; the controls that the papers lack.

All begin with one detector with nearest interpolation (the teacher, F) and take as many steps from there as AFI-GAN's stages 1, 2 and 3
have together. ``NAME`` goes through the stages with that interpolator in the place of G: "bilinear" is distillation alone, and
what learns nothing in stage 1 gets its steps in stage 3. ``NAME:plain`` is trained by its detection losses alone: "nearest:plain" is
the teacher, trained on for as long. ``NAME:taught`` goes the light interpolator's way: in the steps of stage 1 it learns from the teacher's
pyramid of the large picture, without a critic, and is tuned with the detector in the others (`featlift.papers.light`).
"""

import importlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from featlift import report
from featlift.commands import compare
from featlift.commands.demo import shortened
from featlift.commands.train import Running, conclude, evidence, open_run
from featlift.data.contract import Pictures
from featlift.evaluation.average_precision import KINDS, Kind
from featlift.evaluation.cost import Latency, latencies
from featlift.evaluation.seeds import paired
from featlift.papers import afi_gan, baseline, light
from featlift.report.pareto import Points, pareto
from featlift.report.records import RunRecord, read_run
from featlift.training import parallel
from featlift.training.provenance import provenance
from featlift.training.run import write_json

EVERYONE = ("nearest:plain", "nearest", "bilinear", "deconv", "dysample", "carafe", "afi")
SHOWN = ("ap", "ap_tiny", "ap_small")


@dataclass(frozen=True)
class Contestant:
    """One of those that are compared: its name, and what it is trained with from the common start."""

    name: str
    paper: str
    settings: Any

    @property
    def steps(self) -> int:
        """Steps that it takes from the common start, in all stages that it has."""
        if self.paper == "baseline":
            return self.settings.train.steps
        if self.paper == "light":
            return self.settings.interpolator.steps + self.settings.target.steps
        stages = ("interpolator", "extractor", "target") if learns(self.settings.model) else ("extractor", "target")
        return sum(getattr(self.settings, name).steps for name in stages)


def versus(
    names: tuple[str, ...] = (),
    out: str = "runs/versus",
    data: str = "",
    seeds: int = 3,
    preset: str = "quick",
    steps: float = 1.0,
    device: str = "auto",
    resamples: int = 1000,
) -> dict[str, Any]:
    """Train interpolators from one start for equally many steps, with several seeds, and compare all with the first.

    Args:
        names: interpolators, "NAME" through AFI-GAN's stages, "NAME:plain" by detection losses alone, or "NAME:taught"; the first is what
            the others are compared with. Without any: nearest:plain nearest bilinear deconv dysample carafe afi.
        out: folder; the same folder again goes on where it was.
        data: a COCO folder; empty takes the preset's.
        seeds: how many times everything is done, with seeds 0, 1, ….
        preset: of AFI-GAN's settings: quick, paper, dense, transformer, official.
        steps: multiplies every stage.
        device: "auto", "cpu" or "cuda".
        resamples: draws of pictures and seeds behind the intervals.

    Raises:
        ValueError: for an unknown name or preset, a name that comes twice, or no seed.
    """
    words, settings = names or EVERYONE, shortened(chosen(preset, data), steps)
    command = shlex.join(["featlift", "versus", *words, "--data", settings.data.root, "--seeds", str(seeds)])
    tables = tournament(words, settings, Path(out), seeds, device, resamples)
    whole = {"tables": tables, "made": made(f"{command} --preset {preset} --steps {steps:g}", seeds, device)}
    write_json(Path(out) / "versus.json", whole)
    show(tables[0]["rows"], tables[0]["caption"])
    print(Path(out) / "versus.json")
    return whole


def tournament(
    words: Sequence[str],
    settings: afi_gan.Settings,
    folder: Path,
    seeds: int,
    device: str = "auto",
    resamples: int = 1000,
) -> list[dict[str, Any]]:
    """All of ``words`` (see :func:`versus`) from the common starts of ``seeds`` seeds, with the steps of ``settings``.

    Leaves ``seed-0/`` … with a run of each, ``pareto.png``, accuracy against time, and ``report.html`` about the first seed in ``folder``.
    Returns one table, ``{"caption", "rows"}``.

    Raises:
        ValueError: as :func:`versus`.
    """
    if len(set(words)) < len(words) or seeds < 1:
        raise ValueError(
            f"Name each interpolator once and at least one seed; these are {', '.join(words)}, {seeds} seeds."
        )
    everyone = [contestant(word, settings, "") for word in words]  # what cannot be built is refused now
    for seed in range(seeds):
        compete(words, settings, folder / f"seed-{seed}", Running(seed=seed, device=device, save_every=100))
    records = {word: [read_run(place(folder / f"seed-{seed}", word)) for seed in range(seeds)] for word in words}
    shown = baseline.pictures(settings.data, "val")
    taken = times(words, folder / "seed-0", shown)
    rows = compared(everyone, records, shown, resamples)
    for row, word in zip(rows, words, strict=True):
        row |= {
            "ms": round(1000 * taken[word].median, 1),
            "x the first": round(taken[word].median / taken[words[0]].median, 2),
        }
    levels = levelled({word: [100 * run.metrics["boxes"]["ap"] for run in records[word]] for word in words})
    points = {word: (1000 * taken[word].median, levels[word]) for word in words}
    pareto(folder / "pareto.png", points, "milliseconds a picture", "box AP, per cent")
    runs = [called(word, records[word][0], taken[word]) for word in words]
    print(page(folder, runs, points, shown, resamples))
    return [{"caption": caption(everyone[0], settings), "rows": rows}]


def levelled(values: dict[str, list[float]]) -> dict[str, list[float]]:
    """Values of each seed without what all have in common in that seed; everyone's mean stays.

    One start may be better than another. That says nothing of the contestants, and would hide how much they differ from seed to seed.
    """
    common = [mean(seed) for seed in zip(*values.values(), strict=True)]
    return {word: [one - c + mean(common) for one, c in zip(own, common, strict=True)] for word, own in values.items()}


def page(folder: Path, runs: Sequence[RunRecord], points: Points, shown: Pictures, resamples: int) -> Path:
    """``report.html``: everyone's run of one seed side by side, and what the best of the others gained and lost against the first."""
    first, *others = runs
    best = max(others, key=lambda run: mean(points[run.name][1]), default=None)
    found = [compare.comparison([first, best], shown, resamples)] if best else []
    title = f"{len(runs)} interpolators at equal budget: the first seed"
    return report.write(folder, runs, found, evidence(shown), None, title, points)


def called(word: str, run: RunRecord, taken: Latency) -> RunRecord:
    """The run under the name it competes with, and with the time that was measured in turns."""
    return replace(run, name=word, cost=run.cost and replace(run.cost, latency=taken))


def times(words: Sequence[str], folder: Path, shown: Pictures) -> dict[str, Latency]:
    """Seconds that each detector of one seed takes for one picture, measured in turns."""
    detectors = {word: baseline.load(place(folder, word))[0].eval() for word in words}
    calls = {word: (lambda T=T: T([shown[0][0]])) for word, T in detectors.items()}
    with torch.no_grad():
        return latencies(calls)


def chosen(preset: str, data: str) -> afi_gan.Settings:
    """AFI-GAN's settings called ``preset``, on other ``data`` if they are named.

    Raises:
        ValueError: if there is no such preset.
    """
    presets = {"paper": afi_gan.Settings} | {
        name: getattr(afi_gan.Settings, name) for name in ("quick", "dense", "transformer", "official")
    }
    if preset not in presets:
        raise ValueError(f"Unknown preset '{preset}'; there are {', '.join(presets)}.")
    settings = presets[preset]()
    return replace(settings, data=replace(settings.data, root=data or settings.data.root))


def contestant(word: str, settings: afi_gan.Settings, teacher: str) -> Contestant:
    """What ``word`` stands for, with the steps of stages 1, 2 and 3 of ``settings``, from the detector file ``teacher``.

    Raises:
        ValueError: for an unknown interpolator, or another ending than ":plain".
    """
    name, _, way = word.partition(":")
    if way not in ("", "plain", "taught"):
        raise ValueError(
            f"'{word}' ends in ':{way}'; a name may end in ':plain' or ':taught', or goes through AFI-GAN's stages."
        )
    options = settings.model.interpolator_options if name == settings.model.interpolator else {}
    model = replace(settings.model, interpolator=name, interpolator_options=options)
    spare = settings.interpolator.steps
    if way == "plain":
        stage = replace(settings.target, steps=spare + settings.extractor.steps + settings.target.steps)
        return Contestant(word, "baseline", baseline.Settings(model, settings.data, stage, teacher))
    if way == "taught":
        return Contestant(word, "light", _taught(model, settings, teacher))
    longer = replace(settings.target, steps=settings.target.steps + (0 if learns(model) else spare))
    return Contestant(word, "afi-gan", replace(settings, model=model, target=longer, teacher_from=teacher))


def _taught(model: baseline.Model, settings: afi_gan.Settings, teacher: str) -> light.Settings:
    """The teacher doubles with nearest interpolation, so there is nothing to learn from its own doublings: from its large picture alone."""
    if not learns(model):
        raise ValueError(f"'{model.interpolator}' has nothing that could be taught; name a learned interpolator.")
    return light.Settings(
        model=model,
        data=settings.data,
        lessons=light.Lessons(same_map=0.0),
        interpolator=replace(light.Settings().interpolator, steps=settings.interpolator.steps),
        target=replace(settings.target, steps=settings.extractor.steps + settings.target.steps),
        teachers_from=(teacher,),
    )


def learns(model: baseline.Model) -> bool:
    """Whether the interpolator of ``model`` has something to learn in stage 1."""
    with torch.device("meta"):
        return any(True for module in baseline.doublings(model) for _ in module.parameters())


def place(folder: Path, word: str) -> Path:
    """The run folder of ``word`` in the folder of a seed."""
    return folder / word.replace(":", "-")


def compete(words: Sequence[str], settings: afi_gan.Settings, folder: Path, running: Running) -> None:
    """Everything of one seed: the common start, then each of ``words``; what is finished is left alone."""
    with open_run(settings, replace(running, run=folder / "start")) as run:
        afi_gan.train(settings, run, "teacher")
    for word in words:
        one = contestant(word, settings, str(folder / "start" / "teacher.safetensors"))
        with open_run(one.settings, replace(running, run=place(folder, word))) as run:
            if not (run.folder / "result.json").exists():
                module = importlib.import_module(f"featlift.papers.{one.paper.replace('-', '_')}")
                conclude(module.train(one.settings, run), settings.data, run, one.paper)


def compared(
    everyone: Sequence[Contestant], records: dict[str, list[RunRecord]], shown: Pictures, resamples: int
) -> list[dict[str, Any]]:
    """A row for each: mean and spread (standard deviation over seeds) in per cent, cost, and what it has over the first [95 %]."""
    truth, first = shown.coco(), [run.detections for run in records[everyone[0].name]]
    rows = []
    for one in everyone:
        runs = records[one.name]
        row: dict[str, Any] = {"interpolator": one.name, "steps": one.steps}
        kinds: list[Kind] = [kind for kind in KINDS if kind in runs[0].metrics]
        for kind in kinds:
            row |= _spread(runs, kind)
            if one is not everyone[0]:
                row |= _intervals(paired(truth, first, [run.detections for run in runs], kind, resamples), kind)
        costs = [run.cost for run in runs if run.cost]
        row |= {"parameters": costs[0].parameters if costs else None}
        rows.append(row | {"minutes": round(mean(run.minutes or 0 for run in runs), 1)})
    return rows


def _spread(runs: Sequence[RunRecord], kind: Kind) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in SHOWN:
        values = [100 * run.metrics[kind][key] for run in runs if run.metrics[kind].get(key) is not None]
        spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
        found[f"{_title(key)} {kind}"] = f"{mean(values):.1f}{spread}" if values else None
    return found


def _intervals(intervals: dict[str, Any], kind: Kind) -> dict[str, str]:
    return {
        f"Δ {_title(key)} {kind} [95 %]": f"{100 * one.difference:+.1f} [{100 * one.low:+.1f}, {100 * one.high:+.1f}]"
        for key, one in intervals.items()
        if key in SHOWN
    }


def _title(key: str) -> str:
    return key.replace("ap", "AP").replace("_", " ")


def caption(first: Contestant, settings: afi_gan.Settings) -> str:
    """What is compared on which pictures, and with how many steps."""
    before = settings.teacher.steps
    return (
        f"Equal budget on {Path(settings.data.root).name}: {first.steps:,} steps of {settings.data.batch} pictures after a common "
        f"start of {before:,}, pre-training counted; differences from {first.name}"
    )


def made(command: str, seeds: int, device: str) -> dict[str, Any]:
    """Where and when the numbers were made, in the form of ``benchmarks/results``."""
    return {
        "command": command,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seed": ", ".join(map(str, range(seeds))),
        **provenance(parallel.start(device)),
    }


def show(rows: Sequence[dict[str, Any]], title: str) -> None:
    """Print the rows."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    columns = list(dict.fromkeys(column for row in rows for column in row))
    drawn = Table(*columns, box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for row in rows:
        cells = [row.get(column) for column in columns]
        drawn.add_row(
            *(f"{c:,}" if isinstance(c, int) else "" if c is None else str(c).replace("[", r"\[") for c in cells)
        )
    console = Console(highlight=False)
    console.width = max(console.width, console.measure(drawn, options=console.options.update(width=400)).maximum)
    console.print(drawn)
