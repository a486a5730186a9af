r"""Small objects with labels, from a detector that has converged: YOLOX-Nano with its COCO weights, fine-tuned to traffic signs (GTSDB).

1. ``curve`` fine-tunes the detector in parts of ``--every`` steps and evaluates it after each, so that one sees where it no longer gains.
2. ``continue`` trains copies of the detector of ``--start`` steps further, with equal steps: with nearest interpolation, and with each
   learned interpolator in both upsampling steps of the neck. The level p3x is learned without labels for the same number of steps.
3. ``evaluate`` compares them with the detector trained further with nearest interpolation: paired bootstrap over images and seeds. The
   detectors that need no training of their own (the start, larger images, overlapping slices) are evaluated, too.

Each step can be resumed (needs ``pip install pixeltable-yolox``)::

    python benchmarks/converged.py curve    --out OUT --steps 2000
    python benchmarks/converged.py continue --out OUT --start 2000 --further 300 --seeds 3 --methods nearest light carafe
    python benchmarks/converged.py evaluate --out OUT --start 2000 --further 300 --seeds 3 --methods nearest light carafe

Results: ``benchmarks/results/converged_<curve or methods>_<data>.json``.
"""

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import Any

import torch
from coco_level import WEIGHTS, metrics_row
from data_folder import DATA
from run import collect_metadata, write_result
from safetensors.torch import load_file, save_file
from torch import nn

import featlift
from featlift.data.config import DataConfig, build_dataset, build_train_loader
from featlift.data.dataset import ImageDataset
from featlift.evaluation.coco_metrics import Detection
from featlift.evaluation.detection import detect_dataset
from featlift.evaluation.seeds import paired_seed_bootstrap
from featlift.integrations.yolox import YOLOXDetector, load_yolox
from featlift.integrations.yolox_network import build_yolox
from featlift.runs.level_training import LevelTrainingOptions
from featlift.training import Learner, OptimizerConfig, Run, fit
from featlift.training.seeds import seed_everything
from featlift.upgrading import enable_level

METRICS = ("ap", "ap50", "ap_small", "ap_medium", "ar_small")
IMAGE_SIZE, MAX_SIZE = 416, 32.0
LEVEL = "p3x"
LARGER = {"1.5x image": 1.5, "2x image": 2.0}
Row = dict[str, Any]


def data_config(args: argparse.Namespace) -> DataConfig:
    """Images of their own size, which the detector letterboxes; half of them flipped."""
    return DataConfig(str(DATA / args.data), args.batch_size, min_size=(), with_masks=False, num_workers=0)


def build_start(num_classes: int) -> nn.Module:
    """YOLOX-Nano with COCO's weights and a new last layer of ``num_classes`` classes."""
    network = build_yolox("nano", num_classes, fused=True)
    pretrained = load_yolox(WEIGHTS).state_dict()
    network.load_state_dict({k: v for k, v in pretrained.items() if "cls_preds" not in k}, strict=False)
    return network.to(memory_format=torch.channels_last)


def load_start(args: argparse.Namespace, num_classes: int, steps: int) -> nn.Module:
    """Load the detector fine-tuned for ``steps`` steps."""
    network = build_start(num_classes)
    if steps:
        network.load_state_dict(load_file(args.out / args.data / f"{steps}.safetensors"))
    return network


def save_weights(network: nn.Module, file: Path) -> None:
    """Write the weights of ``network`` to ``file``."""
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, file)


def train(
    network: nn.Module, folder: Path, seed: int, optimizer: OptimizerConfig, steps: int, config: DataConfig
) -> None:
    """Train all parameters with YOLOX's losses; an interrupted training is resumed."""
    detector = YOLOXDetector(network, IMAGE_SIZE).train()
    with Run(folder, {"steps": steps, "optimizer": optimizer, "data": config}, seed, "cpu", save_every=100) as run:
        learner = Learner(detector, optimizer, steps)
        loader = build_train_loader(config, build_dataset(config), seed)
        fit(lambda images, targets: learner.step(detector(images, targets)), loader, steps, run, {"detector": learner})
        learner.apply_ema()
    network.eval()


def detect(detector: nn.Module, dataset: ImageDataset, file: Path) -> list[Detection]:
    """Detections of ``detector``, stored in ``file`` with the CPU time per image."""
    if not file.exists():
        start = time.process_time()
        found = detect_dataset(detector.eval(), dataset).detections
        milliseconds = 1e3 * (time.process_time() - start) / len(dataset)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"ms": milliseconds, "detections": found}))
    return json.loads(file.read_text())["detections"]


def curve(args: argparse.Namespace) -> None:
    """Fine-tune in parts at a constant learning rate, each averaged over its steps (EMA), and evaluate after each."""
    config = data_config(args)
    dataset, folder = build_dataset(config, "val"), args.out / args.data
    optimizer = OptimizerConfig("adamw", args.lr, warmup_steps=20, max_grad_norm=10.0, ema_decay=0.98)
    rows = []
    for number, steps in enumerate(range(args.every, args.steps + 1, args.every)):
        file = folder / f"{steps}.safetensors"
        network = load_start(args, len(dataset.classes), steps - args.every)
        if not file.exists():
            train(network, folder / f"curve_{steps}", number, optimizer, args.every, config)
            save_weights(network, file)
        network = load_start(args, len(dataset.classes), steps)
        found = detect(YOLOXDetector(network, IMAGE_SIZE), dataset, folder / f"curve_{steps}.json")
        rows.append({"steps": steps} | metrics_row([found], dataset, METRICS))
        print(rows[-1], flush=True)
    write(args, f"converged_curve_{args.data}", f"{args.data}: fine-tuned for different numbers of steps", rows)


