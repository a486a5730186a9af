"""What FeatLift adds to PyTorch in training, prediction, loading and evaluation: ``python benchmarks/overhead.py``.

FeatLift and a plain loop do the same work on the same network and images, in interleaved rounds on one thread. The time is the CPU time
of the process, which the load of the machine changes little; a ratio is the plain loop's time divided by FeatLift's, so that 1 means no
overhead and more is faster. Peak memory is that of a process of its own for each side. With faster-coco-eval installed
(``pip install faster-coco-eval``), evaluation is compared with it, too. With ``FEATLIFT_DATA``, photographs are decoded in full and by
``fast_decode``, for descriptors of MobileNetV2 and for trainings. Results: ``benchmarks/results/overhead.json``.
"""

import argparse
import contextlib
import copy
import importlib.metadata
import importlib.util
import io
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from data_folder import DATA, MOBILENET
from PIL import Image
from run import RESULTS, SEED, collect_metadata, write_result
from torchvision.datasets import CocoDetection
from torchvision.transforms.functional import pil_to_tensor

from featlift.baseline.training import train_detector
from featlift.data.batches import ResumableDataLoader
from featlift.data.coco import CocoDataset, open_coco_split
from featlift.data.config import DataConfig, build_train_loader
from featlift.data.image_io import read_image, read_reduced_image
from featlift.deployment.predictor import Predictor
from featlift.detectors.config import build_detector, quick_detector_config
from featlift.evaluation.coco_metrics import coco_metrics
from featlift.retrieval.descriptors import downscale_then_resize, embed_images
from featlift.retrieval.embedders import EmbedderConfig, build_embedder
from featlift.training import OptimizerConfig, Run
from featlift.training.memory import read_peak_memory
from featlift.training.schedules import StageConfig

CLASSES = ["a", "b", "c"]
OBJECTS_PER_IMAGE = 8
NUM_PHOTOGRAPHS = 64
Call = Callable[[], object]


