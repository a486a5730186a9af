"""Interpolators compared at an equal budget of training steps, over several seeds (``featlift benchmark``)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from featlift import baseline
from featlift.data.config import build_dataset
from featlift.data.dataset import ImageDataset
from featlift.detectors.checkpoint import load_detector
from featlift.detectors.config import DetectorConfig, build_pyramid_interpolators
from featlift.experiments import ranking
from featlift.papers import afi_gan, light
from featlift.papers.light.settings import DistillationWeights
from featlift.papers.registry import PAPERS
from featlift.profiling import Latency, measure_latencies
from featlift.report.pareto import plot_pareto
from featlift.report.records import read_run
from featlift.runs.options import RunOptions, open_run
from featlift.training import distributed
from featlift.training.provenance import collect_provenance


@dataclass(frozen=True)
class Candidate:
    """Candidate of the benchmark: its specification ("NAME", "NAME:plain", "NAME:distilled"), paper and settings from the common start."""

    spec: str
    paper: str
    settings: Any

    @property
    def steps(self) -> int:
        """Total steps of all stages after the common start."""
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


def run_benchmark(
    specs: Sequence[str],
    settings: afi_gan.Settings,
    folder: Path,
    num_seeds: int,
    device: str = "auto",
    n_resamples: int = 1000,
) -> list[dict[str, Any]]:
    """Train and evaluate ``specs`` (see :func:`benchmark`) from the common start of each seed, with the steps of ``settings``.

    Writes ``seed-0/`` … with a run per candidate, ``pareto.png`` (AP against latency) and ``report.html`` on the first seed into
    ``folder``. Returns a list with one table, ``{"caption", "rows"}``.

    Raises:
        ValueError: As in :func:`benchmark`.
    """
    if len(set(specs)) < len(specs) or num_seeds < 1:
        raise ValueError(
            f"Give each interpolator once and at least one seed; given: {', '.join(specs)}, {num_seeds} seeds."
        )
    candidates = [build_candidate(spec, settings, "") for spec in specs]  # raises errors before any training
    for seed in range(num_seeds):
        train_candidates(specs, settings, folder / f"seed-{seed}", RunOptions(seed=seed, device=device, save_every=100))
    records = {
        spec: [read_run(candidate_folder(folder / f"seed-{seed}", spec)) for seed in range(num_seeds)] for spec in specs
    }
    dataset = build_dataset(settings.data, "val")
    latencies = measure_detector_latencies(specs, folder / "seed-0", dataset)
    steps = {candidate.spec: candidate.steps for candidate in candidates}
    rows = ranking.build_ranking(records, steps, latencies, dataset, n_resamples)
    points = ranking.build_pareto_points(records, latencies)
    plot_pareto(folder / "pareto.png", points, "latency, ms per image", "box AP, %")
    print(ranking.write_ranking_report(folder, records, latencies, dataset, n_resamples))
    return [{"caption": benchmark_caption(candidates[0], settings), "rows": rows}]


def measure_detector_latencies(specs: Sequence[str], folder: Path, dataset: ImageDataset) -> dict[str, Latency]:
    """Measure the latency in seconds of each detector of a seed on one image, interleaved."""
    detectors = {spec: load_detector(candidate_folder(folder, spec))[0].eval() for spec in specs}
    calls = {spec: (lambda T=T: T([dataset[0][0]])) for spec, T in detectors.items()}
    with torch.no_grad():
        return measure_latencies(calls)


def load_preset(preset: str, data: str) -> afi_gan.Settings:
    """Return AFI-GAN's settings of ``preset``, with the data root ``data`` unless it is empty.

    Raises:
        ValueError: If the preset is unknown.
    """
    settings: afi_gan.Settings = PAPERS["afi-gan"].preset(preset)
    return replace(settings, data=replace(settings.data, root=data or settings.data.root))


def build_candidate(spec: str, settings: afi_gan.Settings, teacher: str) -> Candidate:
    """Build the candidate of ``spec`` with the total steps of stages 1, 2 and 3 of ``settings``, from the detector file ``teacher``.

    Raises:
        ValueError: If the interpolator is unknown, or the suffix is neither ":plain" nor ":distilled".
    """
    name, _, mode = spec.partition(":")
    if mode not in ("", "plain", "distilled"):
        raise ValueError(
            f"'{spec}' ends in ':{mode}'; the suffix is ':plain', ':distilled' or none (AFI-GAN's stages)."
        )
    options = settings.model.interpolator_options if name == settings.model.interpolator else {}
    model = replace(settings.model, interpolator=name, interpolator_options=options)
    stage_1_steps = settings.interpolator.steps
    if mode == "plain":
        stage = replace(settings.target, steps=stage_1_steps + settings.extractor.steps + settings.target.steps)
        return Candidate(spec, "baseline", baseline.Settings(model, settings.data, stage, teacher))
    if mode == "distilled":
        return Candidate(spec, "light", _distillation_settings(model, settings, teacher))
    extra_steps = 0 if has_learned_interpolator(model) else stage_1_steps
    target = replace(settings.target, steps=settings.target.steps + extra_steps)
    return Candidate(spec, "afi-gan", replace(settings, model=model, target=target, teacher_from=teacher))


def _distillation_settings(model: DetectorConfig, settings: afi_gan.Settings, teacher: str) -> light.Settings:
    """Settings of "NAME:distilled": cross-resolution distillation only, because the teacher upsamples with nearest interpolation."""
    if not has_learned_interpolator(model):
        raise ValueError(f"'{model.interpolator}' has no parameters to distill; choose a learned interpolator.")
    return light.Settings(
        model=model,
        data=settings.data,
        loss_weights=DistillationWeights(same_resolution=0.0),
        interpolator=replace(light.Settings().interpolator, steps=settings.interpolator.steps),
        target=replace(settings.target, steps=settings.extractor.steps + settings.target.steps),
        teachers_from=(teacher,),
    )


def has_learned_interpolator(model: DetectorConfig) -> bool:
    """Whether the interpolator of ``model`` has parameters, which stage 1 trains."""
    with torch.device("meta"):
        return any(True for module in build_pyramid_interpolators(model) for _ in module.parameters())


def candidate_folder(folder: Path, spec: str) -> Path:
    """Run folder of ``spec`` in ``folder``, the folder of a seed."""
    return folder / spec.replace(":", "-")


def train_candidates(specs: Sequence[str], settings: afi_gan.Settings, folder: Path, run_options: RunOptions) -> None:
    """Train the common start of a seed, then each of ``specs``; finished runs are skipped."""
    with open_run("afi-gan", settings, replace(run_options, run=folder / "start")) as run:
        afi_gan.train(settings, run, "teacher")
    for spec in specs:
        candidate = build_candidate(spec, settings, str(folder / "start" / "teacher.safetensors"))
        options = replace(run_options, run=candidate_folder(folder, spec))
        with open_run(candidate.paper, candidate.settings, options) as run:
            if not (run.folder / "result.json").exists():
                PAPERS[candidate.paper].run(candidate.settings, run, "", candidate.paper)


def benchmark_caption(first: Candidate, settings: afi_gan.Settings) -> str:
    """Caption of the table: dataset, steps, batch size and reference."""
    return (
        f"Equal budget on {Path(settings.data.root).name}: {first.steps:,} steps of {settings.data.batch_size} images after a common "
        f"start of {settings.teacher.steps:,}, pre-training included; differences from {first.spec}"
    )


def build_metadata(command: str, num_seeds: int, device: str) -> dict[str, Any]:
    """Command, date, seeds and provenance of the results, with the keys of ``benchmarks/results``."""
    return {
        "command": command,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seed": ", ".join(map(str, range(num_seeds))),
        **collect_provenance(distributed.init_distributed(device)),
    }
