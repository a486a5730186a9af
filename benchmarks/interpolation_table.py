"""Everyone's interpolators at equal budget: ``python benchmarks/interpolation_table.py NAME …``; AFI-GAN's Table 6 at a laptop's size.

Pictures and networks are those of `equal_steps.py`. All begin with one trained detector and take as many steps from there (`featlift
versus`). The result is ``benchmarks/results/interpolation_<name>.json``, with ``…png``: accuracy against milliseconds. Stopped, it goes on.
"""

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

import torch
from equal_steps import SETS
from run import RESULTS, keep, made

from featlift.commands.benchmark import run_benchmark
from featlift.commands.demo import scale_steps

EVERYONE = (
    *(f"{name}:plain" for name in ("nearest", "bilinear", "bicubic", "deconv", "nearest-5conv", "carafe", "dysample")),
    *("srf:plain", "afi:plain", "afi", "light:plain", "light:taught", "light-agnostic:taught"),
)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=SETS)
    parser.add_argument("--interpolators", nargs="+", default=EVERYONE, help="as in `featlift versus`")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=float, default=1.0, help="multiplies every stage after the common start")
    parser.add_argument("--start", type=float, default=1.0, help="multiplies the common start's steps")
    parser.add_argument("--runs", default="runs/interpolation_table", help="where the runs are kept")
    given = parser.parse_args()
    for name in given.names:
        longer = "" if given.start == 1 else f" --start {given.start:g}"
        chosen = "" if tuple(given.interpolators) == EVERYONE else f" --interpolators {' '.join(given.interpolators)}"
        command = f"python benchmarks/interpolation_table.py {name} --seeds {given.seeds} --steps {given.steps:g}{longer}{chosen}"
        facts = made(torch.device("cpu"), command)
        folder = Path(given.runs) / name
        whole = SETS[name]()
        settings = replace(scale_steps(whole, given.steps), teacher=scale_steps(whole, given.start).teacher)
        tables = run_benchmark(given.interpolators, settings, folder, given.seeds, "cpu")
        print(keep(f"interpolation_{name}", tables, {**facts, "seed": f"0 … {given.seeds - 1}"}))
        shutil.copyfile(folder / "pareto.png", RESULTS / f"interpolation_{name}.png")


if __name__ == "__main__":
    main()
