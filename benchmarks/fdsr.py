"""FDSR against its baselines: ``python benchmarks/fdsr.py ../shared/data/deeppcb --weights ../shared/data/weights/….pth``.

A detector learns from full-size pictures. For each seed super-resolution networks learn for pixels (three networks), for features (FDSR,
two networks, and without pixels) and for the detector's losses (TDSR), all for equally many steps; one learns in turn with the detector
(SR4IR); the detector also learns on from bicubic pictures for as many. Every row sees the same validation pictures, shrunk. Everything is
kept below ``--runs``, so the same command goes on where it stopped. With ``--side`` windows of the pictures are what is called full size,
which makes three seeds affordable on one core.
"""

import argparse
import json
import shutil
import statistics
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from run import RESULTS, keep, made
from windows import windows

from featlift.detectors.super_resolved import DegradeAndUpscale
from featlift.experiments import super_resolution_detection
from featlift.image_sr.bicubic import BicubicSR
from featlift.image_sr.network import SuperResolverConfig
from featlift.papers import baseline, fdsr
from featlift.papers.baseline import StageConfig
from featlift.training import OptimizerConfig, Run
from featlift.training.run import to_jsonable

KEYS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
QUALITY = {"psnr_y": 2, "ssim": 4, "fsim": 4}


PIXELS, FEATURES = fdsr.LossWeights(features=0.0), fdsr.LossWeights(scale_free=True)
FINE_TUNING = baseline.quick_optimizer(3e-4)
SMALL = {
    "edsr": {"blocks": 8, "width": 32, "share": 1.0},
    "d-dbpn": {"stages": 2, "initial": 64, "width": 32},
    "compact": {},
}
"""The networks, small enough for one core; "compact" starts as bicubic interpolation and is what learns where no other is named."""


class Learner(NamedTuple):
    """A network of :data:`SMALL`, what it learns for, and how the detector learns in turn with it (None: it does not)."""

    network: str
    terms: fdsr.LossWeights
    together: OptimizerConfig | None = None


def learners(tdsr: float) -> dict[str, Learner]:
    """Rows of the table that learn. ``tdsr`` weighs the detector's losses against half the L1 distance of the pixels."""
    return {
        "EDSR, pixels": Learner("edsr", PIXELS),
        "D-DBPN, pixels": Learner("d-dbpn", PIXELS),
        "Compact, pixels": Learner("compact", PIXELS),
        "FDSR": Learner("compact", FEATURES),
        "FDSR with EDSR": Learner("edsr", FEATURES),
        "FDSR, features only": Learner("compact", replace(FEATURES, pixels=0.0)),
        "TDSR": Learner("compact", replace(PIXELS, detection=tdsr)),
        "SR4IR": Learner("compact", FEATURES, FINE_TUNING),
    }


def main() -> None:
    """Train what is missing, measure, write ``benchmarks/results/fdsr.json`` and its pictures."""
    asked = arguments()
    torch.set_num_threads(asked.threads)
    about = made(torch.device(asked.device), f"python benchmarks/fdsr.py {' '.join(sys.argv[1:])}")
    if asked.side:
        asked.data = windows(asked.data, asked.runs / "windows", asked.side, {"train": 1, "val": asked.windows})
    detector = asked.detector or trained_detector(asked)
    found = [one_seed(asked, detector, seed) for seed in range(asked.seeds)]
    details = {"seeds": [one["rows"] for one in found], "data": found[0]["data"]}
    print(keep(asked.name, tables(asked, found), about | {"seed": f"0 to {asked.seeds - 1}"}, asked.out, details))
    for number, drawn in enumerate(sorted((asked.runs / "seed-0").glob("*.png"))):
        kind = "robustness" if drawn.stem == "robustness" else f"picture-{number}"
        shutil.copy(drawn, asked.out / f"{asked.name}-{kind}.png")


