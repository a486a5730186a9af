"""FDSR against its baselines: ``python benchmarks/fdsr.py DATA/deeppcb --weights DATA/weights/mobilenet_v2_tf2ptq_dequant.pth``.

A detector is trained on full-size images. For each seed, super-resolution networks are trained with a pixel loss (three networks), with a
feature loss (FDSR, two networks, and without pixel loss) and with the detector's losses (TDSR), all for equally many steps; one is trained
alternately with the detector (SR4IR); and the detector is fine-tuned on bicubically enlarged images. All rows use the same downscaled
validation images. All runs are below ``--runs`` and can be resumed. With ``--dataset-crop-size``, crops replace the full-size images, which
makes three seeds affordable on one core.
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
from crop_dataset import crop_dataset
from run import RESULTS, collect_metadata, write_result

from featlift import baseline
from featlift.checkpoints.json_io import to_jsonable
from featlift.data.config import DataConfig, build_dataset, build_train_loader, load_data_config
from featlift.detectors.by_name import load_detector_by_name
from featlift.detectors.config import quick_detector_config
from featlift.detectors.super_resolved import DegradeAndUpscale
from featlift.image_sr.bicubic import BicubicSR
from featlift.image_sr.network import SuperResolverConfig
from featlift.papers import fdsr
from featlift.papers.fdsr import evaluation
from featlift.papers.fdsr.settings import CropDataConfig, FeatureExtractorConfig, LossWeights
from featlift.papers.fdsr.training import fine_tune_detector, save_joint_detector
from featlift.training import OptimizerConfig, Run
from featlift.training.schedules import StageConfig, quick_optimizer

AP_KEYS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
QUALITY_DIGITS = {"psnr_y": 2, "ssim": 4, "fsim": 4}


PIXELS, FEATURES = LossWeights(features=0.0), LossWeights(scale_free=True)
FINE_TUNING_OPTIMIZER = quick_optimizer(3e-4)
NETWORK_OPTIONS = {
    "edsr": {"blocks": 8, "width": 32, "res_scale": 1.0},
    "d-dbpn": {"stages": 2, "initial_channels": 64, "width": 32},
    "compact": {},
}
"""Networks small enough for one core; "compact", initialized as bicubic interpolation, is the default network."""


class Candidate(NamedTuple):
    """A network of :data:`NETWORK_OPTIONS`, its loss, and the optimizer of a jointly trained detector (None: frozen)."""

    network: str
    loss_weights: LossWeights
    detector_optimizer: OptimizerConfig | None = None


def build_candidates(tdsr_weight: float) -> dict[str, Candidate]:
    """Return the trained rows of the table; ``tdsr_weight`` is the weight of the detector's losses (half the L1 pixel distance has 1)."""
    return {
        "EDSR, pixels": Candidate("edsr", PIXELS),
        "D-DBPN, pixels": Candidate("d-dbpn", PIXELS),
        "Compact, pixels": Candidate("compact", PIXELS),
        "FDSR": Candidate("compact", FEATURES),
        "FDSR with EDSR": Candidate("edsr", FEATURES),
        "FDSR, features only": Candidate("compact", replace(FEATURES, pixels=0.0)),
        "TDSR": Candidate("compact", replace(PIXELS, detection=tdsr_weight)),
        "SR4IR": Candidate("compact", FEATURES, FINE_TUNING_OPTIMIZER),
    }


def main() -> None:
    """Train missing runs, evaluate, and write ``benchmarks/results/fdsr.json`` and its images."""
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    metadata = collect_metadata(torch.device(args.device), f"python benchmarks/fdsr.py {' '.join(sys.argv[1:])}")
    if args.dataset_crop_size:
        crops_per_image = {"train": 1, "val": args.crops_per_image}
        args.data = crop_dataset(args.data, args.runs / "crops", args.dataset_crop_size, crops_per_image)
    detector = args.detector or train_detector(args)
    results = [run_seed(args, detector, seed) for seed in range(args.seeds)]
    details = {"seeds": [result["pipelines"] for result in results], "data": results[0]["data"]}
    metadata |= {"seed": f"0 to {args.seeds - 1}"}
    print(write_result(args.name, build_tables(args, results), metadata, args.out, details))
    for number, plot in enumerate(sorted((args.runs / "seed-0").glob("*.png"))):
        suffix = "robustness" if plot.stem == "robustness" else f"image-{number}"
        shutil.copy(plot, args.out / f"{args.name}-{suffix}.png")