def write_dataset(folder: Path, num_images: int, size: int) -> Path:
    """Write JPEG images of smooth noise with ellipses as objects; return the annotation file."""
    rng, images, objects = np.random.default_rng(SEED), [], []
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    for i in range(num_images):
        noise = Image.fromarray(rng.integers(0, 256, (size // 16, size // 16, 3), dtype=np.uint8))
        noise.resize((size * 4 // 3, size), Image.Resampling.BICUBIC).save(folder / f"{i}.jpg", quality=90)
        images.append({"id": i + 1, "file_name": f"{i}.jpg", "height": size, "width": size * 4 // 3})
        for _ in range(OBJECTS_PER_IMAGE):
            width, height = rng.uniform(20, size / 3, 2)
            x, y = rng.uniform(0, size * 4 / 3 - width), rng.uniform(0, size - height)
            outline = np.stack([x + width * (1 + np.cos(angles)) / 2, y + height * (1 + np.sin(angles)) / 2], 1)
            category, number = int(rng.integers(1, 4)), len(objects) + 1
            box, polygon = [x, y, width, height], [outline.ravel().tolist()]
            objects.append({"id": number, "image_id": i + 1, "category_id": category, "bbox": box, "area": width * height * 0.78, "iscrowd": 0, "segmentation": polygon})  # fmt: skip  # noqa: E501
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(CLASSES)]
    file = folder / "instances.json"
    file.write_text(json.dumps({"images": images, "annotations": objects, "categories": categories}))
    return file


class PlainDataset(CocoDetection):
    """torchvision's dataset with the targets of its reference script."""

    def __getitem__(self, index: int) -> Any:
        """Image ``[3, H, W]`` in 0…1, and boxes, labels and masks."""
        image, objects = super().__getitem__(index)
        boxes = torch.tensor([o["bbox"] for o in objects])
        boxes[:, 2:] += boxes[:, :2]
        masks = torch.from_numpy(np.stack([self.coco.annToMask(o) for o in objects]))
        labels = torch.tensor([o["category_id"] for o in objects])
        return pil_to_tensor(image).float() / 255, {"boxes": boxes, "labels": labels, "masks": masks}


def compare(ours: Call, plain: Call, rounds: int) -> dict[str, float]:
    """Median CPU milliseconds of both in interleaved rounds after one to warm up, the median of the rounds' ratios, and the ratio of the
    fastest rounds: what disturbs a round only slows it down.
    """
    times: dict[str, list[float]] = {"FeatLift": [], "plain": []}
    for number in range(rounds + 1):
        for name, call in (
            (("FeatLift", ours), ("plain", plain)) if number % 2 else (("plain", plain), ("FeatLift", ours))
        ):
            start = time.process_time()
            call()
            if number:
                times[name].append(1000 * (time.process_time() - start))
    ratios = [b / a for a, b in zip(times["FeatLift"], times["plain"], strict=True)]
    medians = {f"{name}, CPU ms": round(statistics.median(values), 1) for name, values in times.items()}
    fastest = min(times["plain"]) / min(times["FeatLift"])
    return medians | {"ratio": round(statistics.median(ratios), 3), "ratio of the fastest": round(fastest, 3)}


def training_calls(dataset: CocoDataset, folder: Path, steps: int) -> tuple[Call, Call]:
    """`featlift train baseline`'s loop, with log and checkpoint at its end, and torchvision's loop; both take the same batches."""
    torch.manual_seed(SEED)
    network, numbers = build_detector(quick_detector_config(), len(CLASSES)), iter(range(10**6))
    optimizer_config = OptimizerConfig("sgd", lr=1e-4, momentum=0.9, weight_decay=1e-4)

    def ours() -> None:
        with Run(folder / str(next(numbers)), {}, seed=SEED, device="cpu") as run, quiet():
            loader = ResumableDataLoader(dataset, 2, SEED)
            train_detector(copy.deepcopy(network), loader, StageConfig(steps, optimizer_config), run, "train")

    def plain() -> None:
        detector, loader = copy.deepcopy(network).train(), ResumableDataLoader(dataset, 2, SEED)
        parameters = [p for p in detector.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(parameters, lr=1e-4, momentum=0.9, weight_decay=1e-4)
        for _, (images, targets) in zip(range(steps), loader.iter_from(0), strict=False):
            loss = sum(detector(images, targets).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()

    return ours, plain


def prediction_calls(folder: Path) -> tuple[Call, Call]:
    """`Predictor` on image files, and a loop of decoding and calling the network."""
    torch.manual_seed(SEED)
    network = build_detector(quick_detector_config(), len(CLASSES)).eval()
    predictor, files = Predictor(network, device="cpu", classes=CLASSES), sorted(folder.glob("*.jpg"))

    @torch.inference_mode()
    def plain() -> None:
        for file in files:
            network([pil_to_tensor(Image.open(file).convert("RGB")).float() / 255])

    return lambda: predictor(files), plain


def compare_loading(dataset: CocoDataset, plain: PlainDataset, rounds: int) -> dict[str, float]:
    """Images and targets with masks, one after the other."""
    for (image, target), (plain_image, plain_target) in zip(dataset, plain, strict=False):
        assert torch.equal(image, plain_image)
        assert torch.equal(target["masks"].bool(), plain_target["masks"].bool())
    return compare(
        lambda: [dataset[i] for i in range(len(dataset))], lambda: [plain[i] for i in range(len(plain))], rounds
    )


def compare_evaluation(document: dict[str, Any], rounds: int, library: str = "pycocotools") -> dict[str, float]:
    """COCO's AP of moved boxes by FeatLift and by ``library``, pycocotools or faster_coco_eval."""
    if library == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    else:
        from faster_coco_eval import COCO
        from faster_coco_eval import COCOeval_faster as COCOeval

    rng = np.random.default_rng(SEED)
    detections = [
        {"image_id": o["image_id"], "category_id": o["category_id"], "score": float(rng.random()),
         "bbox": (np.array(o["bbox"]) + rng.normal(0, 4, 4)).clip(0.5).tolist()}
        for o in document["annotations"] for _ in range(10)
    ]  # fmt: skip

    def plain() -> float:
        with quiet():
            truth = COCO()
            truth.dataset = copy.deepcopy(document)
            truth.createIndex()
            evaluator = COCOeval(truth, truth.loadRes(copy.deepcopy(detections)), "bbox")
            evaluator.evaluate()
            evaluator.accumulate()
            evaluator.summarize()
        return float(evaluator.stats[0])

    assert abs(coco_metrics(document, detections)["ap"] - plain()) < 1e-9
    return compare(lambda: coco_metrics(document, detections), plain, rounds)


def compare_decoding(side: int, files: list[Path], rounds: int) -> dict[str, float]:
    """Reading of photographs for an embedder of input size ``side``, by ``fast_decode`` and in full, and the cosines of descriptors."""
    config = EmbedderConfig("mobilenetv2_100", str(MOBILENET), input_size=side, mean_std=(0.5, 0.5))
    embedder, _ = build_embedder(config)

    def read(read_file: Callable[[Path], torch.Tensor]) -> list[torch.Tensor]:
        return [downscale_then_resize(read_file(file), 1, side) for file in files]

    ours, plain = partial(read, partial(read_reduced_image, min_size=(side, side))), partial(read, read_image)
    cosines = (embed_images(embedder, ours()) * embed_images(embedder, plain())).sum(dim=1)
    lowest = {"lowest cosine": round(float(cosines.min()), 4), "mean cosine": round(float(cosines.mean()), 4)}
    return compare(ours, plain, rounds) | lowest


def compare_training_images(short_side: int, dataset: CocoDataset, rounds: int) -> dict[str, float]:
    """Batches of training images of ``short_side`` px without masks, with ``fast_decode`` and without."""
    plain = DataConfig(batch_size=4, min_size=(short_side,), max_size=2 * short_side, num_workers=0, with_masks=False)

    def load(config: DataConfig) -> Call:
        loader = build_train_loader(config, dataset, SEED)
        return lambda: list(itertools.islice(loader.iter_from(0), loader.batches_per_epoch))

    return compare(load(replace(plain, fast_decode=True)), load(plain), rounds)


def compare_memory(what: str, args: argparse.Namespace) -> dict[str, float]:
    """Peak memory in MB of a process that trains or predicts with FeatLift, and of one with the plain loop."""
    peaks = {}
    for side in ("FeatLift", "plain"):
        options = ["--images", str(args.images), "--size", str(args.size), "--steps", str(args.steps)]
        command = [sys.executable, __file__, "--memory", what, side, *options]
        peaks[side] = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])
    return {f"{side}, MB": round(peak, 1) for side, peak in peaks.items()} | {
        "ratio": round(peaks["plain"] / peaks["FeatLift"], 3)
    }


def measure_memory(what: str, side: str, dataset: CocoDataset, folder: Path, steps: int) -> float:
    """Do it once; return the peak memory of this process in MB."""
    calls = training_calls(dataset, folder / "runs", steps) if what == "training" else prediction_calls(folder)
    calls[side == "plain"]()
    return read_peak_memory(torch.device("cpu")) / 1e6


@contextlib.contextmanager
def quiet():
    """Discard what is printed."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--size", type=int, default=320, help="height of the images in pixels")
    parser.add_argument("--steps", type=int, default=8, help="training steps per round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    metadata = collect_metadata(torch.device("cpu"), " ".join(["python benchmarks/overhead.py", *sys.argv[1:]]))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        file = write_dataset(folder, args.images, args.size)
        with quiet():
            dataset, plain = CocoDataset(file, folder), PlainDataset(str(folder), str(file))
        if args.memory:
            print(measure_memory(*args.memory, dataset, folder, args.steps))
            return
        tables = build_tables(folder, dataset, plain, json.loads(file.read_text()), args)
    if MOBILENET.exists():
        tables += build_decoding_tables(args.rounds)
    print(write_result("overhead", tables, metadata, RESULTS))


def build_tables(
    folder: Path, dataset: CocoDataset, plain: PlainDataset, document: dict[str, Any], args: argparse.Namespace
) -> list[dict[str, Any]]:
    """Measure everything; return the tables of times and of memory."""
    measurements = {"evaluate, against pycocotools": partial(compare_evaluation, document)}
    if importlib.util.find_spec("faster_coco_eval"):
        faster = partial(compare_evaluation, document, library="faster_coco_eval")
        measurements[f"evaluate, against faster-coco-eval {importlib.metadata.version('faster-coco-eval')}"] = faster
    measurements |= {
        "loading with masks, against torchvision's CocoDetection": partial(compare_loading, dataset, plain),
        "predict, against decoding and calling the network": partial(compare, *prediction_calls(folder)),
        f"train baseline, {args.steps} steps, against torchvision's loop": partial(
            compare, *training_calls(dataset, folder / "runs", args.steps)
        ),
    }
    times = []
    for name, measure in measurements.items():
        times.append({"what": name, **measure(rounds=args.rounds)})
        print(times[-1], flush=True)
    memory = [{"what": what, **compare_memory(what, args)} for what in ("training", "prediction")]
    images = f"{args.images} images of height {args.size}"
    caption = f"CPU time of FeatLift and of a plain loop, {images}, medians of {args.rounds} rounds"
    return [
        {"caption": caption, "rows": times},
        {"caption": f"Peak memory of a process, libraries included, {images}", "rows": memory},
    ]


def build_decoding_tables(rounds: int) -> list[dict[str, Any]]:
    """Measure the decoding of photographs of COCO for embedders and for trainings of two input sizes."""
    files = sorted((DATA / "coco_pretrained" / "val").glob("*.jpg"))[:NUM_PHOTOGRAPHS]
    rows = [{"input size": side, **compare_decoding(side, files, rounds)} for side in (224, 128)]
    with quiet():
        dataset = open_coco_split(DATA / "coco", "train")
    training = [{"short side": side, **compare_training_images(side, dataset, rounds)} for side in (240, 120)]
    print(*rows, *training, sep="\n", flush=True)
    what = "decoded at a reduced size (fast_decode), and in full (plain)"
    return [
        {"caption": f"{len(files)} photographs of COCO read for MobileNetV2: {what}", "rows": rows},
        {"caption": f"An epoch of {len(dataset)} training images of COCO without masks: {what}", "rows": training},
    ]


if __name__ == "__main__":
    main()
