"""AFI-GAN beside nearest interpolation, from the same start and with as many steps: ``python benchmarks/equal_steps.py NAME …``.

Each name is a set of pictures and a network small enough for two CPU cores; each is run with every seed and kept as
``benchmarks/results/equal_steps_<name>.json`` with mean, spread and the bootstrap interval of every seed. Stopped, it goes on.
"""

import argparse
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from run import keep, made

from featlift.commands.demo import minutes_after_start, run_equal_steps
from featlift.papers import afi_gan, baseline
from featlift.papers.baseline import DataConfig, StageConfig

SHARED = Path(__file__).parents[2] / "shared" / "data"
MOBILENET = SHARED / "weights" / "mobilenet_v2_tf2ptq_dequant.pth"


def scenes() -> afi_gan.Settings:
    """`featlift demo`: built-in scenes of 160 px, random weights."""
    return afi_gan.Settings.quick()


def pretrained(data: DataConfig, steps: tuple[int, int, int, int], detector: str = "faster-rcnn") -> afi_gan.Settings:
    """A MobileNetV2 with its ImageNet weights (frozen norms) on real pictures; ``steps`` of teacher and the three stages."""
    model = replace(
        baseline.quick_detector_config("afi"),
        detector=detector,
        backbone="mobilenetv2_100",
        backbone_weights=str(MOBILENET),
        norm="frozen",
        frozen_stages=1,
        mean_std=(0.5, 0.5),
    )
    stages = [StageConfig(count, baseline.quick_optimizer()) for count in steps]
    return replace(
        afi_gan.Settings.quick(),
        model=model,
        data=data,
        **dict(zip(afi_gan.STAGES, stages, strict=True)),
    )


def gtsdb() -> afi_gan.Settings:
    """German traffic signs, 680x400, 90 % of them small."""
    return pretrained(DataConfig(str(SHARED / "gtsdb"), batch_size=2, min_size=(), num_workers=0), (240, 60, 80, 120))


def deeppcb() -> afi_gan.Settings:
    """Defects on printed circuits, 640x640."""
    return pretrained(
        DataConfig(str(SHARED / "deeppcb"), batch_size=2, min_size=(400,), num_workers=0), (240, 60, 80, 120)
    )


SETS = {"scenes": scenes, "gtsdb": gtsdb, "deeppcb": deeppcb}
SHOWN = ("ap", "ap50", "ap_tiny", "ap_small", "ap_medium", "ar")


def table(name: str, results: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    """Two tables: the mean (and spread) of every number over seeds, and every seed's difference with its interval."""
    rows = []
    for run in ("nearest", "afi-gan"):
        boxes = [result[run]["result"]["metrics"]["boxes"] for result in results.values()]
        numbers = {key: _mean([100 * one[key] for one in boxes if one[key] is not None]) for key in SHOWN}
        cost = next(iter(results.values()))[run]["result"]["cost"]
        minutes = _mean([minutes_after_start(result[run]) for result in results.values()])
        rows.append(
            {"": run, **numbers, "parameters": cost["parameters"], "GMAC": round(cost["gmac"], 2), "minutes": minutes}
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
    said = ", ".join(f"{stage} {count}" for stage, count in steps.items())
    return [
        {
            "caption": f"{name}: box AP in per cent, mean (standard deviation) of {len(results)} seeds; steps: {said}",
            "rows": rows,
        },
        {
            "caption": f"{name}: AFI-GAN minus nearest, with 95 % bootstrap intervals over pictures, and objects",
            "rows": seeds,
        },
    ]


def _mean(values: list[float]) -> str:
    if not values:
        return ""
    spread = f" ({statistics.stdev(values):.1f})" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def _interval(result: dict[str, Any], key: str) -> str:
    one = result["comparison"]["differences"]["boxes"].get(key)
    return "" if one is None else f"{100 * one['value']:+.1f} [{100 * one['low']:+.1f}, {100 * one['high']:+.1f}]"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=SETS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", default="runs/equal_steps", help="where the runs are kept")
    given = parser.parse_args()
    for name in given.names:
        facts = made(torch.device("cpu"), f"python benchmarks/equal_steps.py {name} --seeds {given.seeds}")
        found = {
            seed: run_equal_steps(SETS[name](), Path(given.runs) / name / str(seed), seed)
            for seed in range(given.seeds)
        }
        print(keep(f"equal_steps_{name}", table(name, found), {**facts, "seed": f"0 … {given.seeds - 1}"}))


if __name__ == "__main__":
    main()
