r"""`featlift.train_level` on YOLOX-Nano with its COCO weights, without labels: accuracy on held-out COCO images, and cost.

Candidates are interpolators of the level, alone (``carafe``) or corrected by the guided network (``carafe+guided``); all take equal steps.
Each is evaluated everywhere in the image and in windows around the detector's own small boxes (``--min-score``). References are the plain
detector, the image at twice the size, and the bound: the level with the coarsest map of the enlarged image itself.

Steps, each resumable (needs ``pip install pixeltable-yolox``)::

    python benchmarks/coco_level.py train    --out OUT --candidates nearest+guided --seeds 3 --steps 600
    python benchmarks/coco_level.py evaluate --out OUT --candidates nearest+guided --seeds 3 --steps 600 --name coco_level
    python benchmarks/coco_level.py time     --out OUT --candidates nearest+guided --steps 600 --name coco_level_time

Results: ``benchmarks/results/<name>.json``.
"""

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from coco_level_data import UNLABELED, CocoImages, open_held_out
from data_folder import DATA
from run import collect_metadata, write_result
from torch import Tensor, nn

import featlift
from featlift.data.dataset import ImageDataset
from featlift.evaluation.coco_metrics import Detection, coco_metrics
from featlift.evaluation.detection import detect_dataset
from featlift.evaluation.seeds import paired_seed_bootstrap
from featlift.integrations.yolox import YOLOXDetector, load_yolox
from featlift.runs.level_training import LevelTrainingOptions
from featlift.training.seeds import seed_everything
from featlift.upgrading import enable_level
from featlift.upgrading.extended_family import enlarge
from featlift.upgrading.extended_yolox import YOLOXFamily

WEIGHTS = DATA / "weights" / "yolox_nano_coco.onnx"
METRICS = ("ap", "ap50", "ap_small", "ap_medium", "ap_large", "ar_small")
IMAGE_SIZE, MAX_SIZE = 416, 32.0
Row = dict[str, Any]


class TrueCoarseMap(nn.Module):
    """In place of the upsampler: the coarsest map of the pass on the enlarged image, by a hook on the plain pass."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.images: list[Tensor] = []
        network.get_submodule("backbone").register_forward_pre_hook(lambda _, args: self.images.append(args[0]))
        self.network = [network]  # in a list: not a submodule

    def forward(self, x: Tensor, guides: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """``[B, C, h, w]`` → ``[B, C, *size]``."""
        family, image = YOLOXFamily(), self.images.pop()
        self.images.clear()
        return family.coarse_map(self.network[0], family.early_maps(self.network[0], enlarge(image)))


def build_candidate(name: str, seed: int) -> nn.Module:
    """Return YOLOX-Nano with the untrained level of the candidate ``name``, in channels-last format."""
    interpolator, _, guided = name.partition("+")
    network = load_yolox(WEIGHTS).eval().to(memory_format=torch.channels_last)
    seed_everything(seed)
    featlift.upgrade(network, interpolator, level="p3x", **({} if guided else {"num_blocks": 0}))
    return network.to(memory_format=torch.channels_last)


def train_candidate(name: str, seed: int, args: argparse.Namespace) -> nn.Module:
    """Train the candidate, or load its finished training, and enable the level."""
    network, folder = build_candidate(name, seed), args.out / f"{name}_{args.steps}_seed{seed}"
    delta = folder.with_suffix(".safetensors")
    if delta.exists():
        featlift.load_delta(network, delta)
        return network
    if next(iter(featlift.added_parameters(network)), None) is None or args.steps == 0:
        enable_level(network, MAX_SIZE)
        return network
    options = LevelTrainingOptions(args.steps, image_size=IMAGE_SIZE, batch_size=args.batch_size, seed=seed)
    print(featlift.train_level(network, UNLABELED, folder, options, MAX_SIZE), flush=True)
    featlift.save_delta(network, delta)
    return network


def build_reference(name: str) -> nn.Module:
    """``plain``, ``2x image`` or ``bound``, with torchvision's interface."""
    network = load_yolox(WEIGHTS).eval().to(memory_format=torch.channels_last)
    if name == "2x image":
        return YOLOXDetector(network, 2 * IMAGE_SIZE)
    if name == "bound":
        featlift.upgrade(network, level="p3x")
        network.added_level = TrueCoarseMap(network)
        enable_level(network, MAX_SIZE)
    return YOLOXDetector(network, IMAGE_SIZE)


def train(args: argparse.Namespace) -> None:
    """Train all candidates and seeds, one after the other."""
    for seed, name in itertools.product(args.seed_numbers, args.candidates):
        train_candidate(name, seed, args)


def detect(detector: nn.Module, images: CocoImages, file: Path) -> list[Detection]:
    """Detections of ``detector`` on ``images``, stored in ``file``."""
    if not file.exists():
        ids = images.label_ids
        detections = detect_dataset(detector, images.dataset, label_ids=ids).detections
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(detections))
    return json.loads(file.read_text())


