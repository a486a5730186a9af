"""How long and how wide EFPN's extension has to be: ``python benchmarks/efpn_length.py NAME``, after ``benchmarks/efpn.py NAME``.

Begins with the start that `efpn.py` left, of the first seed, and changes nothing but the steps of the extension and the width of FTT.
Beside it stand the start and the upper bound, whose p2x is taken from the picture at twice the size. Kept as
``benchmarks/results/efpn_<name>_length.json``.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from efpn import SHOWN, called, measured, shortened, spread
from rivals import CASES, START, Case, Contestant, chained, everyone
from run import SEED, keep, made

from featlift.papers import baseline

BOUND = "FPN + p2 of 2x picture"


def longer(case: Case, folder: Path, steps: int, width: int) -> Contestant:
    """EFPN with an FTT of so many channels from the start in ``folder``, whose extension learns for ``steps``."""
    settings = replace(
        case.settings,
        extended_level=replace(case.settings.extended_level, transfer="ftt", transfer_options={"width": width}),
        extension=replace(case.settings.extension, steps=steps),
        detector_from=str(folder / "start" / baseline.DETECTOR_FILE),
    )
    return chained(settings, folder / f"extension-{steps}-width-{width}", SEED)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=CASES)
    parser.add_argument("--extension", type=int, nargs="+", default=[60, 600], help="steps of the extension")
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 128], help="channels of FTT")
    parser.add_argument("--start", type=float, default=1.0, help="as efpn.py had it")
    parser.add_argument("--runs", type=Path, default=Path("runs/efpn"), help="where efpn.py kept its runs")
    given = parser.parse_args()
    name = called(given.name, given.start)
    steps, widths = (" ".join(map(str, chosen)) for chosen in (given.extension, given.widths))
    command = (
        f"python benchmarks/efpn_length.py {given.name} --extension {steps} --widths {widths} --start {given.start:g}"
    )
    facts = made(torch.device("cpu"), command)
    case = shortened(CASES[given.name](), 1.0, None, given.start)
    folder = given.runs / name / str(SEED)
    others = everyone(case, (case.settings.extended_level.transfer,), folder, SEED)
    compared = {START: others[START], BOUND: others[BOUND]}
    compared |= {
        f"EFPN, extension {steps} steps, width {width}": longer(case, folder, steps, width)
        for width in given.widths
        for steps in given.extension
    }
    shown = baseline.build_dataset(case.settings.data, "val")
    found = measured(compared, shown, case.measured)
    rows = [
        {"": one, **{title: spread([found[one]], key) for key, title in SHOWN.items()}, "steps": compared[one].steps}
        for one in compared
    ]
    caption = f"{name}: box AP and AR in per cent on {len(found[START].seconds_per_image)} pictures, one seed"
    print(keep(f"efpn_{name}_length", [{"caption": caption, "rows": rows}], facts))


if __name__ == "__main__":
    main()
