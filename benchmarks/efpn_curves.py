"""Figs. 1b and 5 of EFPN for trained detectors: AP and AR by the size of objects, and AP by the size of the images.

    python benchmarks/efpn_curves.py runs/fpn runs/efpn --scales 1 1.25 1.5 1.75 2 2.5 --out runs/curves

Writes ``by_size.png`` (Fig. 1b), ``by_scale.png`` (Fig. 5) and ``curves.json`` into the output folder. A run of ``featlift train efpn`` has
its base detector in ``base_detector.safetensors``.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from featlift.checkpoints.json_io import write_json
from featlift.data.config import build_dataset, load_data_config
from featlift.data.dataset import ImageDataset
from featlift.detectors.checkpoint import load_detector
from featlift.detectors.multi_scale import MultiScaleTTA
from featlift.device import resolve_device
from featlift.evaluation.class_mapping import LabelIds, match_classes
from featlift.evaluation.detection import detection_limit, evaluate_detector
from featlift.evaluation.size_curves import SIZE_EDGES, metrics_by_size
from featlift.report.seed_curves import plot_seed_curves

SCALES = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5)


def measure(
    detector: nn.Module, dataset: ImageDataset, label_ids: LabelIds, scales: Sequence[float], device: str
) -> dict[str, Any]:
    """Return ``"by_size"``, AP and AR of each range of object sizes at scale 1, and ``"by_scale"``, the metrics at each of ``scales``."""
    detector, limit, curves = detector.to(device).eval(), detection_limit(detector), {}
    for scale in scales:
        predictor = MultiScaleTTA(detector, (scale,), hflip=False, max_detections=limit).eval()
        evaluation = evaluate_detector(predictor, dataset, device=device, label_ids=label_ids)
        curves[scale] = {
            name: evaluation.metrics["boxes"][name] for name in ("ap", "ap_small", "ap_medium", "ap_large")
        }
    plain = evaluate_detector(detector, dataset, device=device, label_ids=label_ids)
    by_size = metrics_by_size(dataset.coco(), plain.detections, max_detections=limit)
    return {"by_size": [asdict(size) for size in by_size if size.num_objects], "by_scale": curves}


def plot(results: Mapping[str, Mapping[str, Any]], folder: Path) -> list[Path]:
    """Plot Figs. 1b and 5 from the results of :func:`measure` by name."""
    by_size, by_scale = {}, {}
    for name, result in results.items():
        for metric in ("ap", "ar"):
            by_size[f"{name}, {metric.upper()}"] = {
                min(size["high"], SIZE_EDGES[-2] * 2): [100 * size[metric]] for size in result["by_size"]
            }
        for metric in ("ap", "ap_small"):
            values = {float(scale): metrics[metric] for scale, metrics in result["by_scale"].items()}
            found = {scale: [100 * value] for scale, value in values.items() if value is not None}
            by_scale |= {f"{name}, {metric.replace('ap', 'AP').replace('_', ' ')}": found} if found else {}
    plot_seed_curves(by_size, folder / "by_size.png", "size of objects, √area up to … px", "AP, AR (%)")
    plot_seed_curves(by_scale, folder / "by_scale.png", "scale of the images", "AP (%)")
    return [folder / "by_size.png", folder / "by_scale.png"]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="Run folders or detector files")
    parser.add_argument("--data", default="", help="Dataset; default: the data of the first run")
    parser.add_argument("--scales", type=float, nargs="+", default=SCALES, help="Factors of the test size")
    parser.add_argument("--out", type=Path, default=Path("runs/curves"), help="Output folder")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args(argv)
    dataset, device = (
        build_dataset(load_data_config(args.models[0], args.data), "val"),
        str(resolve_device(args.device)),
    )
    results = {}
    for path in args.models:
        detector, classes = load_detector(path)
        results[Path(path).stem] = measure(detector, dataset, match_classes(classes, dataset), args.scales, device)
    args.out.mkdir(parents=True, exist_ok=True)
    write_json(args.out / "curves.json", results)
    print(*plot(results, args.out), sep="\n")


if __name__ == "__main__":
    main()
