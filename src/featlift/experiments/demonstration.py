"""``featlift demo``: an extended level without labels, and AFI-GAN's stages at equal steps, both from one converged detector."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from featlift import baseline, report
from featlift.checkpoints.json_io import write_json
from featlift.data.config import DataConfig, quick_data_config
from featlift.detectors.config import DetectorConfig
from featlift.evaluation.comparison import Comparison
from featlift.experiments.equal_steps import EqualSteps, run_equal_steps, scale_steps
from featlift.experiments.level_comparison import LevelExperiment, LevelResult, compare_level
from featlift.papers import afi_gan
from featlift.report.records import RunRecord
from featlift.report.summary_page import Section, object_examples, summary_rows, write_summary_page
from featlift.runs.comparison import comparison_to_dict
from featlift.runs.evaluate import build_report_dataset
from featlift.runs.level_training import LevelTrainingOptions
from featlift.training.schedules import StageConfig, quick_optimizer

NUM_EXAMPLES = 6
"""Number of enlarged objects for gains and for losses."""
AFI_GAN_STEPS = 0.5
"""Factor on the steps of AFI-GAN's quick preset."""


def demo_data_config(seed: int) -> DataConfig:
    """Synthetic scenes of 160 px with signs of 6 to 64 px, other scenes for each seed.

    Training images have 0.5 to 1.5 times this size, as is usual (YOLOX: 0.77 to 1.54).
    """
    return replace(
        quick_data_config(),
        min_size=(80, 120, 160, 240),
        crop_size=160,
        with_masks=False,
        scene_object_sizes=(6, 64),
        scene_seed=seed,
    )


def demo_detector_config(interpolator: str = "nearest") -> DetectorConfig:
    """Return a small FCOS with random weights that trains fast on a CPU."""
    return DetectorConfig(
        detector="fcos",
        backbone="test_byobnet",
        backbone_weights="random",
        norm="batch",
        frozen_stages=0,
        pyramid_channels=32,
        interpolator=interpolator,
        detector_options={},
    )


def level_experiment(seed: int, step_scale: float) -> LevelExperiment:
    """Return the settings of the first part."""
    detector = baseline.Settings(
        demo_detector_config(), demo_data_config(seed), StageConfig(_scale(1000, step_scale), quick_optimizer(3e-3))
    )
    level = LevelTrainingOptions(_scale(250, step_scale), image_size=detector.data.scene_size, batch_size=8)
    return LevelExperiment(detector, level, {"width": 64, "num_blocks": 3}, max_size=24.0)


def afi_gan_settings(seed: int, step_scale: float, detector: Path) -> afi_gan.Settings:
    """Return the settings of the second part: the quick preset's stages, from the trained ``detector``."""
    quick = scale_steps(afi_gan.Settings.quick(), AFI_GAN_STEPS * step_scale)
    model, data = demo_detector_config("afi"), demo_data_config(seed)
    return replace(quick, model=model, data=data, teacher_from=str(detector))


def _scale(steps: int, factor: float) -> int:
    return max(1, round(steps * factor))


def run_demo(folder: Path, seed: int, step_scale: float = 1.0, device: str = "auto") -> dict[str, Any]:
    """Run both parts; write their runs and reports, ``report.html`` and ``result.json`` into ``folder``; return the latter.

    Args:
        folder: Output folder; an interrupted demo is resumed.
        seed: Seed of scenes and training.
        step_scale: Factor on the steps of every stage.
        device: "auto", "cpu" or "cuda".
    """
    experiment = level_experiment(seed, step_scale)
    level = compare_level(experiment, folder, seed, device)
    level_report = write_level_report(level, folder)
    settings = afi_gan_settings(seed, step_scale, folder / "detector" / "detector.safetensors")
    stages = run_equal_steps(settings, folder / "afi-gan-stages", seed, device)
    page = write_demo_page(folder, experiment, level, stages)
    content = {
        "seed": seed,
        "steps": {"detector": experiment.detector.train.steps, "level": experiment.level.steps},
        "level": _part_to_dict(level.runs, level.comparisons),
        "afi_gan": stages.content,
    }
    write_json(folder / "result.json", content)
    print(level_report, page, sep="\n")
    return content


def write_level_report(level: LevelResult, folder: Path) -> Path:
    """Write the detailed report of the first part."""
    title = "An extended level learned without labels"
    dataset = build_report_dataset(level.dataset)
    return report.write_report(folder / "level", level.runs, level.comparisons, dataset, title=title)


