"""Interpolators at equal training budget, AFI-GAN's Table 6 at laptop scale: ``python benchmarks/interpolation_table.py NAME …``.

Datasets and networks are those of `equal_steps.py`. All interpolators start from one trained detector and take equally many steps
(`featlift benchmark`). Results: ``benchmarks/results/interpolation_<name>.json``, and ``….png`` with accuracy against latency. Runs can be
resumed. ``--redraw`` draws the figures of existing results.
"""

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path

import torch
from equal_steps import DATASETS
from run import RESULTS, collect_metadata, write_result

from featlift.experiments.equal_budget import run_benchmark
from featlift.experiments.equal_steps import scale_steps
from featlift.report.pareto import plot_pareto

ALL_CANDIDATES = (
    *(f"{name}:plain" for name in ("nearest", "bilinear", "bicubic", "deconv", "nearest-5conv", "carafe", "dysample")),
    *("srf:plain", "afi:plain", "afi", "light:plain", "light:distilled", "light-agnostic:distilled"),
)


def plot_result(name: str, folder: Path = RESULTS) -> Path:
    """Plot the mean box AP against the latency in ``interpolation_<name>.json``; return the path of the PNG."""
    path = folder / f"interpolation_{name}.json"
    (table,) = json.loads(path.read_text())["tables"]
    points = {row["interpolator"]: (row["ms"], [float(row["AP boxes"].split(" ± ")[0])]) for row in table["rows"]}
    return plot_pareto(path.with_suffix(".png"), points, "latency, ms per image", "box AP, %")


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
    parser.add_argument(
        "--redraw", action="store_true", help="Only draw the figures of existing results, without seeds"
    )
    args = parser.parse_args()
    if args.redraw:
        print(*map(plot_result, args.names), sep="\n")
        return
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
