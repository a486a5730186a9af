"""Training length and width of EFPN's extension: ``python benchmarks/efpn_length.py NAME``, after ``benchmarks/efpn.py NAME``.

Starts from the base detector of `efpn.py` (first seed) and varies the steps of the extension and the width of FTT. The table also has the
base detector and the upper bound, whose p2x is computed from the image at twice the size. Results:
``benchmarks/results/efpn_<name>_length.json``.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from efpn import METRICS, evaluate, format_mean_std, result_name, scale_case
from efpn_baselines import BASE, CASES, Candidate, Case, train_candidates, train_efpn
from run import SEED, collect_metadata, write_result

from featlift.data.config import build_dataset
from featlift.detectors.checkpoint import DETECTOR_FILE

UPPER_BOUND = "FPN + p2 of 2x image"


def train_extension(case: Case, folder: Path, steps: int, width: int) -> Candidate:
    """Train EFPN with an FTT of ``width`` channels for ``steps`` of the extension, from the base detector in ``folder``."""
    settings = replace(
        case.settings,
        extended_level=replace(
            case.settings.extended_level, transfer="ftt", transfer_options={"hidden_channels": width}
        ),
        extension=replace(case.settings.extension, steps=steps),
        detector_from=str(folder / "start" / DETECTOR_FILE),
    )
    return train_efpn(settings, folder / f"extension-{steps}-width-{width}", SEED)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=CASES)
    parser.add_argument("--extension", type=int, nargs="+", default=[60, 600], help="Steps of the extension")
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 128], help="Channels of FTT")
    parser.add_argument("--start", type=float, default=1.0, help="As in efpn.py")
    parser.add_argument("--runs", type=Path, default=Path("runs/efpn"), help="Folder of the runs of efpn.py")
    args = parser.parse_args()
    name = result_name(args.name, args.start)
    steps, widths = (" ".join(map(str, values)) for values in (args.extension, args.widths))
    command = (
        f"python benchmarks/efpn_length.py {args.name} --extension {steps} --widths {widths} --start {args.start:g}"
    )
    metadata = collect_metadata(torch.device("cpu"), command)
    case = scale_case(CASES[args.name](), 1.0, None, args.start)
    folder = args.runs / name / str(SEED)
    references = train_candidates(case, (case.settings.extended_level.transfer,), folder, SEED)
    candidates = {name: references[name] for name in (BASE, UPPER_BOUND)}
    candidates |= {
        f"EFPN, extension {steps} steps, width {width}": train_extension(case, folder, steps, width)
        for width in args.widths
        for steps in args.extension
    }
    results = evaluate(candidates, build_dataset(case.settings.data, "val"), case.num_images)
    rows = []
    for label, candidate in candidates.items():
        metrics = {title: format_mean_std([results[label]], key) for key, title in METRICS.items()}
        rows.append({"": label, **metrics, "steps": candidate.steps})
    caption = f"{name}: box AP and AR in percent on {len(results[BASE].seconds_per_image)} images, one seed"
    print(write_result(f"efpn_{name}_length", [{"caption": caption, "rows": rows}], metadata))


if __name__ == "__main__":
    main()
