"""AFI-GAN compared with nearest upsampling after equal numbers of training steps (second part of ``featlift demo``)."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from featlift import baseline, report
from featlift.checkpoints.json_io import write_json
from featlift.data.config import build_dataset
from featlift.data.dataset import ImageDataset
from featlift.detectors.checkpoint import load_detector
from featlift.evaluation.comparison import Comparison
from featlift.papers import afi_gan
from featlift.papers.afi_gan.settings import STAGES
from featlift.papers.registry import PAPERS
from featlift.profiling import profile_detectors
from featlift.report.records import RunRecord
from featlift.runs.comparison import compare_runs, comparison_to_dict, extract_feature_maps, format_comparison
from featlift.runs.evaluate import build_report_dataset
from featlift.runs.options import RunOptions, open_run


@dataclass(frozen=True)
class EqualSteps:
    """Result of `run_equal_steps`: the content of ``result.json``, the runs (nearest interpolation first) and their comparison."""

    content: dict[str, Any]
    runs: list[RunRecord]
    comparison: Comparison
    dataset: ImageDataset


def run_equal_steps(settings: afi_gan.Settings, folder: Path, seed: int = 0, device: str = "auto") -> EqualSteps:
    """Train AFI-GAN with ``settings``, and a control with nearest interpolation from the same start for as many steps.

    Writes the runs ``afi-gan`` and ``nearest`` into ``folder``, and ``report.html`` and ``result.json`` on both.
    """
    start = Path(settings.teacher_from) if settings.teacher_from else folder / "afi-gan" / "teacher.safetensors"
    control = control_settings(settings, start)
    results = {}
    for name, paper, paper_settings in (("afi-gan", "afi-gan", settings), ("nearest", "baseline", control)):
        with open_run(
            paper, paper_settings, RunOptions(folder / name, seed=seed, device=device, save_every=100)
        ) as run:
            results[name] = PAPERS[paper].run(paper_settings, run, "", name)
    return compare_and_report(folder, results, settings)


def scale_steps(settings: afi_gan.Settings, factor: float) -> afi_gan.Settings:
    """Return ``settings`` with the steps of every stage multiplied by ``factor``, at least 1."""
    stages = {name: getattr(settings, name) for name in STAGES}
    return replace(
        settings, **{name: replace(stage, steps=max(1, round(stage.steps * factor))) for name, stage in stages.items()}
    )


def control_settings(settings: afi_gan.Settings, start_file: Path) -> baseline.Settings:
    """Settings of the control: nearest interpolation, from the same start, for the total steps of stages 1, 2 and 3."""
    steps = settings.interpolator.steps + settings.extractor.steps + settings.target.steps
    model = replace(settings.model, interpolator="nearest", interpolator_options={})
    return baseline.Settings(model, settings.data, replace(settings.target, steps=steps), str(start_file))


def compare_and_report(folder: Path, results: dict[str, dict[str, Any]], settings: afi_gan.Settings) -> EqualSteps:
    """Compare the two runs; write ``report.html`` and ``result.json`` on both, and print the table."""
    folders = (folder / "nearest", folder / "afi-gan")
    dataset = build_dataset(settings.data, "val")
    runs = [report.read_run(run_folder) for run_folder in folders]
    profile_runs(runs, folders, dataset[0][0])
    for run in runs:
        run.minutes = minutes_after_start(results[run.name])
    comparison = compare_runs(runs, dataset, 1000)
    maps = extract_feature_maps(runs, folders, dataset)
    title = "AFI-GAN and nearest interpolation at equal steps"
    page = report.write_report(folder, runs, [comparison], build_report_dataset(dataset), maps, title)
    content = {**results, "comparison": comparison_to_dict(comparison), "steps": stage_steps(settings)}
    write_json(folder / "result.json", content)
    plot_largest_changes(folder, comparison, (runs[0], runs[1]), dataset)
    print(format_comparison(runs, comparison))
    print(page)
    return EqualSteps(content, runs, comparison, dataset)


def plot_largest_changes(
    folder: Path, comparison: Comparison, runs: tuple[RunRecord, RunRecord], dataset: ImageDataset
) -> Path | None:
    """Write ``before_after.png``: the image with the most gained or lost objects, and up to three of these, largest IoU change first.

    Returns None and writes nothing if no object was gained or lost.
    """
    report_dataset = build_report_dataset(dataset)
    changes = sorted(
        comparison.object_changes.with_outcome("gained") + comparison.object_changes.with_outcome("lost"),
        key=lambda change: -abs(change.iou_change),
    )
    if not changes:
        return None
    image_id = Counter(change.image_id for change in changes).most_common(1)[0][0]
    boxes = report.ComparisonExamples(report_dataset, comparison, runs).image_boxes(image_id)
    focus = [change.box for change in changes if change.image_id == image_id][:3]
    names = (f"{comparison.first_name} interpolation", f"{comparison.second_name} interpolation")
    image = report_dataset.load_image(image_id)
    return report.plot_before_after(folder / "before_after.png", image, boxes, names, focus)


def profile_runs(runs: list[RunRecord], folders: tuple[Path, Path], image: Any) -> None:
    """Profile both detectors with interleaved measurements, so that the latency ratio is reliable; sets ``profile`` of both runs."""
    profiles = profile_detectors(
        {run.name: load_detector(folder)[0] for run, folder in zip(runs, folders, strict=True)}, image
    )
    for run in runs:
        run.profile = profiles[run.name]


def minutes_after_start(result: dict[str, Any]) -> float:
    """Training minutes of all stages after the common start (the stage "teacher")."""
    return sum(stage["minutes"] for name, stage in result["stages"].items() if name != "teacher")


def stage_steps(settings: afi_gan.Settings) -> dict[str, int]:
    """Steps of every stage; the control has the teacher's steps and the sum of the others."""
    return {name: getattr(settings, name).steps for name in STAGES}
