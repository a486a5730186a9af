"""EFPN's Figs. 6 and 8 of the runs that ``benchmarks/efpn.py NAME`` left: ``python benchmarks/efpn_pictures.py NAME``.

``benchmarks/results/efpn_<name>-maps.png`` has p3x and p2x as they should be and as each transfer makes them, with the first seed;
``…-detections.png`` what the start, EFPN and the detector trained on at twice the size find, miss and make up in the same pictures.
"""

import argparse
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from efpn import called, first_pictures, shortened
from rivals import CASES, START, Case, Contestant, everyone
from run import RESULTS
from torch import Tensor, nn

from featlift.data.dataset import ImageDataset
from featlift.evaluation.detection import detect_dataset
from featlift.papers import baseline, efpn
from featlift.report import figure
from featlift.report.examples import classify_detections

TRANSFERS = ("ftt", "espcn", "nearest")
SEEN = (START, "EFPN, ftt", "FPN, 2x picture, trained on")


def maps(trained: Mapping[str, Contestant], image: Tensor, path: Path) -> Path:
    """Fig. 6 on one picture ``[3, H, W]``."""
    made = {name: efpn.extended_level_maps(trained[f"EFPN, {name}"].detector, image) for name in TRANSFERS}  # type: ignore[arg-type]
    return figure.plot_feature_maps(
        path, image, {"target": made[TRANSFERS[0]]["target"], **{name: one["extension"] for name, one in made.items()}}
    )


def detections(trained: Mapping[str, nn.Module], shown: ImageDataset, case: Case, count: int, path: Path) -> Path:
    """Fig. 8 on the ``count`` pictures with the most objects of those that are measured on."""
    truth = first_pictures(shown, case.measured)
    indices = range(len(truth["images"]))
    judged = {
        name: classify_detections(truth, detect_dataset(one, shown, indices, progress=False).detections)[0]
        for name, one in trained.items()
    }
    objects = Counter(annotation["image_id"] for annotation in truth["annotations"])
    places = {image["id"]: index for index, image in enumerate(truth["images"])}
    rows = [
        (shown[places[image]][0], {name: marks.get(image, []) for name, marks in judged.items()})
        for image, _ in objects.most_common(count)
    ]
    return figure.plot_verdicts(path, rows)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=CASES)
    parser.add_argument("--runs", type=Path, default=Path("runs/efpn"), help="where efpn.py kept its runs")
    parser.add_argument("--start", type=float, default=1.0, help="as efpn.py had it")
    parser.add_argument("--count", type=int, default=2, help="pictures with detections")
    given = parser.parse_args()
    for name in given.names:
        case = shortened(CASES[name](), 1.0, None, given.start)
        shown = baseline.build_dataset(case.settings.data, "val")
        name = called(name, given.start)
        trained = everyone(case, TRANSFERS, given.runs / name / "0", 0)
        print(maps(trained, shown[0][0], RESULTS / f"efpn_{name}-maps.png"))
        detectors = {one: trained[one].detector for one in SEEN}
        print(detections(detectors, shown, case, given.count, RESULTS / f"efpn_{name}-detections.png"))


if __name__ == "__main__":
    main()
