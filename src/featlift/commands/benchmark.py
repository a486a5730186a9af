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
from typing import Any

import torch

from featlift.commands.demo import scale_steps
from featlift.commands.train import RunOptions, evaluate_and_report, open_run
from featlift.data.dataset import ImageDataset
from featlift.evaluation.profiling import Latency, measure_latencies
from featlift.experiments import ranking
from featlift.papers import afi_gan, baseline, light
from featlift.report.pareto import plot_pareto
from featlift.report.records import read_run
from featlift.training import distributed
from featlift.training.provenance import collect_provenance
from featlift.training.run import write_json

DEFAULT_CANDIDATES = ("nearest:plain", "nearest", "bilinear", "deconv", "dysample", "carafe", "afi")


@dataclass(frozen=True)
class Candidate:
    """One of those that are compared: its name, and what it is trained with from the common start."""

    spec: str
    paper: str
    settings: Any

    @property
    def steps(self) -> int:
        """Steps that it takes from the common start, in all stages that it has."""
        if self.paper == "baseline":
            return self.settings.train.steps
        if self.paper == "light":
            return self.settings.interpolator.steps + self.settings.target.steps
        stages = (
            ("interpolator", "extractor", "target")
            if has_learned_interpolator(self.settings.model)
            else ("extractor", "target")
        )
        return sum(getattr(self.settings, name).steps for name in stages)


def benchmark(
    candidates: tuple[str, ...] = (),
    out: str = "runs/versus",
    data: str = "",
    num_seeds: int = 3,
    preset: str = "quick",
    step_scale: float = 1.0,
    device: str = "auto",
    n_resamples: int = 1000,
) -> dict[str, Any]:
    """Train interpolators from one start for equally many steps, with several seeds, and compare all with the first.

    Args:
        candidates: interpolators, "NAME" through AFI-GAN's stages, "NAME:plain" by detection losses alone, or "NAME:taught"; the first is what
            the others are compared with. Without any: nearest:plain nearest bilinear deconv dysample carafe afi.
        out: folder; the same folder again goes on where it was.
        data: a COCO folder; empty takes the preset's.
        num_seeds: how many times everything is done, with seeds 0, 1, ….
        preset: of AFI-GAN's settings: quick, paper, dense, transformer, official.
        step_scale: multiplies every stage.
        device: "auto", "cpu" or "cuda".
        n_resamples: draws of pictures and seeds behind the intervals.

    Raises:
        ValueError: for an unknown name or preset, a name that comes twice, or no seed.
    """
    words, settings = candidates or DEFAULT_CANDIDATES, scale_steps(load_preset(preset, data), step_scale)
    command = shlex.join(["featlift", "versus", *words, "--data", settings.data.root, "--seeds", str(num_seeds)])
    tables = run_benchmark(words, settings, Path(out), num_seeds, device, n_resamples)
    whole = {
        "tables": tables,
        "made": build_metadata(f"{command} --preset {preset} --steps {step_scale:g}", num_seeds, device),
    }
    write_json(Path(out) / "versus.json", whole)
    ranking.print_ranking(tables[0]["rows"], tables[0]["caption"])
    print(Path(out) / "versus.json")
    return whole


def run_benchmark(
    specs: Sequence[str],
    settings: afi_gan.Settings,
    folder: Path,
    num_seeds: int,
    device: str = "auto",
    n_resamples: int = 1000,
) -> list[dict[str, Any]]:
    """All of ``specs`` (see :func:`benchmark`) from the common starts of ``num_seeds`` seeds, with the steps of ``settings``.

    Leaves ``seed-0/`` … with a run of each, ``pareto.png``, accuracy against time, and ``report.html`` about the first seed in ``folder``.
    Returns one table, ``{"caption", "rows"}``.

    Raises:
        ValueError: as :func:`benchmark`.
    """
    if len(set(specs)) < len(specs) or num_seeds < 1:
        raise ValueError(
            f"Name each interpolator once and at least one seed; these are {', '.join(specs)}, {num_seeds} seeds."
        )
    everyone = [build_candidate(word, settings, "") for word in specs]  # what cannot be built is refused now
    for seed in range(num_seeds):
        train_candidates(specs, settings, folder / f"seed-{seed}", RunOptions(seed=seed, device=device, save_every=100))
    records = {
        word: [read_run(candidate_folder(folder / f"seed-{seed}", word)) for seed in range(num_seeds)] for word in specs
    }
    shown = baseline.build_dataset(settings.data, "val")
    taken = measure_detector_latencies(specs, folder / "seed-0", shown)
    rows = ranking.build_ranking(records, {one.spec: one.steps for one in everyone}, taken, shown, n_resamples)
    plot_pareto(
        folder / "pareto.png", ranking.build_pareto_points(records, taken), "milliseconds a picture", "box AP, per cent"
    )
    print(ranking.write_ranking_report(folder, records, taken, shown, n_resamples))
    return [{"caption": benchmark_caption(everyone[0], settings), "rows": rows}]


