"""EFPN beside what one would do instead, in one run: ``python benchmarks/efpn.py NAME …``.

All stand on one small Faster R-CNN that was trained as it is (the start), and take as many steps from there, or none. Beside EFPN with
each transfer stand the start and its training continued, both shown the picture and shown it at twice the size, the upper bound of the
paper's Table III (p2x taken from the picture at twice the size), and the start on enlarged slices of the picture (sahi). Accuracy is
measured with every seed, time and memory in turns with the first. Kept as ``benchmarks/results/efpn_<name>.json``; stopped, it goes on.
"""

import argparse
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rivals import CASES, START, TRAINED_ON, TWICE, Case, Contestant, everyone
from run import keep, made
from torch import Tensor, nn

from featlift import report
from featlift.commands.train import build_report_dataset
from featlift.data.dataset import ImageDataset
from featlift.evaluation.bootstrap import ConfidenceInterval
from featlift.evaluation.comparison import compare_detections
from featlift.evaluation.detection import EvaluationResult, compute_metrics, detect_dataset
from featlift.evaluation.profiling import count_macs, count_parameters, measure_latencies, measure_peak_memory
from featlift.evaluation.seeds import paired_seed_bootstrap
from featlift.features import Features
from featlift.papers import baseline, efpn
from featlift.report.records import RunRecord

SHOWN = {"ap": "AP", "ap_tiny": "AP tiny", "ap_small": "AP small", "ar_small": "AR small"}
STAGES = ("detector", "extension", "head")
TIMED = 4


def measured(trained: Mapping[str, Contestant], shown: ImageDataset, count: int) -> dict[str, EvaluationResult]:
    """Each on the first ``count`` pictures."""
    truth = first_pictures(shown, count)
    indices = range(len(truth["images"]))
    return {
        name: compute_metrics(detect_dataset(one.detector, shown, indices, progress=False), truth)
        for name, one in trained.items()
    }


def first_pictures(shown: ImageDataset, count: int) -> dict[str, Any]:
    """The ground truth of the first ``count`` pictures, all for 0."""
    truth = shown.coco()
    images = truth["images"][: count or None]
    ids = {image["id"] for image in images}
    return {**truth, "images": images, "annotations": [a for a in truth["annotations"] if a["image_id"] in ids]}


def in_turns(trained: Mapping[str, Contestant], shown: ImageDataset, rounds: int) -> dict[str, dict[str, Any]]:
    """Milliseconds a picture (median of ``rounds``, over the first pictures, all in turns), memory, multiply-adds, parameters."""
    pictures = [shown[index][0] for index in range(min(TIMED, len(shown)))]
    calls = {name: looking(one.detector, pictures) for name, one in trained.items()}
    times = measure_latencies(calls, rounds, warmup=1)
    return {
        name: {
            "ms": round(1e3 * times[name].median / len(pictures), 1),
            "MB": round(measure_peak_memory(looking(one.detector, pictures[:1])) / 1e6),
            "GMAC": round(count_macs(calls[name]) / 1e9 / len(pictures), 2),
            "parameters": count_parameters(one.detector),
        }
        for name, one in trained.items()
    }


def looking(detector: nn.Module, pictures: Sequence[Tensor]) -> Any:
    """A call that shows ``pictures`` to ``detector``, one after the other."""
    return lambda: [detector([picture]) for picture in pictures]


def table(
    name: str, case: Case, results: dict[int, dict[str, EvaluationResult]], trained: dict[str, Contestant], costs: Any
) -> list[dict[str, Any]]:
    """Accuracy (mean and spread over seeds), what it has over the start and over the start trained on for as many steps, and costs."""
    truth = first_pictures(baseline.build_dataset(case.settings.data, "val"), case.measured)
    dearer = costs[TWICE]["ms"] - costs[START]["ms"]
    rows = []
    for contestant, one in trained.items():
        runs = [result[contestant] for result in results.values()]
        row: dict[str, Any] = {"": contestant} | {title: spread(runs, key) for key, title in SHOWN.items()}
        for other in (START, TRAINED_ON):
            if contestant not in (START, other):
                before = [result[other].detections for result in results.values()]
                gained = paired_seed_bootstrap(truth, before, [run.detections for run in runs], "boxes", 500)
                row[f"Δ AP small to {other} [95 %]"] = interval(gained)
        if contestant != START:
            row["extra time, share of 2x's"] = round((costs[contestant]["ms"] - costs[START]["ms"]) / dearer, 2)
        rows.append(row | costs[contestant] | {"steps": one.steps, "minutes": round(one.minutes, 1)})
    stages = ", ".join(f"{stage} {getattr(case.settings, stage).steps}" for stage in STAGES)
    how = f"{len(truth['images'])} pictures, {len(results)} seeds; steps of {case.settings.data.batch_size} pictures: {stages}"
    return [{"caption": f"{name}: box AP and AR in per cent on {how}", "rows": rows}]