def evaluate(args: argparse.Namespace) -> None:
    """Write metrics of the references and candidates, with differences from the plain detector."""
    tables = []
    for images in (open_held_out(name, args.out) for name in args.sets):
        folder = args.out / f"detections_{images.name}"
        plain = detect(build_reference("plain"), images, folder / "plain.json")
        rows: list[Row] = [{"level": "none"} | metrics_row([plain], images.dataset)]
        for name in ("2x image", "bound"):
            found = [detect(build_reference(name), images, folder / f"{name}.json")]
            rows.append({"level": name} | metrics_row(found, images.dataset) | differences(plain, found, images, args))
        for name, score in itertools.product(args.candidates, args.min_score):
            found = []
            for seed in args.seed_numbers:
                network = train_candidate(name, seed, args)
                enable_level(network, MAX_SIZE, score)
                file = folder / f"{name}_{args.steps}_seed{seed}_score{score:g}.json"
                found.append(detect(YOLOXDetector(network, IMAGE_SIZE), images, file))
            row = {"level": name, "windows above score": score or "everywhere"} | metrics_row(found, images.dataset)
            rows.append(row | differences(plain, found, images, args))
            print(rows[-1], flush=True)
        tables.append({"caption": f"{images.title}: {len(images.dataset)} images, {args.steps} steps", "rows": rows})
    write(args, tables)


def metrics_row(found: Sequence[list[Detection]], dataset: ImageDataset, names: Sequence[str] = METRICS) -> Row:
    """Metrics in percent, mean over seeds (± standard deviation of several); without those of sizes that no object has."""
    values = [coco_metrics(dataset.coco(), one) for one in found]
    row = {}
    for name in (name for name in names if values[0][name] is not None):
        percents = [100 * one[name] for one in values]
        spread = f" ± {statistics.stdev(percents):.1f}" if len(percents) > 1 else ""
        row[name] = f"{statistics.mean(percents):.1f}{spread}"
    return row


def differences(
    plain: list[Detection], found: Sequence[list[Detection]], images: CocoImages, args: argparse.Namespace
) -> Row:
    """Differences from the plain detector with 95 % intervals over images and seeds."""
    intervals = paired_seed_bootstrap(images.dataset.coco(), [plain] * len(found), found, n_resamples=args.n_resamples)
    return {f"{name} - plain": intervals[name].percent_text for name in METRICS if name in intervals}


def measure_time(args: argparse.Namespace) -> None:
    """Write the CPU time per image of every detector, interleaved image by image, on ``--num-images`` held-out images."""
    images = open_held_out(args.sets[0], args.out).dataset
    detectors: dict[str, nn.Module] = {name: build_reference(name) for name in ("plain", "2x image")}
    for name, score in itertools.product(args.candidates, args.min_score):
        network = train_candidate(name, 0, args)
        enable_level(network, MAX_SIZE, score)
        detectors[f"{name}, {f'windows above {score:g}' if score else 'everywhere'}"] = YOLOXDetector(
            network, IMAGE_SIZE
        )
    seconds: dict[str, list[float]] = {name: [] for name in detectors}
    for index in range(min(args.num_images, len(images))):
        image = images[index][0]
        for name, detector in detectors.items():
            start = time.process_time()
            with torch.inference_mode():
                detector([image])
            seconds[name].append(time.process_time() - start)
    write(
        args,
        [
            {
                "caption": f"CPU time per image, letterboxing included, on {len(seconds['plain'])} images",
                "rows": time_rows(seconds),
            }
        ],
    )


def time_rows(seconds: Mapping[str, Sequence[float]]) -> list[Row]:
    """Mean time per image, and what a detector takes more than the plain one, as a share of what the 2x image takes more."""
    means = {name: statistics.mean(values[2:]) for name, values in seconds.items()}
    extra = means["2x image"] - means["plain"]
    return [
        {
            "detector": name,
            "ms": round(1e3 * mean, 1),
            "x plain": round(mean / means["plain"], 2),
            "extra / 2x image's extra": round((mean - means["plain"]) / extra, 2),
        }
        for name, mean in means.items()
    ]


def write(args: argparse.Namespace, tables: list[dict[str, Any]]) -> None:
    """Write the result file ``args.name``."""
    options = [args.step, "--candidates", *args.candidates, "--seeds", str(args.seeds), "--steps", str(args.steps)]
    options += [
        "--batch-size",
        str(args.batch_size),
        "--min-score",
        *map(str, args.min_score),
        "--name",
        args.name,
    ]
    command = " ".join(["python benchmarks/coco_level.py", *options])
    metadata = collect_metadata(torch.device("cpu"), command) | {"seed": ", ".join(map(str, args.seed_numbers))}
    print(write_result(args.name, tables, metadata))


STEPS = {"train": train, "evaluate": evaluate, "time": measure_time}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--out", type=Path, required=True, help="Folder of runs and detections")
    parser.add_argument("--candidates", nargs="+", default=["nearest+guided"])
    parser.add_argument("--seeds", type=int, default=3, help="Number of seeds")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--min-score", type=float, nargs="+", default=[0.0, 0.1], help="0: everywhere")
    parser.add_argument("--sets", nargs="+", default=["coco80", "persons"])
    parser.add_argument("--num-images", type=int, default=60)
    parser.add_argument("--n-resamples", type=int, default=500)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--name", default="coco_level")
    args = parser.parse_args()
    args.seed_numbers = range(args.first_seed, args.first_seed + args.seeds)
    torch.set_num_threads(args.threads)
    STEPS[args.step](args)


if __name__ == "__main__":
    main()
