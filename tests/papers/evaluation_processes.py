"""Evaluations with one process and with two (gloo); run as ``python evaluation_processes.py FOLDER PORT PORT PORT``.

Writes ``alone.json``, ``rank0.json`` and ``rank1.json``: the results of each evaluation, and how many images the process looked at.
"""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from featlift import baseline
from featlift.checkpoints import save
from featlift.checkpoints.json_io import write_json
from featlift.commands.evaluate import evaluate
from featlift.commands.train import train
from featlift.data.retrieval_collections import CollectionConfig
from featlift.data.synthetic.landmarks import write_synthetic_landmarks
from featlift.data.synthetic.scenes import SIGN_CLASSES
from featlift.detectors.checkpoint import save_detector
from featlift.detectors.config import build_detector
from featlift.evaluation import detection
from featlift.image_sr import super_resolver
from featlift.image_sr.checkpoint import SUPER_RESOLVER_FILE
from featlift.papers import fsr_gan
from featlift.retrieval import embedding_cache
from featlift.retrieval.embedders import EmbedderConfig
from featlift.runs.options import InferenceOptions, RunOptions
from featlift.training import Run

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import tiny_data, tiny_model, tiny_stage

SCENES = tiny_data(num_val_scenes=3, batch_size=2)
CPU = InferenceOptions(batch_size=1, device="cpu")
seen: list[int] = []


def count_images() -> int:
    """Number of images since the last call."""
    count = sum(seen)
    seen.clear()
    return count


def record_images() -> None:
    """Record how many images this process detects in and embeds."""
    detect, embed = detection.detect_dataset, embedding_cache.embed_images

    def detect_dataset(detector, dataset, indices=None, *rest, **options):
        seen.append(len(range(len(dataset)) if indices is None else indices))
        return detect(detector, dataset, indices, *rest, **options)

    def embed_images(embedder, images):
        images = list(images)
        seen.append(len(images))
        return embed(embedder, iter(images))

    detection.detect_dataset, embedding_cache.embed_images = detect_dataset, embed_images


def prepare(folder: Path) -> None:
    """A detector, a super-resolution network, and a trained generator with its images."""
    torch.manual_seed(0)
    model = tiny_model("nearest")
    (folder / "detector").mkdir(parents=True)
    detector = build_detector(model, 6)
    detector.roi_heads.score_thresh = 0.0
    save_detector(detector, model, SIGN_CLASSES, folder / "detector")
    write_json(folder / "detector" / "settings.json", {"data": asdict(SCENES)})
    save(super_resolver("srcnn", 4), folder / "network" / SUPER_RESOLVER_FILE)
    write_synthetic_landmarks(folder / "places", num_landmarks=3, gallery_views=2, query_views=1, image_size=48)
    settings = fsr_gan.Settings(
        CollectionConfig("class-folders", str(folder / "places"), train_images=str(folder / "places")),
        EmbedderConfig("gist", input_size=64, cache_folder=str(folder / "cache")),
        ratios=(1.0, 4.0),
        hidden_dim=8,
        steps=1,
        batch_size=4,
    )
    train("fsr-gan", settings, RunOptions(folder / "fsr", device="cpu"))


def evaluate_all(folder: Path, name: str, ports: list[str]) -> None:
    """Evaluate FDSR and FSR-GAN, train a detector with evaluations, and write what came out to ``NAME.json``."""
    results: dict[str, object] = {}
    os.environ["MASTER_PORT"] = ports[0]
    networks = {"srcnn": str(folder / "network")}
    rows = evaluate(
        str(folder / "detector"), out=str(folder / f"sr-{ports[0]}"), super_resolvers=networks, inference=CPU
    )
    metrics = {pipeline: row["metrics"] for pipeline, row in rows["pipelines"].items()}
    results["fdsr"] = {"metrics": metrics, "images": count_images()}
    os.environ["MASTER_PORT"] = ports[1]
    stored = json.loads((folder / "fsr" / "settings.json").read_text())
    stored["embedder"]["cache_folder"] = str(folder / f"cache-{ports[1]}")
    run = folder / f"fsr-{name}"
    run.mkdir()
    (run / "settings.json").write_text(json.dumps(stored))
    (run / "generator.safetensors").symlink_to(folder / "fsr" / "generator.safetensors")
    curves = evaluate(str(run), out=str(folder / f"curves-{name}"), inference=CPU)
    results["fsr-gan"] = {"curves": json.loads(json.dumps(curves)), "images": count_images()}
    os.environ["MASTER_PORT"] = ports[2]
    settings = baseline.Settings(tiny_model("nearest"), SCENES, tiny_stage(2))
    with Run(folder / f"trained-{ports[2]}", settings, device="cpu", log_every=1) as training:
        training.evaluate_every = 1
        baseline.train(settings, training)
    results["baseline"] = {"images": count_images(), "run": str(training.folder)}
    (folder / f"{name}.json").write_text(json.dumps(results))


def child(work: Callable[[], None]) -> int:
    """Fork, do ``work`` there; returns the process id. The parent never computes: threads of PyTorch do not survive a fork."""
    pid = os.fork()
    if pid == 0:
        torch.set_num_threads(1)
        work()
        os._exit(0)
    return pid


def measure(folder: Path, name: str, ports: list[str], rank: int | None) -> None:
    if rank is not None:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    record_images()
    evaluate_all(folder, name, ports)


def main(folder: Path, ports: list[str]) -> int:
    if os.waitpid(child(lambda: prepare(folder)), 0)[1]:
        return 1
    children = [child(lambda rank=rank: measure(folder, f"rank{rank}", ports, rank)) for rank in range(2)]
    children.append(child(lambda: measure(folder, "alone", ["a", "b", "c"], None)))
    return int(any(os.waitpid(pid, 0)[1] for pid in children))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
