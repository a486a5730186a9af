"""``featlift demo``: the whole of AFI-GAN on built-in pictures, beside a detector that had the same number of steps."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from featlift import report
from featlift.commands import compare
from featlift.commands.train import RunOptions, build_report_dataset, evaluate_and_report, open_run
from featlift.data.dataset import ImageDataset
from featlift.evaluation.comparison import Comparison
from featlift.evaluation.profiling import profile_detectors
from featlift.papers import afi_gan, baseline
from featlift.report.records import RunRecord
from featlift.training.run import write_json


def demo(out: str = "runs/demo", seed: int = 0, step_scale: float = 0.7, device: str = "auto") -> dict[str, Any]:
    """Train two detectors with equal numbers of steps, compare them, and write a page.

    A small Faster R-CNN with nearest interpolation is trained on procedural scenes: the common start. Then one copy goes on as it is, the
    other through AFI-GAN's three stages. Both end with the same number of steps, and both page and table say what was gained and lost.

    Args:
        out: folder; the same folder again goes on where it was.
        seed: of everything that is drawn.
        step_scale: of every stage, as a share of the quick preset's (1 is ``benchmarks/equal_steps.py scenes``, 0.05 a smoke test).
        device: "auto", "cpu" or "cuda".
    """
    return run_equal_steps(scale_steps(afi_gan.Settings.quick(), step_scale), Path(out), seed, device)


def run_equal_steps(settings: afi_gan.Settings, folder: Path, seed: int = 0, device: str = "auto") -> dict[str, Any]:
    """AFI-GAN's chain with the settings ``settings``, and a detector with nearest interpolation that has as many steps from the same start.

    Writes the runs ``afi-gan`` and ``nearest`` into ``folder``, and a ``report.html`` and ``result.json`` about both. Returns the latter.
    """
    plain = control_settings(settings, folder / "afi-gan" / "teacher.safetensors")
    results = {}
    with open_run(settings, RunOptions(folder / "afi-gan", seed=seed, device=device, save_every=100)) as run:
        results["afi-gan"] = evaluate_and_report(afi_gan.train(settings, run), settings.data, run, "afi-gan")
    with open_run(plain, RunOptions(folder / "nearest", seed=seed, device=device, save_every=100)) as run:
        results["nearest"] = evaluate_and_report(baseline.train(plain, run), plain.data, run, "nearest")
    return compare_and_report(folder, results, settings)


def scale_steps(settings: afi_gan.Settings, factor: float) -> afi_gan.Settings:
    """The settings with ``factor`` times the steps in every stage, at least one."""
    stages = {name: getattr(settings, name) for name in afi_gan.STAGES}
    return replace(
        settings, **{name: replace(stage, steps=max(1, round(stage.steps * factor))) for name, stage in stages.items()}
    )


def control_settings(settings: afi_gan.Settings, start_file: Path) -> baseline.Settings:
    """Plain training with nearest interpolation, from the same start and for as many steps as stages 1, 2 and 3 have."""
    steps = settings.interpolator.steps + settings.extractor.steps + settings.target.steps
    model = replace(settings.model, interpolator="nearest", interpolator_options={})
    return baseline.Settings(model, settings.data, replace(settings.target, steps=steps), str(start_file))


def compare_and_report(folder: Path, results: dict[str, dict[str, Any]], settings: afi_gan.Settings) -> dict[str, Any]:
    """Compare the two runs; write ``report.html`` and ``result.json`` with both, and print the table."""
    folders = (folder / "nearest", folder / "afi-gan")
    shown = baseline.build_dataset(settings.data, "val")
    runs = [report.read_run(one) for one in folders]
    profile_runs(runs, folders, shown[0][0])
    for run in runs:
        run.minutes = minutes_after_start(results[run.name])
    found = compare.compare_runs(runs, shown, 1000)
    maps = compare.extract_feature_maps(runs, folders, shown)
    page = report.write_report(
        folder, runs, [found], build_report_dataset(shown), maps, "AFI-GAN against nearest interpolation, equal steps"
    )
    whole = {**results, "comparison": compare.comparison_to_dict(found), "steps": stage_steps(settings)}
    write_json(folder / "result.json", whole)
    plot_largest_changes(folder, found, (runs[0], runs[1]), shown)
    print(compare.format_comparison(runs, found))
    print(page)
    return whole


def plot_largest_changes(
    folder: Path, comparison: Comparison, runs: tuple[RunRecord, RunRecord], dataset: ImageDataset
) -> Path | None:
    """``before_after.png``: the picture in which most objects were gained or lost, and up to three of these, the largest changes first.

    Nothing is written if no object was gained or lost.
    """
    seen = build_report_dataset(dataset)
    changed = sorted(
        comparison.object_changes.with_outcome("gained") + comparison.object_changes.with_outcome("lost"),
        key=lambda fate: -abs(fate.iou_change),
    )
    if not changed:
        return None
    most = Counter(fate.image_id for fate in changed).most_common(1)[0][0]
    outlines = report.ComparisonExamples(seen, comparison, runs).image_boxes(most)
    focus = [fate.box for fate in changed if fate.image_id == most][:3]
    names = (f"{comparison.first_name} interpolation", f"{comparison.second_name} interpolation")
    return report.plot_before_after(folder / "before_after.png", seen.load_image(most), outlines, names, focus)


def profile_runs(runs: list[RunRecord], folders: tuple[Path, Path], image: Any) -> None:
    """Measure both detectors' cost in one interleaved run, so that their ratio means something."""
    measured = profile_detectors(
        {run.name: baseline.load_detector(folder)[0] for run, folder in zip(runs, folders, strict=True)}, image
    )
    for run in runs:
        run.profile = measured[run.name]


def minutes_after_start(result: dict[str, Any]) -> float:
    """Minutes of training after the common start, which both have."""
    return sum(stage["minutes"] for name, stage in result["stages"].items() if name != "teacher")


def stage_steps(settings: afi_gan.Settings) -> dict[str, int]:
    """Steps of every stage; the control has those of the teacher and all the others' in one."""
    return {name: getattr(settings, name).steps for name in afi_gan.STAGES}
