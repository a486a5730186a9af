"""EFPN's Figs. 6 and 8 for the runs of ``benchmarks/efpn.py NAME``: ``python benchmarks/efpn_figures.py NAME``.

``benchmarks/results/efpn_<name>-maps.png`` has p3x and p2x of the teacher and of each transfer (first seed); ``…-detections.png`` has the
true positives, missed objects and false positives of the base detector, of EFPN and of the detector trained at twice the image size.
"""

import argparse
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from efpn import first_images, result_name, scale_case
from efpn_baselines import BASE, CASES, DOUBLE_SIZE, Candidate, Case, train_candidates
from run import RESULTS
from torch import Tensor, nn

from featlift.data.config import build_dataset
from featlift.data.dataset import ImageDataset
from featlift.evaluation.detection import detect_dataset
from featlift.papers.efpn.evaluation import extended_level_maps
from featlift.report import figure
from featlift.report.examples import classify_detections

TRANSFERS = ("ftt", "espcn", "nearest")
DETECTORS = (BASE, "EFPN, ftt", f"{DOUBLE_SIZE}, longer training")


def plot_maps(candidates: Mapping[str, Candidate], image: Tensor, path: Path) -> Path:
    """Plot Fig. 6 for one image ``[3, H, W]``."""
    maps = {name: extended_level_maps(candidates[f"EFPN, {name}"].detector, image) for name in TRANSFERS}  # type: ignore[arg-type]
    extensions = {name: transfer_maps["extension"] for name, transfer_maps in maps.items()}
    return figure.plot_feature_maps(path, image, {"target": maps[TRANSFERS[0]]["target"], **extensions})


def plot_detections(
    detectors: Mapping[str, nn.Module], dataset: ImageDataset, case: Case, count: int, path: Path
) -> Path:
    """Plot Fig. 8 for the ``count`` evaluated images with the most objects."""
    truth = first_images(dataset, case.num_images)
    indices = range(len(truth["images"]))
    boxes_by_name = {
        name: classify_detections(truth, detect_dataset(detector, dataset, indices, progress=False).detections)[0]
        for name, detector in detectors.items()
    }
    objects = Counter(annotation["image_id"] for annotation in truth["annotations"])
    index_by_id = {image["id"]: index for index, image in enumerate(truth["images"])}
    rows = [
        (dataset[index_by_id[image_id]][0], {name: boxes.get(image_id, []) for name, boxes in boxes_by_name.items()})
        for image_id, _ in objects.most_common(count)
    ]
    return figure.plot_verdicts(path, rows)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=CASES)
    parser.add_argument("--runs", type=Path, default=Path("runs/efpn"), help="Folder of the runs of efpn.py")
    parser.add_argument("--start", type=float, default=1.0, help="As in efpn.py")
    parser.add_argument("--count", type=int, default=2, help="Number of images with detections")
    args = parser.parse_args()
    for case_name in args.names:
        case = scale_case(CASES[case_name](), 1.0, None, args.start)
        dataset = build_dataset(case.settings.data, "val")
        name = result_name(case_name, args.start)
        candidates = train_candidates(case, TRANSFERS, args.runs / name / "0", 0)
        print(plot_maps(candidates, dataset[0][0], RESULTS / f"efpn_{name}-maps.png"))
        detectors = {label: candidates[label].detector for label in DETECTORS}
        print(plot_detections(detectors, dataset, case, args.count, RESULTS / f"efpn_{name}-detections.png"))


if __name__ == "__main__":
    main()