def tables(asked: argparse.Namespace, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was found, for the results page: the methods, and AP against the shrink factor."""
    seeds = f"{asked.seeds} seeds: mean ± standard deviation; {asked.steps} steps each"
    one_detector = "the same detector for all rows but SR4IR and fine-tuned"
    size = f"windows of {asked.side} px" if asked.side else "whole pictures"
    first = {
        "caption": f"{asked.name}: {size}, each side 1/{asked.factor}, {one_detector}; {seeds}",
        "rows": mean(found),
    }
    curves = found[0].get("robustness", {})
    rows = [
        {"method": name, **{f"1/{k}": round(100 * ap, 1) for k, ap in curve.items()}} for name, curve in curves.items()
    ]
    return [first, {"caption": "AP (%) against how much smaller pictures were made, seed 0", "rows": rows}][
        : 1 + bool(rows)
    ]


def trained_detector(asked: argparse.Namespace) -> str:
    """A small Faster R-CNN, learned on the full-size training pictures."""
    model = baseline.quick_detector_config()
    if asked.weights:
        pretrained = {"weights": asked.weights, "norm": "frozen", "frozen_stages": 1, "statistics": (0.5, 0.5)}
        model = replace(model, backbone="mobilenetv2_100", **pretrained)
    data = baseline.DataConfig(str(asked.data), batch_size=asked.detector_batch, min_size=(), num_workers=0)
    train = StageConfig(asked.detector_steps, baseline.quick_optimizer())
    settings = replace(baseline.Settings.quick(), model=model, data=data, train=train)
    with Run(asked.runs / "detector", settings, device=asked.device) as run:
        baseline.train(settings, run)
    return str(asked.runs / "detector")


def fine_tuned(asked: argparse.Namespace, detector: str, seed: int) -> str:
    """The detector after as many steps as the networks have, on pictures shrunk and enlarged bicubically."""
    folder, data = (
        asked.runs / f"fine-tuned-{seed}",
        replace(baseline.load_data_config(detector), batch_size=asked.batch // 2),
    )
    stage = StageConfig(asked.steps, FINE_TUNING)
    with Run(folder, stage, seed, asked.device) as run:
        T = fdsr.load_reference_detector(detector)
        stream = baseline.build_train_loader(data, baseline.build_dataset(data), run.seed)
        fdsr.fine_tune_detector(T, DegradeAndUpscale(BicubicSR(asked.factor), asked.factor), stream, stage, run)
        fdsr.save_joint_detector(T, detector, run.folder)
    return str(folder)


def one_seed(asked: argparse.Namespace, detector: str, seed: int) -> dict[str, Any]:
    """The rows of one seed; the networks that learn are named by what they learn for."""
    folders = {}
    for name, learner in learners(asked.tdsr).items():
        folder = asked.runs / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"
        settings = chosen(asked, detector, learner)
        with Run(folder, settings, seed, asked.device) as run:
            fdsr.train(settings, run)
        folders[name] = str(folder)
    tuned = fine_tuned(asked, detector, seed)
    how = super_resolution_detection.SRDetectionConfig(
        detector, folders, tuned, downscale=asked.factor, num_quality_images=asked.judged, device=asked.device
    )
    first = {"factors": tuple(asked.factors), "drawn": asked.drawn} if seed == 0 else {"drawn": 0}
    found = measured(replace(how, **first), asked.runs / f"seed-{seed}")
    print(super_resolution_detection.format_sr_detection(found["rows"]), flush=True)
    return found


def measured(how: super_resolution_detection.SRDetectionConfig, folder: Path) -> dict[str, Any]:
    """What the folder says, if it was measured in the same way already; else it is measured now."""
    kept = folder / "two_step.json"
    if kept.exists() and json.loads(kept.read_text())["settings"] == to_jsonable(how):
        return json.loads(kept.read_text())
    return json.loads(json.dumps(to_jsonable(super_resolution_detection.evaluate_sr_detection(how, folder))))


def chosen(asked: argparse.Namespace, detector: str, learner: Learner) -> fdsr.Settings:
    """The quick settings for one learner. TDSR and SR4IR need objects, so they learn from the detector's own pictures."""
    objects = learner.terms.detection or learner.together
    root = asked.data if objects or not asked.pictures else asked.pictures
    quick = fdsr.Settings.quick()
    return replace(
        quick,
        network=SuperResolverConfig(learner.network, asked.factor, SMALL[learner.network]),
        feature_extractor=fdsr.FeatureExtractorConfig(detector, ("c3", "c4")),
        loss_weights=learner.terms,
        data=fdsr.CropDataConfig(str(root), crop_size=asked.crop, batch_size=asked.batch, num_images=0, num_workers=0),
        train=replace(quick.train, steps=asked.steps),
        detector_optimizer=learner.together,
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
    parser.add_argument("data", type=Path, help="COCO folder that the detector learns from")
    parser.add_argument("--pictures", default="", help="folder that networks learn from; empty takes the detector's")
    parser.add_argument("--weights", default="", help="file of a MobileNetV2 for the backbone; empty takes a ResNet-10")
    parser.add_argument("--detector", default="", help="a detector's run folder; empty trains one")
    parser.add_argument(
        "--side", type=int, default=0, help="px of the windows that stand for pictures; 0 takes whole ones"
    )
    parser.add_argument("--windows", type=int, default=2, help="of each validation picture")
    parser.add_argument("--runs", type=Path, default=Path("runs/fdsr-benchmark"))
    parser.add_argument("--name", default="fdsr", help="of the file of results")
    parser.add_argument("--out", type=Path, default=RESULTS, help="its folder")
    for name, value, said in (
        ("seeds", 3, ""),
        ("steps", 200, "of each network, and of the fine-tuned detector"),
        ("batch", 4, "windows in a step of a network; half as many pictures in one of the fine-tuned detector"),
        ("detector-steps", 400, ""),
        ("detector-batch", 4, ""),
        ("crop", 96, "px of the windows that networks learn from"),
        ("factor", 4, "how much smaller a side becomes"),
        ("judged", 8, "pictures whose PSNR, SSIM and FSIM are taken"),
        ("drawn", 3, "pictures drawn side by side"),
        ("threads", 1, "of PyTorch"),
    ):
        parser.add_argument(f"--{name}", type=int, default=value, help=said)
    parser.add_argument("--factors", type=int, nargs="*", default=[2, 4, 8], help="of the robustness curve")
    parser.add_argument("--tdsr", type=float, default=0.05, help="weight of the detector's losses")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


if __name__ == "__main__":
    main()