def measure_detector_latencies(specs: Sequence[str], folder: Path, dataset: ImageDataset) -> dict[str, Latency]:
    """Seconds that each detector of one seed takes for one picture, measured in turns."""
    detectors = {word: baseline.load_detector(candidate_folder(folder, word))[0].eval() for word in specs}
    calls = {word: (lambda T=T: T([dataset[0][0]])) for word, T in detectors.items()}
    with torch.no_grad():
        return measure_latencies(calls)


def load_preset(preset: str, data: str) -> afi_gan.Settings:
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


def build_candidate(spec: str, settings: afi_gan.Settings, teacher: str) -> Candidate:
    """What ``spec`` stands for, with the steps of stages 1, 2 and 3 of ``settings``, from the detector file ``teacher``.

    Raises:
        ValueError: for an unknown interpolator, or another ending than ":plain".
    """
    name, _, way = spec.partition(":")
    if way not in ("", "plain", "taught"):
        raise ValueError(
            f"'{spec}' ends in ':{way}'; a name may end in ':plain' or ':taught', or goes through AFI-GAN's stages."
        )
    options = settings.model.interpolator_options if name == settings.model.interpolator else {}
    model = replace(settings.model, interpolator=name, interpolator_options=options)
    spare = settings.interpolator.steps
    if way == "plain":
        stage = replace(settings.target, steps=spare + settings.extractor.steps + settings.target.steps)
        return Candidate(spec, "baseline", baseline.Settings(model, settings.data, stage, teacher))
    if way == "taught":
        return Candidate(spec, "light", _distillation_settings(model, settings, teacher))
    longer = replace(settings.target, steps=settings.target.steps + (0 if has_learned_interpolator(model) else spare))
    return Candidate(spec, "afi-gan", replace(settings, model=model, target=longer, teacher_from=teacher))


def _distillation_settings(model: baseline.DetectorConfig, settings: afi_gan.Settings, teacher: str) -> light.Settings:
    """The teacher doubles with nearest interpolation, so there is nothing to learn from its own doublings: from its large picture alone."""
    if not has_learned_interpolator(model):
        raise ValueError(f"'{model.interpolator}' has nothing that could be taught; name a learned interpolator.")
    return light.Settings(
        model=model,
        data=settings.data,
        loss_weights=light.DistillationWeights(same_resolution=0.0),
        interpolator=replace(light.Settings().interpolator, steps=settings.interpolator.steps),
        target=replace(settings.target, steps=settings.extractor.steps + settings.target.steps),
        teachers_from=(teacher,),
    )


def has_learned_interpolator(model: baseline.DetectorConfig) -> bool:
    """Whether the interpolator of ``model`` has something to learn in stage 1."""
    with torch.device("meta"):
        return any(True for module in baseline.build_pyramid_interpolators(model) for _ in module.parameters())


def candidate_folder(folder: Path, spec: str) -> Path:
    """The run folder of ``spec`` in the folder of a seed."""
    return folder / spec.replace(":", "-")


def train_candidates(specs: Sequence[str], settings: afi_gan.Settings, folder: Path, run_options: RunOptions) -> None:
    """Everything of one seed: the common start, then each of ``specs``; what is finished is left alone."""
    with open_run(settings, replace(run_options, run=folder / "start")) as run:
        afi_gan.train(settings, run, "teacher")
    for word in specs:
        one = build_candidate(word, settings, str(folder / "start" / "teacher.safetensors"))
        with open_run(one.settings, replace(run_options, run=candidate_folder(folder, word))) as run:
            if not (run.folder / "result.json").exists():
                module = importlib.import_module(f"featlift.papers.{one.paper.replace('-', '_')}")
                evaluate_and_report(module.train(one.settings, run), settings.data, run, one.paper)


def benchmark_caption(first: Candidate, settings: afi_gan.Settings) -> str:
    """What is compared on which pictures, and with how many steps."""
    before = settings.teacher.steps
    return (
        f"Equal budget on {Path(settings.data.root).name}: {first.steps:,} steps of {settings.data.batch_size} pictures after a common "
        f"start of {before:,}, pre-training counted; differences from {first.spec}"
    )


def build_metadata(command: str, num_seeds: int, device: str) -> dict[str, Any]:
    """Where and when the numbers were made, in the form of ``benchmarks/results``."""
    return {
        "command": command,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seed": ", ".join(map(str, range(num_seeds))),
        **collect_provenance(distributed.init_distributed(device)),
    }
