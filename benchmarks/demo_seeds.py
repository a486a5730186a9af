"""The demo on several seeds, and the length of its detector's training: ``python benchmarks/demo_seeds.py seeds`` (or ``length``).

``seeds`` runs ``featlift demo`` for each seed. Besides the demo's comparisons it lists the bound of the level: detections on the enlarged
image, below several sizes, added to those of the plain detector before non-maximum suppression. ``length`` trains the detector for several
numbers of steps.
Results: ``benchmarks/results/demo_<seeds or length>.json``. Runs can be resumed.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from run import collect_metadata, write_result
from torchvision.ops import batched_nms

from featlift.data.config import build_dataset
from featlift.evaluation.bootstrap import paired_bootstrap
from featlift.evaluation.coco_metrics import Detection
from featlift.experiments.demonstration import demo_data_config, level_experiment, run_demo
from featlift.experiments.level_comparison import ENLARGED, EXTENDED, PLAIN, detections_file
from featlift.papers.registry import PAPERS
from featlift.runs.options import RunOptions, open_run

METRICS = ("ap", "ap_tiny", "ap_small", "ap_medium", "ar_small")
SIZES = (16.0, 24.0, 32.0, 48.0)
NMS_IOU, MAX_DETECTIONS = 0.6, 100
"""FCOS's suppression in torchvision."""


def merge_small_detections(plain: Sequence[Detection], other: Sequence[Detection], max_size: float) -> list[Detection]:
    """Add the detections of ``other`` below ``max_size`` (square root of the area, px) to ``plain`` and suppress non-maxima per image."""
    by_image: dict[int, list[Detection]] = {}
    for one in [*plain, *(d for d in other if (d["bbox"][2] * d["bbox"][3]) ** 0.5 < max_size)]:
        by_image.setdefault(one["image_id"], []).append(one)
    kept = []
    for candidates in by_image.values():
        xywh = torch.tensor([one["bbox"] for one in candidates], dtype=torch.float32)
        boxes = torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)
        scores, labels = (torch.tensor([one[key] for one in candidates]) for key in ("score", "category_id"))
        kept += [candidates[i] for i in batched_nms(boxes, scores, labels, NMS_IOU)[:MAX_DETECTIONS].tolist()]
    return kept


def bound_rows(folder: Path, seed: int) -> list[dict[str, Any]]:
    """Return the differences of the bound from the plain detector for each of `SIZES`."""
    truth = build_dataset(demo_data_config(seed), "val").coco()
    plain = json.loads((folder / "detector" / "detections.json").read_text())
    enlarged = json.loads(detections_file(folder, ENLARGED).read_text())["detections"]
    rows = []
    for size in SIZES:
        intervals = paired_bootstrap(truth, plain, merge_small_detections(plain, enlarged, size), n_resamples=300)
        rows.append({"seed": seed, "added": f"bound, below {size:g} px"} | _percent_texts(intervals))
    return rows


def demo_row(seed: int, name: str, part: dict[str, Any]) -> dict[str, Any]:
    """Return the differences of the detector ``name`` from the plain one, objects, and relative time."""
    times = part["milliseconds"]
    return (
        {"seed": seed, "added": name}
        | change_row(part["comparisons"][name])
        | {"time": f"{times[name] / times[PLAIN]:.2f}×"}
    )


def change_row(comparison: dict[str, Any]) -> dict[str, Any]:
    """Return differences with their intervals in percentage points, and the objects gained and lost."""
    differences = {
        key: f"{100 * value['value']:+.1f} [{100 * value['low']:+.1f}, {100 * value['high']:+.1f}]"
        for key, value in comparison["differences"]["boxes"].items()
        if key in METRICS
    }
    return differences | {key: comparison["objects"][key] for key in ("gained", "lost")}


def _percent_texts(intervals: dict[str, Any]) -> dict[str, str]:
    return {key: intervals[key].percent_text for key in METRICS if key in intervals}


def run_seeds(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Run the demo for every seed and return the tables."""
    values, rows, stages = {}, [], []
    for seed in args.seeds:
        folder = args.runs / f"seed-{seed}"
        result = run_demo(folder, seed, args.step_scale)
        values[seed] = result["level"]["metrics"][PLAIN]["boxes"]
        rows += [demo_row(seed, name, result["level"]) for name in (EXTENDED, ENLARGED)] + bound_rows(folder, seed)
        stages.append({"seed": seed} | change_row(result["afi_gan"]["comparison"]))
    plain = [{"seed": seed} | {key: _percent(metrics[key]) for key in METRICS} for seed, metrics in values.items()]
    return [
        {"caption": "demo: the plain detector, in percent", "rows": plain},
        {"caption": "demo: differences from the plain detector, [95 % CI] of a bootstrap over images", "rows": rows},
        {
            "caption": "demo: AFI-GAN's stages - nearest interpolation, equal steps from the plain detector",
            "rows": stages,
        },
    ]


def run_lengths(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Train the demo's detector for several numbers of steps and return the table."""
    rows = []
    for steps in args.steps:
        metrics = []
        for seed in args.seeds:
            settings = level_experiment(seed, args.step_scale).detector
            settings = replace(settings, train=replace(settings.train, steps=steps))
            with open_run("baseline", settings, RunOptions(args.runs / f"{steps}-steps-{seed}", seed=seed)) as run:
                metrics.append(PAPERS["baseline"].run(settings, run, "", "detector")["result"]["metrics"]["boxes"])
        means = {key: _percent(statistics.mean(one[key] for one in metrics)) for key in METRICS}
        rows.append({"steps": steps, "seeds": len(metrics)} | means)
    return [{"caption": "demo: the detector after different numbers of steps, in percent", "rows": rows}]


def _percent(value: float) -> float:
    return round(100 * value, 1)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=("seeds", "length"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, nargs="+", default=[375, 750, 1500, 3000], help="For length")
    parser.add_argument("--step-scale", type=float, default=1.0, help="Factor on the steps of every stage")
    parser.add_argument("--runs", type=Path, default=Path("runs/demo_seeds"), help="Folder of the runs")
    args = parser.parse_args()
    metadata = collect_metadata(torch.device("cpu"), f"python benchmarks/demo_seeds.py {args.name}")
    tables = {"seeds": run_seeds, "length": run_lengths}[args.name](args)
    print(write_result(f"demo_{args.name}", tables, {**metadata, "seed": ", ".join(map(str, args.seeds))}))


if __name__ == "__main__":
    main()
