"""EFPN compared with its alternatives: ``python benchmarks/efpn.py NAME …``.

All candidates share one small Faster R-CNN (the base detector) and are trained further for equally many steps, or not at all: EFPN with
each transfer; the base detector and its continued training, both at the original and at twice the image size; the upper bound of the
paper's Table III (p2x computed from the image at twice the size); and the base detector on enlarged slices of the image (SAHI). Accuracy is
measured for every seed, latency and memory for the first seed. Results: ``benchmarks/results/efpn_<name>.json``. Runs can be resumed.
"""

import argparse
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from efpn_baselines import BASE, CASES, DOUBLE_SIZE, LONGER, Candidate, Case, train_candidates
from run import collect_metadata, write_result
from torch import Tensor, nn

from featlift import report
from featlift.data.config import build_dataset
from featlift.data.dataset import ImageDataset
from featlift.evaluation.bootstrap import ConfidenceInterval
from featlift.evaluation.comparison import compare_detections
from featlift.evaluation.detection import EvaluationResult, compute_metrics, detect_dataset
from featlift.evaluation.seeds import paired_seed_bootstrap
from featlift.features import Features
from featlift.papers.efpn.evaluation import extended_level_maps
from featlift.profiling import count_macs, count_parameters, measure_latencies, measure_peak_memory
from featlift.report.records import RunRecord
from featlift.runs.evaluate import build_report_dataset

METRICS = {"ap": "AP", "ap_tiny": "AP tiny", "ap_small": "AP small", "ar_small": "AR small"}
STAGES = ("detector", "extension", "head")
NUM_TIMED_IMAGES = 4


def evaluate(
    candidates: Mapping[str, Candidate], dataset: ImageDataset, num_images: int
) -> dict[str, EvaluationResult]:
    """Evaluate each candidate on the first ``num_images`` images (0: all)."""
    truth = first_images(dataset, num_images)
    indices = range(len(truth["images"]))
    return {
        name: compute_metrics(detect_dataset(candidate.detector, dataset, indices, progress=False), truth)
        for name, candidate in candidates.items()
    }


def first_images(dataset: ImageDataset, count: int) -> dict[str, Any]:
    """Return the ground truth of the first ``count`` images (0: all)."""
    truth = dataset.coco()
    images = truth["images"][: count or None]
    ids = {image["id"] for image in images}
    return {**truth, "images": images, "annotations": [a for a in truth["annotations"] if a["image_id"] in ids]}


def measure_costs(candidates: Mapping[str, Candidate], dataset: ImageDataset, rounds: int) -> dict[str, dict[str, Any]]:
    """Measure ms per image (median of interleaved ``rounds`` over the first images), peak memory, multiply-adds and parameters."""
    images = [dataset[index][0] for index in range(min(NUM_TIMED_IMAGES, len(dataset)))]
    calls = {name: inference_call(candidate.detector, images) for name, candidate in candidates.items()}
    latencies = measure_latencies(calls, rounds, warmup=1)
    return {
        name: {
            "ms": round(1e3 * latencies[name].median / len(images), 1),
            "MB": round(measure_peak_memory(inference_call(candidate.detector, images[:1])) / 1e6),
            "GMAC": round(count_macs(calls[name]) / 1e9 / len(images), 2),
            "parameters": count_parameters(candidate.detector),
        }
        for name, candidate in candidates.items()
    }


def inference_call(detector: nn.Module, images: Sequence[Tensor]) -> Any:
    """Return a call that runs ``detector`` on ``images``, one at a time."""
    return lambda: [detector([image]) for image in images]


def build_table(
    name: str, case: Case, results: dict[int, dict[str, EvaluationResult]], candidates: dict[str, Candidate], costs: Any
) -> list[dict[str, Any]]:
    """Build the table of accuracy (mean ± std over seeds), differences to the base detector and to its continued training, and costs."""
    truth = first_images(build_dataset(case.settings.data, "val"), case.num_images)
    extra_ms = costs[DOUBLE_SIZE]["ms"] - costs[BASE]["ms"]
    rows = []
    for label, candidate in candidates.items():
        runs = [result[label] for result in results.values()]
        row: dict[str, Any] = {"": label} | {title: format_mean_std(runs, key) for key, title in METRICS.items()}
        for reference in (BASE, LONGER):
            if label not in (BASE, reference):
                before = [result[reference].detections for result in results.values()]
                intervals = paired_seed_bootstrap(truth, before, [run.detections for run in runs], "boxes", 500)
                row[f"Δ AP small to {reference} [95 % CI]"] = format_interval(intervals)
        if label != BASE:
            row["extra time, share of 2x's"] = round((costs[label]["ms"] - costs[BASE]["ms"]) / extra_ms, 2)
        rows.append(row | costs[label] | {"steps": candidate.steps, "minutes": round(candidate.minutes, 1)})
    stages = ", ".join(f"{stage} {getattr(case.settings, stage).steps}" for stage in STAGES)
    setup = f"{len(truth['images'])} images, {len(results)} seeds; steps of {case.settings.data.batch_size} images: {stages}"
    return [{"caption": f"{name}: box AP and AR in percent on {setup}", "rows": rows}]