def train_method(name: str, seed: int, args: argparse.Namespace, num_classes: int) -> nn.Module:
    """Train the method ``name`` further from the start, or load it."""
    network, folder = (
        load_start(args, num_classes, args.start),
        args.out / args.data / f"{name}_{args.further}_seed{seed}",
    )
    seed_everything(seed)
    if name != "nearest":
        featlift.upgrade(network, "" if name == LEVEL else name, level=LEVEL if name == LEVEL else "")
    network.to(memory_format=torch.channels_last)
    file = folder.with_suffix(".safetensors")
    if file.exists():
        network.load_state_dict(load_file(file))
    elif name == LEVEL:
        options = LevelTrainingOptions(args.further, image_size=IMAGE_SIZE, batch_size=4, seed=seed)
        print(featlift.train_level(network, DATA / args.data / "train", folder, options, MAX_SIZE), flush=True)
    else:
        optimizer = OptimizerConfig(
            "adamw", args.lr, warmup_steps=20, max_grad_norm=10.0, schedule="cosine", ema_decay=0.98
        )
        train(network, folder, seed, optimizer, args.further, data_config(args))
    if name == LEVEL:
        enable_level(network, MAX_SIZE)
    if not file.exists():
        save_weights(network, file)
    return network.eval()


def continue_training(args: argparse.Namespace) -> None:
    """Train all methods with all seeds."""
    classes = build_dataset(data_config(args), "val").classes
    for seed, name in itertools.product(range(args.seeds), args.methods):
        train_method(name, seed, args, len(classes))


def evaluate(args: argparse.Namespace) -> None:
    """Write the metrics of all detectors and their differences from nearest interpolation."""
    dataset, folder = build_dataset(data_config(args), "val"), args.out / args.data / "detections"
    classes, seeds = len(dataset.classes), range(args.seeds)
    start = load_start(args, classes, args.start)
    found = {
        "start": [detect(YOLOXDetector(start, IMAGE_SIZE), dataset, folder / f"start_{args.start}.json")] * len(seeds)
    }
    for name in args.methods:
        sizes = {name: 1.0} | (LARGER if name == "nearest" else {})
        for label, scale in sizes.items():
            found[label] = []
            for seed in seeds:
                file = folder / f"{label}_{args.further}_seed{seed}.json"
                size = round(IMAGE_SIZE * scale / 32) * 32
                network = None if file.exists() else train_method(name, seed, args, classes)
                found[label].append(detect(YOLOXDetector(network or start, size), dataset, file))
    rows = []
    for label, runs in found.items():
        row = {"detector": label} | metrics_row(runs, dataset, METRICS)
        if label != "nearest":
            intervals = paired_seed_bootstrap(dataset.coco(), found["nearest"], runs, n_resamples=args.n_resamples)
            row |= {f"{name} - nearest": intervals[name].percent_text for name in METRICS if name in intervals}
        rows.append(row)
        print(row, flush=True)
    caption = f"{args.data}: {args.further} further steps from a detector of {args.start} steps, {args.seeds} seeds"
    write(args, f"converged_methods_{args.data}", caption, rows)


def write(args: argparse.Namespace, name: str, caption: str, rows: list[Row]) -> None:
    """Write a result file with the command that repeats it."""
    values = {key: value for key, value in vars(args).items() if key not in ("step", "out", "threads")}
    words = [
        f"--{key.replace('_', '-')} {' '.join(map(str, v)) if isinstance(v, list) else v}" for key, v in values.items()
    ]
    metadata = collect_metadata(torch.device("cpu"), " ".join(["python benchmarks/converged.py", args.step, *words]))
    print(
        write_result(
            name, [{"caption": caption, "rows": rows}], metadata | {"seed": ", ".join(map(str, range(args.seeds)))}
        )
    )


STEPS = {"curve": curve, "continue": continue_training, "evaluate": evaluate}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--out", type=Path, required=True, help="Folder of runs and detections")
    parser.add_argument("--data", default="gtsdb", help="Folder in the data folder, in the format of COCO")
    parser.add_argument("--steps", type=int, default=2000, help="Steps of the curve")
    parser.add_argument("--every", type=int, default=250, help="Steps between its evaluations")
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--start", type=int, default=2000, help="Steps of the detector from which the methods start")
    parser.add_argument("--further", type=int, default=300, help="Steps of the methods")
    parser.add_argument("--methods", nargs="+", default=["nearest", "light", "carafe", "dysample", "afi", LEVEL])
    parser.add_argument("--seeds", type=int, default=3, help="Number of seeds")
    parser.add_argument("--n-resamples", type=int, default=500)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    STEPS[args.step](args)


if __name__ == "__main__":
    main()
