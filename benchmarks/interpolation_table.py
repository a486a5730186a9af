"""Interpolators at equal training budget, AFI-GAN's Table 6 at laptop scale: ``python benchmarks/interpolation_table.py NAME …``.

Datasets and networks are those of `equal_steps.py`. All interpolators start from one trained detector and take equally many steps
(`featlift benchmark`). Results: ``benchmarks/results/interpolation_<name>.json``, and ``….png`` with accuracy against latency. Runs can be
resumed.
"""

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

import torch
from equal_steps import DATASETS
from run import RESULTS, collect_metadata, write_result

from featlift.experiments.equal_budget import run_benchmark
from featlift.experiments.equal_steps import scale_steps

ALL_CANDIDATES = (
    *(f"{name}:plain" for name in ("nearest", "bilinear", "bicubic", "deconv", "nearest-5conv", "carafe", "dysample")),
    *("srf:plain", "afi:plain", "afi", "light:plain", "light:distilled", "light-agnostic:distilled"),
)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=DATASETS)
    parser.add_argument(
        "--interpolators", nargs="+", default=ALL_CANDIDATES, help="Candidates, as in `featlift benchmark`"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--steps", type=float, default=1.0, help="Factor of the steps of every stage after the common start"
    )
    parser.add_argument("--start", type=float, default=1.0, help="Factor of the steps of the common start")
    parser.add_argument("--runs", default="runs/interpolation_table", help="Folder of the runs")
    args = parser.parse_args()
    for name in args.names:
        start = "" if args.start == 1 else f" --start {args.start:g}"
        selection = (
            "" if tuple(args.interpolators) == ALL_CANDIDATES else f" --interpolators {' '.join(args.interpolators)}"
        )
        command = f"python benchmarks/interpolation_table.py {name} --seeds {args.seeds} --steps {args.steps:g}{start}{selection}"
        metadata = collect_metadata(torch.device("cpu"), command)
        folder = Path(args.runs) / name
        unscaled = DATASETS[name]()
        settings = replace(scale_steps(unscaled, args.steps), teacher=scale_steps(unscaled, args.start).teacher)
        tables = run_benchmark(args.interpolators, settings, folder, args.seeds, "cpu")
        print(write_result(f"interpolation_{name}", tables, {**metadata, "seed": f"0 … {args.seeds - 1}"}))
        shutil.copyfile(folder / "pareto.png", RESULTS / f"interpolation_{name}.png")


if __name__ == "__main__":
    main()