def format_interval(intervals: Mapping[str, ConfidenceInterval]) -> str | None:
    """Format the difference of AP small in percent with its interval; None without small objects."""
    interval = intervals.get("ap_small")
    return interval and interval.percent_text


def format_mean_std(runs: Sequence[EvaluationResult], key: str) -> str | None:
    """Format mean ± standard deviation in percent; None without objects of that size."""
    values = [100 * run.metrics["boxes"][key] for run in runs if run.metrics["boxes"][key] is not None]
    if not values:
        return None
    return f"{statistics.mean(values):.1f}" + (f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else "")


def scale_case(case: Case, step_scale: float, num_images: int | None, base_scale: float = 1.0) -> Case:
    """Return ``case`` with the steps of every stage multiplied by ``step_scale`` (at least 1) and ``num_images`` images (None: unchanged).

    The steps of the base detector are also multiplied by ``base_scale``.
    """
    factors = dict.fromkeys(STAGES, step_scale) | {"detector": step_scale * base_scale}
    stages = {name: getattr(case.settings, name) for name in STAGES}
    scaled = {name: replace(stage, steps=max(1, round(factors[name] * stage.steps))) for name, stage in stages.items()}
    num_images = case.num_images if num_images is None else num_images
    return replace(case, settings=replace(case.settings, **scaled), num_images=num_images)


def result_name(name: str, base_scale: float) -> str:
    """Return the name of the runs and results of a case: its name and the scale of the steps of its base detector."""
    return name if base_scale == 1 else f"{name}_start{base_scale:g}"


def run_comparison(name: str, case: Case, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Train and evaluate all candidates with every seed; measure the costs for the first seed."""
    dataset = build_dataset(case.settings.data, "val")
    results, first = {}, {}
    for seed in range(args.seeds):
        candidates = train_candidates(case, args.transfers, Path(args.runs) / name / str(seed), seed)
        results[seed] = evaluate(candidates, dataset, case.num_images)
        first = first or candidates
    print(write_page(Path(args.runs) / name, first, results[0], args.transfers, dataset))
    return build_table(name, case, results, first, measure_costs(first, dataset, args.rounds))


def write_page(
    folder: Path,
    candidates: Mapping[str, Candidate],
    results: Mapping[str, EvaluationResult],
    transfers: Sequence[str],
    dataset: ImageDataset,
) -> Path:
    """Write ``report.html`` of the first seed: EFPN against the base detector, and the maps of each transfer with their target (Fig. 6)."""
    label = f"EFPN, {transfers[0]}"
    runs = [RunRecord(name, results[name].metrics, detections=results[name].detections) for name in (BASE, label)]
    truth = first_images(dataset, len(results[BASE].seconds_per_image))
    comparison = compare_detections(truth, runs[0].detections, runs[1].detections, (BASE, label), n_resamples=200)
    maps: dict[str, Features] = {}
    for transfer in transfers:
        detector = candidates[f"EFPN, {transfer}"].detector
        transfer_maps = extended_level_maps(detector, dataset[0][0])  # type: ignore[arg-type]
        maps |= {"target": transfer_maps["target"], transfer: transfer_maps["extension"]}
    report_dataset = report.ReportDataset(truth, build_report_dataset(dataset).load_image)
    return report.write_report(folder, runs, [comparison], report_dataset, maps, f"{label} against {BASE}")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=CASES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--transfers", nargs="+", default=["ftt", "espcn", "nearest"], help="Transfers of EFPN")
    parser.add_argument("--steps", type=float, default=1.0, help="Factor of the steps of every stage")
    parser.add_argument("--start", type=float, default=1.0, help="Additional factor of the steps of the base detector")
    parser.add_argument("--num-images", type=int, help="Number of validation images; 0 is all of them")
    parser.add_argument("--rounds", type=int, default=5, help="Timing rounds")
    parser.add_argument("--runs", default="runs/efpn", help="Folder of the runs")
    args = parser.parse_args()
    for case_name in args.names:
        name = result_name(case_name, args.start)
        options = f"--seeds {args.seeds} --steps {args.steps:g} --start {args.start:g}"
        metadata = collect_metadata(torch.device("cpu"), f"python benchmarks/efpn.py {case_name} {options}")
        case = scale_case(CASES[case_name](), args.steps, args.num_images, args.start)
        tables = run_comparison(name, case, args)
        print(write_result(f"efpn_{name}", tables, {**metadata, "seed": ", ".join(map(str, range(args.seeds)))}))


if __name__ == "__main__":
    main()
