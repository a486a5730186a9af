"""FDSR against its baselines: ``python benchmarks/fdsr.py --data PATH/deeppcb --pictures PATH/BSDS500_train100``.

A detector learns from full-size pictures (or is given). For each seed a super-resolution network learns for pixels, for features (FDSR) and
for the detector's losses (TDSR), all for equally many steps; the detector also learns on from bicubic pictures for as many steps. Every
row sees the same validation pictures, shrunk. Everything is kept below ``--runs``, so the same command goes on where it stopped.
"""

import argparse
import statistics
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from run import keep, made

from featlift import two_step
from featlift.image_sr.bicubic import Bicubic
from featlift.image_sr.through import Restored
from featlift.papers import baseline, fdsr
from featlift.papers.baseline import Stage
from featlift.training import Run

KEYS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
QUALITY = {"psnr_y": 2, "ssim": 4, "fsim": 4}


def terms() -> dict[str, fdsr.Terms]:
    """What each network learns for; the detection loss has a weight at which both of TDSR's terms are of one size."""
    return {
        "pixels": fdsr.Terms(features=0.0),
        "FDSR": fdsr.Terms(scale_free=True),
        "features only": fdsr.Terms(pixels=0.0, scale_free=True),
        "TDSR": fdsr.Terms(features=0.0, detection=0.05),
    }


def main() -> None:
    """Train what is missing, measure, write ``benchmarks/results/fdsr.json``."""
    asked = arguments()
    torch.set_num_threads(asked.threads)
    about = made(torch.device(asked.device), f"python benchmarks/fdsr.py {' '.join(sys.argv[1:])}")
    detector = asked.detector or trained_detector(asked)
    tuned = fine_tuned(asked, detector)
    found = [one_seed(asked, detector, tuned, seed) for seed in range(asked.seeds)]
    print(keep(asked.name, tables(asked, found), about | {"seed": f"0 to {asked.seeds - 1}"}, Path(asked.out)))


def tables(asked: argparse.Namespace, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was found, for the results page: the methods, and AP against the shrink factor."""
    data = Path(asked.data).name
    seeds = f"{asked.seeds} seeds: mean ± standard deviation; {asked.steps} steps each"
    first = {
        "caption": f"{data}, each side 1/{asked.factor}, the same detector for all rows but fine-tuned; {seeds}",
        "rows": mean(found),
    }
    curves = found[0].get("robustness", {})
    rows = [
        {"method": name, **{f"1/{k}": round(100 * ap, 1) for k, ap in curve.items()}} for name, curve in curves.items()
    ]
    return (
        [first, {"caption": f"{data}: AP (%) against how much smaller pictures were made, seed 0", "rows": rows}]
        if rows
        else [first]
    )


def trained_detector(asked: argparse.Namespace) -> str:
    """A small Faster R-CNN from random weights, learned on the full-size training pictures."""
    data = baseline.Data(asked.data, batch=asked.detector_batch, short=(), workers=1)
    settings = replace(
        baseline.Settings.quick(), data=data, train=Stage(asked.detector_steps, baseline.quick_descent())
    )
    with Run(f"{asked.runs}/detector", settings, device=asked.device) as run:
        baseline.train(settings, run)
    return f"{asked.runs}/detector"


def fine_tuned(asked: argparse.Namespace, detector: str) -> str:
    """The detector after as many steps again, on pictures shrunk and enlarged bicubically."""
    folder, data = f"{asked.runs}/fine-tuned", baseline.data_of(detector)
    stage = Stage(asked.steps, baseline.quick_descent(3e-4))
    with Run(folder, stage, device=asked.device) as run:
        T = fdsr.detector_named(detector)
        stream = baseline.batches(data, baseline.pictures(data), run.seed)
        fdsr.fine_tune(T, Restored(Bicubic(asked.factor), asked.factor), stream, stage, run)
        fdsr.save_detector(T, detector, run.folder)
    return folder


def one_seed(asked: argparse.Namespace, detector: str, tuned: str, seed: int) -> dict[str, Any]:
    """The rows of one seed; the networks that learn are named by what they learn for."""
    folders = {}
    for name, wanted in terms().items():
        folders[name] = f"{asked.runs}/{name.replace(' ', '-')}-{seed}"
        with Run(folders[name], settings := chosen(asked, detector, wanted), seed, asked.device) as run:
            fdsr.train(settings, run)
    how = two_step.Measuring(detector, folders, tuned, factor=asked.factor, judged=asked.judged, device=asked.device)
    found = two_step.measure(
        replace(how, factors=tuple(asked.factors) if seed == 0 else ()), f"{asked.runs}/seed-{seed}"
    )
    print(two_step.table(found["rows"]))
    return found


def chosen(asked: argparse.Namespace, detector: str, wanted: fdsr.Terms) -> fdsr.Settings:
    """The quick settings with one of the losses. TDSR needs objects, so it learns from the detector's own pictures."""
    quick = fdsr.Settings.quick()
    root = asked.data if wanted.detection or not asked.pictures else asked.pictures
    return replace(
        quick,
        network=fdsr.Network("compact", asked.factor),
        prior=fdsr.Prior(detector, ("c3", "c4")),
        terms=wanted,
        data=fdsr.Data(root, crop=asked.crop, batch=8, count=0, workers=1),
        train=replace(quick.train, steps=asked.steps),
    )


def mean(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each method the mean and the standard deviation over seeds: AP in per cent, PSNR of Y in dB, SSIM and FSIM."""
    table = []
    for name in found[0]["rows"]:
        rows = [one["rows"][name] for one in found]
        cells = {
            key: [None if row["metrics"][key] is None else 100 * row["metrics"][key] for row in rows] for key in KEYS
        }
        shown = {key: spread(values, 1) for key, values in cells.items()}
        shown |= {
            key: spread([row["quality"][key] for row in rows], digits)
            for key, digits in QUALITY.items()
            if "quality" in rows[0]
        }
        table.append({"method": name, **shown})
    return table


def spread(values: list[Any], digits: int) -> str | None:
    """ "12.3 ± 0.4"; None where there is no value."""
    if None in values:
        return None
    wide = f" ± {statistics.stdev(values):.{digits}f}" if len(set(values)) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{wide}"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="scenes", help="COCO folder that the detector learns from, or scenes")
    parser.add_argument(
        "--pictures", default="", help="folder of pictures that networks learn from; empty takes --data"
    )
    parser.add_argument("--detector", default="", help="a detector's run folder; empty trains one")
    parser.add_argument("--runs", default="runs/fdsr-benchmark")
    parser.add_argument("--name", default="fdsr", help="of the file of results")
    parser.add_argument("--out", default="benchmarks/results", help="its folder")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600, help="of each network, and of the fine-tuned detector")
    parser.add_argument("--detector-steps", type=int, default=1500)
    parser.add_argument("--detector-batch", type=int, default=4)
    parser.add_argument("--crop", type=int, default=96)
    parser.add_argument("--factor", type=int, default=4)
    parser.add_argument(
        "--factors", type=int, nargs="*", default=list(two_step.FACTORS), help="of the robustness curve"
    )
    parser.add_argument("--judged", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