def build_tables(args: argparse.Namespace, results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Build the tables of the methods and of AP by downscaling factor."""
    seeds = f"{args.seeds} seeds: mean ± standard deviation; {args.steps} steps each"
    shared_detector = "the same detector for all rows but SR4IR and fine-tuned"
    size = f"crops of {args.dataset_crop_size} px" if args.dataset_crop_size else "whole images"
    first = {
        "caption": f"{args.name}: {size}, each side 1/{args.downscale}, {shared_detector}; {seeds}",
        "rows": method_rows(results),
    }
    curves = results[0].get("robustness", {})
    rows = [
        {"method": name, **{f"1/{k}": round(100 * ap, 1) for k, ap in curve.items()}} for name, curve in curves.items()
    ]
    return [first, {"caption": "AP (%) by downscaling factor, seed 0", "rows": rows}][: 1 + bool(rows)]


def train_detector(args: argparse.Namespace) -> str:
    """Train a small Faster R-CNN on the full-size training images; return its run folder."""
    model = quick_detector_config()
    if args.weights:
        pretrained = {"backbone_weights": args.weights, "norm": "frozen", "frozen_stages": 1, "mean_std": (0.5, 0.5)}
        model = replace(model, backbone="mobilenetv2_100", **pretrained)
    data = DataConfig(str(args.data), batch_size=args.detector_batch_size, min_size=(), num_workers=0)
    train = StageConfig(args.detector_steps, quick_optimizer())
    settings = replace(baseline.Settings.quick(), model=model, data=data, train=train)
    with Run(args.runs / "detector", settings, device=args.device) as run:
        baseline.train(settings, run)
    return str(args.runs / "detector")


def fine_tune_baseline(args: argparse.Namespace, detector: str, seed: int) -> str:
    """Fine-tune the detector on bicubically enlarged low-resolution images, with the steps of the networks; return its run folder."""
    folder, data = (
        args.runs / f"fine-tuned-{seed}",
        replace(load_data_config(detector), batch_size=args.batch_size // 2),
    )
    stage = StageConfig(args.steps, FINE_TUNING_OPTIMIZER)
    with Run(folder, stage, seed, args.device) as run:
        T = load_detector_by_name(detector, "DEFAULT")
        loader = build_train_loader(data, build_dataset(data), run.seed)
        fine_tune_detector(T, DegradeAndUpscale(BicubicSR(args.downscale), args.downscale), loader, stage, run)
        save_joint_detector(T, detector, run.folder)
    return str(folder)


def run_seed(args: argparse.Namespace, detector: str, seed: int) -> dict[str, Any]:
    """Train and evaluate all candidates with one seed."""
    folders = {}
    for name, candidate in build_candidates(args.tdsr_weight).items():
        folder = args.runs / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"
        settings = build_settings(args, detector, candidate)
        with Run(folder, settings, seed, args.device) as run:
            fdsr.train(settings, run)
        folders[name] = str(folder)
    fine_tuned = fine_tune_baseline(args, detector, seed)
    config = evaluation.SRDetectionConfig(
        detector,
        folders,
        fine_tuned,
        downscale=args.downscale,
        num_quality_images=args.quality_images,
        device=args.device,
    )
    plots = {"num_examples": 0}
    if seed == 0:
        plots = {"downscale_sweep": tuple(args.downscale_sweep), "num_examples": args.examples}
    results = evaluate_once(replace(config, **plots), args.runs / f"seed-{seed}")
    print(evaluation.format_sr_detection(results["pipelines"]), flush=True)
    return results


def evaluate_once(config: evaluation.SRDetectionConfig, folder: Path) -> dict[str, Any]:
    """Return the results in ``folder`` if they have the same configuration; evaluate otherwise."""
    path = folder / "sr_detection.json"
    if path.exists() and json.loads(path.read_text())["settings"] == to_jsonable(config):
        return json.loads(path.read_text())
    return json.loads(json.dumps(to_jsonable(evaluation.evaluate_sr_detection(config, folder))))


def build_settings(args: argparse.Namespace, detector: str, candidate: Candidate) -> fdsr.Settings:
    """Return the quick settings of a candidate. TDSR and SR4IR need annotations, so they use the data of the detector."""
    needs_boxes = candidate.loss_weights.detection or candidate.detector_optimizer
    root = args.data if needs_boxes or not args.images else args.images
    quick = fdsr.Settings.quick()
    return replace(
        quick,
        network=SuperResolverConfig(candidate.network, args.downscale, NETWORK_OPTIONS[candidate.network]),
        feature_extractor=FeatureExtractorConfig(detector, ("c3", "c4")),
        loss_weights=candidate.loss_weights,
        data=CropDataConfig(
            str(root), crop_size=args.crop_size, batch_size=args.batch_size, num_images=0, num_workers=0
        ),
        train=replace(quick.train, steps=args.steps),
        detector_optimizer=candidate.detector_optimizer,
    )


def method_rows(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return mean ± standard deviation over seeds for each method: AP in percent, PSNR of Y in dB, SSIM and FSIM."""
    table = []
    for name in results[0]["pipelines"]:
        rows = [result["pipelines"][name] for result in results]
        cells = {
            key: [None if row["metrics"][key] is None else 100 * row["metrics"][key] for row in rows] for key in AP_KEYS
        }
        row = {key: format_mean_std(values, 1) for key, values in cells.items()}
        row |= {
            key: format_mean_std([seed_row["quality"][key] for seed_row in rows], digits)
            for key, digits in QUALITY_DIGITS.items()
            if "quality" in rows[0]
        }
        table.append({"method": name, **row})
    return table


def format_mean_std(values: list[Any], digits: int) -> str | None:
    """Format as "12.3 ± 0.4"; None if a value is missing."""
    if None in values:
        return None
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(set(values)) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{deviation}"


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="COCO folder of the detector's training data")
    parser.add_argument("--images", default="", help="Training images of the networks; default: those of the detector")
    parser.add_argument("--weights", default="", help="Weights of a MobileNetV2 backbone; default: a ResNet-10")
    parser.add_argument("--detector", default="", help="Run folder of a detector; default: train one")
    parser.add_argument(
        "--dataset-crop-size", type=int, default=0, help="Side of dataset crops in pixels; 0 uses whole images"
    )
    parser.add_argument("--crops-per-image", type=int, default=2, help="Dataset crops per validation image")
    parser.add_argument("--runs", type=Path, default=Path("runs/fdsr-benchmark"))
    parser.add_argument("--name", default="fdsr", help="Name of the result file")
    parser.add_argument("--out", type=Path, default=RESULTS, help="Folder of the result file")
    for name, default, description in (
        ("seeds", 3, "Number of seeds"),
        ("steps", 200, "Steps of each network and of the fine-tuned detector"),
        ("batch-size", 4, "Crops per step of a network; twice the images per step of the fine-tuned detector"),
        ("detector-steps", 400, "Steps of the detector"),
        ("detector-batch-size", 4, "Images per step of the detector"),
        ("crop-size", 96, "Side of the training crops of the networks in pixels"),
        ("downscale", 4, "Downscaling factor per side"),
        ("quality-images", 8, "Images for PSNR, SSIM and FSIM"),
        ("examples", 3, "Example images with detections"),
        ("threads", 1, "PyTorch threads"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=description)
    parser.add_argument(
        "--downscale-sweep", type=int, nargs="*", default=[2, 4, 8], help="Factors of the robustness curve"
    )
    parser.add_argument("--tdsr-weight", type=float, default=0.05, help="Weight of the detector's losses in TDSR")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


if __name__ == "__main__":
    main()