def interval(gained: Mapping[str, ConfidenceInterval]) -> str | None:
    """The gain in AP small in per cent, from … to; None without small objects."""
    one = gained.get("ap_small")
    return one and one.percent_text


def spread(runs: Sequence[EvaluationResult], key: str) -> str | None:
    """Mean and standard deviation in per cent; None if there is nothing of that size."""
    values = [100 * run.metrics["boxes"][key] for run in runs if run.metrics["boxes"][key] is not None]
    if not values:
        return None
    return f"{statistics.mean(values):.1f}" + (f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else "")


def shortened(case: Case, factor: float, pictures: int | None, start: float = 1.0) -> Case:
    """The case with ``factor`` times the steps in every stage, at least one, measured on so many ``pictures`` (None: as it is).

    The start, the detector that all others begin with, takes ``start`` times as many again.
    """
    factors = dict.fromkeys(STAGES, factor) | {"detector": factor * start}
    stages = {name: getattr(case.settings, name) for name in STAGES}
    fewer = {name: replace(stage, steps=max(1, round(factors[name] * stage.steps))) for name, stage in stages.items()}
    measured = case.measured if pictures is None else pictures
    return replace(case, settings=replace(case.settings, **fewer), measured=measured)


def called(name: str, start: float) -> str:
    """The case's name with how much longer its start was: what its runs and results are called by."""
    return name if start == 1 else f"{name}_start{start:g}"


def compared(name: str, case: Case, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Train all with every seed, measure accuracy, then cost with the first seed's."""
    shown = baseline.build_dataset(case.settings.data, "val")
    results, first = {}, {}
    for seed in range(given.seeds):
        trained = everyone(case, given.transfers, Path(given.runs) / name / str(seed), seed)
        results[seed] = measured(trained, shown, case.measured)
        first = first or trained
    print(page(Path(given.runs) / name, first, results[0], given.transfers, shown))
    return table(name, case, results, first, in_turns(first, shown, given.rounds))


def page(
    folder: Path,
    trained: Mapping[str, Contestant],
    found: Mapping[str, EvaluationResult],
    transfers: Sequence[str],
    shown: ImageDataset,
) -> Path:
    """``report.html`` of the first seed: EFPN beside the start, and the maps that each transfer makes beside their target (Fig. 6)."""
    ours = f"EFPN, {transfers[0]}"
    runs = [RunRecord(name, found[name].metrics, detections=found[name].detections) for name in (START, ours)]
    seen = build_report_dataset(shown)
    truth = first_pictures(shown, len(found[START].seconds_per_image))
    compared = compare_detections(truth, runs[0].detections, runs[1].detections, (START, ours), n_resamples=200)
    maps: dict[str, Features] = {}
    for transfer in transfers:
        both = efpn.extended_level_maps(trained[f"EFPN, {transfer}"].detector, shown[0][0])  # type: ignore[arg-type]
        maps |= {"target": both["target"], transfer: both["extension"]}
    return report.write_report(
        folder, runs, [compared], report.ReportDataset(truth, seen.load_image), maps, f"{ours} beside {START}"
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=CASES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--transfers", nargs="+", default=["ftt", "espcn", "nearest"], help="EFPN's transfers")
    parser.add_argument("--steps", type=float, default=1.0, help="multiplies every stage")
    parser.add_argument("--start", type=float, default=1.0, help="multiplies the steps of the common start once more")
    parser.add_argument("--pictures", type=int, help="measure on so many; 0 is all of them")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the clock")
    parser.add_argument("--runs", default="runs/efpn", help="where the runs are kept")
    given = parser.parse_args()
    for chosen in given.names:
        name = called(chosen, given.start)
        command = (
            f"python benchmarks/efpn.py {chosen} --seeds {given.seeds} --steps {given.steps:g} --start {given.start:g}"
        )
        facts = made(torch.device("cpu"), command)
        case = shortened(CASES[chosen](), given.steps, given.pictures, given.start)
        tables = compared(name, case, given)
        print(keep(f"efpn_{name}", tables, {**facts, "seed": ", ".join(map(str, range(given.seeds)))}))


if __name__ == "__main__":
    main()
