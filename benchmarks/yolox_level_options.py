"""Options of ``yolox_level.py``."""

import argparse
from pathlib import Path

RUNS_HELP = "Checkpoints of train, or bound"
NATIVE_HELP = "The level reads the original image letterboxed to 832 px, not the 416 px image enlarged"
MAX_SIZE_HELP = "Only boxes of the level below this size (square root of the area, px) are added"


def build_parser(description: str | None, weights: Path) -> argparse.ArgumentParser:
    """Return the parser; ``weights`` is the default of ``--weights``, and ``args.step`` becomes the name of the step."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(dest="step", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--weights", type=Path, default=weights, help="Published ONNX file of YOLOX-Nano")
    common.add_argument("--cache", type=Path, required=True, help="Folder for stored maps (about 9 GB)")
    common.add_argument("--threads", type=int, default=1, help="PyTorch threads")
    for name, text, add_options in (
        ("cache", "store maps of unlabeled images", _add_cache_options),
        ("held-out", "store maps and boxes of labeled images", _add_held_out_options),
        ("train", "train a student without labels", _add_train_options),
        ("rules", "compare rules of merging", _add_rules_options),
        ("calibrate", "compare score factors without labels", _add_calibrate_options),
        ("tiles", "compute the level only around small boxes", _add_tiles_options),
        ("evaluate", "compare students with the plain detector and the bound", _add_evaluate_options),
    ):
        add_options(steps.add_parser(name, parents=[common], help=text, description=text))
    return parser


def _add_cache_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=Path, required=True, help="Folder of unlabeled images")
    parser.add_argument("--native", action="store_true", help=NATIVE_HELP)


def _add_held_out_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", required=True, help="Name of the set")
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="Folders of images")
    parser.add_argument("--ground-truth", type=Path, nargs="+", required=True, help="COCO file of each folder")
    parser.add_argument("--exclude", type=Path, nargs="*", default=[], help="Folders whose images are left out")
    parser.add_argument("--native", action="store_true", help=NATIVE_HELP)


def _add_train_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=Path, required=True, help="Folder for checkpoints")
    parser.add_argument("--student", required=True, help="lateral, reduce, NAME:INTERPOLATOR or an interpolator")
    parser.add_argument("--options", default="{}", help="Options of the student, JSON")
    parser.add_argument("--settings", default="{}", help="Further fields of DistillationSettings, JSON")
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--evaluate-at", type=int, nargs="*", default=[500, 1000, 2000, 4000, 8000, 16000])
    parser.add_argument("--held-out", nargs="*", default=["val80"], help="Sets to evaluate on")


def _add_rules_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", nargs="+", required=True, help=RUNS_HELP)
    parser.add_argument("--held-out", required=True)
    parser.add_argument("--max-size", type=float, nargs="+", default=[24.0, 32.0, 48.0], help=MAX_SIZE_HELP)
    parser.add_argument("--score-factor", type=float, nargs="+", default=[0.5, 0.7, 1.0, 1.4])
    parser.add_argument("--score-power", type=float, nargs="+", default=[1.0])
    parser.add_argument("--min-plain-size", type=float, nargs="+", default=[0.0, 32.0])
    parser.add_argument("--name", required=True, help="Name of the result")


def _add_calibrate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", nargs="+", required=True, help=RUNS_HELP)
    parser.add_argument("--num-images", type=int, default=250)
    parser.add_argument("--min-score", type=float, default=0.3, help="Minimum score of the teacher's boxes")
    parser.add_argument("--max-size", type=float, nargs="+", default=[32.0], help=MAX_SIZE_HELP)
    parser.add_argument("--score-factor", type=float, nargs="+", default=[0.7, 1.0, 1.5, 2.0, 3.0])
    parser.add_argument("--score-power", type=float, nargs="+", default=[1.0])
    parser.add_argument("--name", required=True, help="Name of the result")


def _add_tiles_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", required=True, help="Checkpoint of train, or bound")
    parser.add_argument("--held-out", required=True)
    parser.add_argument("--tile-max-size", type=float, default=48.0, help="Plain boxes below this size select tiles")
    parser.add_argument("--min-score", type=float, nargs="+", default=[0.01, 0.02, 0.05, 0.1])
    parser.add_argument("--margin", type=int, nargs="+", default=[0, 1, 2], help="Tiles around those with a box")
    parser.add_argument("--max-size", type=float, default=32.0, help=MAX_SIZE_HELP)
    parser.add_argument("--score-factor", type=float, default=1.0)
    parser.add_argument("--name", required=True, help="Name of the result")


def _add_evaluate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", nargs="*", default=[], help="Checkpoints of train")
    parser.add_argument("--untrained", nargs="*", default=["nearest", "lateral:nearest", "lateral:bilinear"])
    parser.add_argument("--score-factor", type=float, nargs="+", default=[1.0, 1.5, 2.0])
    parser.add_argument("--held-out", nargs="+", required=True)
    parser.add_argument("--max-size", type=float, nargs="+", default=[32.0], help=MAX_SIZE_HELP)
    parser.add_argument("--interval-max-size", type=float, default=32.0, help="Maximum size with intervals")
    parser.add_argument("--native", action=argparse.BooleanOptionalAction, default=True, help="Native 2x image")
    parser.add_argument("--reference", default="", help="Level (or stem of a run) that levels are also compared with")
    parser.add_argument("--rounds", type=int, default=15, help="Rounds of timing")
    parser.add_argument("--n-resamples", type=int, default=1000)
    parser.add_argument("--name", required=True, help="Name of the result")
