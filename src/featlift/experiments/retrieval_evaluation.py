"""``featlift evaluate`` of a run of FSR-GAN: retrieval with low-resolution queries, raw and super-resolved."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from featlift.checkpoints import load
from featlift.evaluation.retrieval import plot_seed_curves
from featlift.gallery import CollectionConfig, EmbedderConfig
from featlift.papers.fsr_gan import Settings, evaluate_generators
from featlift.retrieval.linear_baselines import IdentityGenerator
from featlift.training.run import write_json

GENERATOR_FILE = "generator.safetensors"


def evaluate_retrieval(run: Path, data: str = "", out: Path | None = None) -> dict[str, Any]:
    """Compute mAP, distances and bits at every ratio of the run (FSR-GAN, Figs. 5, 6 and 8), raw and super-resolved.

    Writes ``curves.json``, ``map.png``, ``distance.png`` and ``bits.png``, and returns the content of ``curves.json``.

    Args:
        run: Folder of a training of FSR-GAN.
        data: Folder by class (``gallery/<class>/``, ``query/<class>/``) to search instead of the collection of the run.
        out: Output folder; by default ``curves`` in the run.
    """
    settings, folder = load_retrieval_settings(run), out or run / "curves"
    if data:
        settings = replace(settings, collection=replace(settings.collection, name="class-folders", image_folder=data))
    generators = {"raw": IdentityGenerator(), "super-resolved": load(run / GENERATOR_FILE).eval()}
    results = evaluate_generators(generators, settings)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "curves.json", results)
    plot_retrieval_curves(results, folder)
    print(format_retrieval_table(results))
    print(folder)
    return results


def load_retrieval_settings(run: Path) -> Settings:
    """Read the collection, the embedder and the ratios of a run; training settings keep their defaults."""
    stored = json.loads((run / "settings.json").read_text())
    mean_std = stored["embedder"]["mean_std"] and tuple(stored["embedder"]["mean_std"])
    embedder = EmbedderConfig(**{**stored["embedder"], "mean_std": mean_std})
    return Settings(CollectionConfig(**stored["collection"]), embedder, ratios=tuple(stored["ratios"]))


def format_retrieval_table(results: dict[str, Any]) -> str:
    """Format one line per ratio: short side in pixels, kilobits, and mAP in percent."""
    header = f"{'downscale':>10}{'short side':>12}{'kilobits':>10}"
    lines = [header + "".join(f"{name:>16}" for name in results["map"])]
    for ratio, side in results["short_side"].items():
        precisions = "".join(f"{100 * curve[ratio]:16.1f}" for curve in results["map"].values())
        lines.append(f"{ratio:>10g}{side:>9.0f} px{results['bits'][ratio] / 1000:>10.1f}{precisions}")
    return "\n".join(lines)


def plot_retrieval_curves(results: dict[str, Any], folder: Path) -> None:
    """Plot mAP against ratio and against bits, and the mean distance to the descriptor of the original query."""
    kilobits = {ratio: bits / 1000 for ratio, bits in results["bits"].items()}
    precisions = {name: {ratio: [value] for ratio, value in curve.items()} for name, curve in results["map"].items()}
    by_bits = {name: {kilobits[ratio]: value for ratio, value in curve.items()} for name, curve in precisions.items()}
    distances = {
        name: {ratio: [pair[0]] for ratio, pair in curve.items()} for name, curve in results["distance"].items()
    }
    plot_seed_curves(precisions, folder / "map.png", "downscale factor per side", "mAP")
    plot_seed_curves(by_bits, folder / "bits.png", "kilobits of the query (PNG)", "mAP")
    plot_seed_curves(
        distances, folder / "distance.png", "downscale factor per side", "distance to the original descriptor"
    )