def write_demo_page(folder: Path, experiment: LevelExperiment, level: LevelResult, stages: EqualSteps) -> Path:
    """Write ``report.html``: sentences and tables of both parts, with objects that were gained and lost."""
    data = experiment.detector.data
    smallest, largest = data.scene_object_sizes
    introduction = (
        f"A small FCOS is trained on built-in synthetic scenes with signs of {smallest} to {largest} px in images of {data.scene_size} px. "
        "Two methods start from it. Nothing is selected: the page shows the results of this run, gain or loss."
    )
    sections = [_level_section(experiment, level), _stages_section(stages)]
    return write_summary_page(
        folder / "report.html", "Small objects: two methods on one detector", introduction, sections
    )


def _level_section(experiment: LevelExperiment, level: LevelResult) -> Section:
    first, second = level.runs[:2]
    comparison = level.comparisons[0]
    paragraphs = [
        f"The detector was trained for {experiment.detector.train.steps:,} steps with labels. Then a level at half the stride of its "
        f"finest one was trained for {experiment.level.steps:,} steps without labels, from the detector's output on the images enlarged "
        f"by 2. All other weights are frozen. The level adds detections below {experiment.max_size:g} px.",
        describe_change(comparison, "ap_small", "AP small")
        + " "
        + describe_objects(comparison)
        + _describe_time(level.runs),
    ]
    examples = object_examples(build_report_dataset(level.dataset), comparison, (first, second), NUM_EXAMPLES)
    names = [run.name for run in level.runs]
    rows = summary_rows(level.runs, level.comparisons)
    return Section("1. An extended level, without labels", paragraphs, names, rows, examples, "level/report.html")


def _stages_section(stages: EqualSteps) -> Section:
    runs, comparison = stages.runs, stages.comparison
    steps = stages.content["steps"]
    total = sum(count for name, count in steps.items() if name != "teacher")
    paragraphs = [
        f"From the same detector, one copy is trained in AFI-GAN's three stages ({steps['interpolator']}, {steps['extractor']} and "
        f"{steps['target']} steps), the other with nearest interpolation for the same {total} steps, both with labels.",
        describe_change(comparison, "ap_small", "AP small") + " " + describe_objects(comparison) + _describe_time(runs),
    ]
    examples = object_examples(build_report_dataset(stages.dataset), comparison, (runs[0], runs[1]), NUM_EXAMPLES)
    names = [run.name for run in runs]
    return Section(
        "2. AFI-GAN's stages at equal steps",
        paragraphs,
        names,
        summary_rows(runs, [comparison]),
        examples,
        "afi-gan-stages/report.html",
    )


def describe_change(comparison: Comparison, key: str, title: str) -> str:
    """Return a sentence on the difference of the metric ``key``: higher, lower, or not different beyond chance."""
    interval = comparison.intervals["boxes"].get(key)
    if interval is None:
        return f"There is no object for {title}."
    verdict = (
        "does not differ beyond chance"
        if not interval.is_significant
        else "is higher"
        if interval.difference > 0
        else "is lower"
    )
    return f"{title} {verdict}: {interval.percent_text} percentage points."


def describe_objects(comparison: Comparison) -> str:
    """Return a sentence on the objects gained and lost and on the false positives."""
    changes = comparison.object_changes
    before, after = changes.score_thresholds
    threshold = f"at a score of {before:.2f}" if before == after else f"at scores of {before:.2f} and {after:.2f}"
    return (
        f"Of {len(changes.outcomes):,} objects, {len(changes.with_outcome('gained'))} are gained and "
        f"{len(changes.with_outcome('lost'))} lost {threshold}; "
        f"false positives {changes.false_positives[0]} → {changes.false_positives[1]}."
    )


def _describe_time(runs: list[RunRecord]) -> str:
    times = [run.profile.latency.median for run in runs if run.profile]
    if len(times) < len(runs):
        return ""
    others = ", ".join(f"{run.name} {value / times[0]:.2f}×" for run, value in zip(runs[1:], times[1:], strict=True))
    return f" Time per image relative to {runs[0].name}: {others}."


def _part_to_dict(runs: list[RunRecord], comparisons: list[Comparison]) -> dict[str, Any]:
    return {
        "metrics": {run.name: run.metrics for run in runs},
        "milliseconds": {run.name: 1e3 * run.profile.latency.median for run in runs if run.profile},
        "comparisons": {comparison.second_name: comparison_to_dict(comparison) for comparison in comparisons},
    }
