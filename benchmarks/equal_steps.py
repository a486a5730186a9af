"""AFI-GAN against nearest interpolation at equal numbers of steps: ``python benchmarks/equal_steps.py NAME …``.

Both start from the same detector. Each name is a dataset and a network small enough for two CPU cores. Results:
``benchmarks/results/equal_steps_<name>.json`` with mean, standard deviation and the 95 % CI of every seed. Runs can be resumed.
"""

import argparse
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from data_folder import DATA, MOBILENET
from run import collect_metadata, write_result

from featlift.data.config import DataConfig
from featlift.detectors.config import quick_detector_config
from featlift.experiments.equal_steps import minutes_after_start, run_equal_steps
from featlift.papers import afi_gan
from featlift.papers.afi_gan.settings import STAGES
from featlift.training.schedules import StageConfig, quick_optimizer


def scenes() -> afi_gan.Settings:
    """Return synthetic scenes of 160 px, random weights."""
    return afi_gan.Settings.quick()


def pretrained(data: DataConfig, steps: tuple[int, int, int, int], detector: str = "faster-rcnn") -> afi_gan.Settings:
    """Return settings with an ImageNet-pretrained MobileNetV2 (frozen norms); ``steps`` of the teacher and of the three stages."""
    model = replace(
        quick_detector_config("afi"),
        detector=detector,
        backbone="mobilenetv2_100",
        backbone_weights=str(MOBILENET),
        norm="frozen",
        frozen_stages=1,
        mean_std=(0.5, 0.5),
    )
    stages = [StageConfig(count, quick_optimizer()) for count in steps]
    return replace(
        afi_gan.Settings.quick(),
        model=model,
        data=data,
        **dict(zip(STAGES, stages, strict=True)),
    )


def gtsdb() -> afi_gan.Settings:
    """German traffic signs, 680x400, 90 % of them small."""
    return pretrained(DataConfig(str(DATA / "gtsdb"), batch_size=2, min_size=(), num_workers=0), (240, 60, 80, 120))


def deeppcb() -> afi_gan.Settings:
    """Defects on printed circuits, 640x640."""
    return pretrained(
        DataConfig(str(DATA / "deeppcb"), batch_size=2, min_size=(400,), num_workers=0), (240, 60, 80, 120)
    )


DATASETS = {"scenes": scenes, "gtsdb": gtsdb, "deeppcb": deeppcb}
METRICS = ("ap", "ap50", "ap_tiny", "ap_small", "ap_medium", "ar")


def build_tables(name: str, results: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    """Build the tables of mean ± standard deviation over seeds, and of the difference of every seed with its interval."""
    rows = []
    for run in ("nearest", "afi-gan"):
        boxes = [result[run]["result"]["metrics"]["boxes"] for result in results.values()]
        values = {key: _mean([100 * ap[key] for ap in boxes if ap[key] is not None]) for key in METRICS}
        profile = next(iter(results.values()))[run]["result"]["profile"]
        minutes = _mean([minutes_after_start(result[run]) for result in results.values()])
        rows.append(
            {
                "": run,
                **values,
                "parameters": profile["num_parameters"],
                "GMAC": round(profile["gmacs"], 2),
                "minutes": minutes,
            }
        )
    seeds = [
        {
            "seed": seed,
            **{key: _interval(result, key) for key in ("ap", "ap_tiny", "ap_small")},
            **result["comparison"]["objects"],
        }
        for seed, result in results.items()
    ]
    steps = next(iter(results.values()))["steps"]
    step_counts = ", ".join(f"{stage} {count}" for stage, count in steps.items())
    seed_count = "1 seed" if len(results) == 1 else f"mean ± standard deviation of {len(results)} seeds"
    return [
        {
            "caption": f"{name}: box AP in percent, {seed_count}; steps: {step_counts}",
            "rows": rows,
        },
        {
            "caption": f"{name}: AFI-GAN minus nearest, [95 % CI] of a bootstrap over images, and objects",
            "rows": seeds,
        },
    ]


def _mean(values: list[float]) -> str:
    if not values:
        return ""
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{deviation}"


def _interval(result: dict[str, Any], key: str) -> str:
    interval = result["comparison"]["differences"]["boxes"].get(key)
    if interval is None:
        return ""
    return f"{100 * interval['value']:+.1f} [{100 * interval['low']:+.1f}, {100 * interval['high']:+.1f}]"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=DATASETS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", default="runs/equal_steps", help="Folder of the runs")
    args = parser.parse_args()
    for name in args.names:
        metadata = collect_metadata(
            torch.device("cpu"), f"python benchmarks/equal_steps.py {name} --seeds {args.seeds}"
        )
        results = {
            seed: run_equal_steps(DATASETS[name](), Path(args.runs) / name / str(seed), seed).content
            for seed in range(args.seeds)
        }
        print(
            write_result(
                f"equal_steps_{name}", build_tables(name, results), {**metadata, "seed": f"0 … {args.seeds - 1}"}
            )
        )


if __name__ == "__main__":
    main()
