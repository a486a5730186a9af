"""``featlift evaluate`` of a run of FSR-GAN: retrieval with low-resolution queries, raw and super-resolved."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featlift.checkpoints import load
from featlift.checkpoints.damage import read_json
from featlift.checkpoints.json_io import write_json
from featlift.data.image_io import read_image_crop
from featlift.data.retrieval_collections import CollectionConfig, open_collection
from featlift.evaluation.retrieval import (
    distance_by_ratio,
    map_by_ratio,
    png_bits,
)
from featlift.papers.fsr_gan.descriptors import describe_files
from featlift.papers.fsr_gan.settings import Settings
from featlift.report.seed_curves import plot_seed_curves
from featlift.retrieval.descriptors import downscale_image
from featlift.retrieval.embedders import EmbedderConfig
from featlift.retrieval.embedding_cache import build_descriptor_cache
from featlift.retrieval.generator import (
    GENERATOR_FILE,
    IdentityGenerator,
    super_resolve_descriptors,
)
from featlift.runs.options import InferenceOptions
from featlift.training import Run


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
    stored = read_json(run / "settings.json")
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


def evaluate_generators(
    generators: Mapping[str, nn.Module], settings: Settings, ratios: Sequence[float] = ()
) -> dict[str, dict]:
    """Return :func:`retrieval_curves` of every generator at every ratio, and :func:`query_sizes` of the queries."""
    ratios = ratios or settings.ratios
    low = query_descriptors(settings, ratios)
    return retrieval_curves(
        {name: apply_generator(generator, low) for name, generator in generators.items()}, settings
    ) | query_sizes(settings, ratios)


def query_descriptors(settings: Settings, ratios: Sequence[float]) -> dict[float, Tensor]:
    """Return ratio → descriptors F of the queries downscaled by that ratio per side, ``[Q, D]``."""
    queries, F = open_collection(settings.collection).queries, build_descriptor_cache(settings.embedder)
    files, boxes = [query.image_path for query in queries], [query.box for query in queries]
    return {ratio: describe_files(F, files, ratio, boxes) for ratio in ratios}


def apply_generator(generator: nn.Module, low: Mapping[float, Tensor]) -> dict[float, Tensor]:
    """Apply ``generator`` to the query descriptors of each ratio, ``[Q, D]`` each; it also gets the ratio."""
    return {
        ratio: super_resolve_descriptors(generator, x, torch.full((len(x),), float(ratio))) for ratio, x in low.items()
    }


def retrieval_curves(queries: Mapping[str, Mapping[float, Tensor]], settings: Settings) -> dict[str, dict]:
    """Evaluate named query descriptors: ``{"map": {name: {ratio: 0…1}}, "distance": {name: {ratio: (mean, variance)}}}``.

    The database is at full resolution and not super-resolved; distances are to the full-resolution queries.
    """
    landmarks, F = open_collection(settings.collection), build_descriptor_cache(settings.embedder)
    database, high = describe_files(F, landmarks.database, 1), query_descriptors(settings, [1])[1]
    return {
        "map": {name: map_by_ratio(by_ratio, database, landmarks.queries) for name, by_ratio in queries.items()},
        "distance": {name: distance_by_ratio(by_ratio, high) for name, by_ratio in queries.items()},
    }


def query_sizes(settings: Settings, ratios: Sequence[float]) -> dict[str, dict[float, float]]:
    """Return means over the queries by ratio: ``"short_side"`` in pixels, and ``"bits"`` of the downscaled image as PNG (Sec. 5.4)."""
    images = [read_image_crop(query.image_path, query.box) for query in open_collection(settings.collection).queries]
    small = {ratio: [downscale_image(image, ratio) for image in images] for ratio in ratios}
    return {
        "short_side": {r: sum(min(x.shape[1:]) for x in resized) / len(resized) for r, resized in small.items()},
        "bits": {r: sum(map(png_bits, resized)) / len(resized) for r, resized in small.items()},
    }


def evaluate_generator(generator: nn.Module, settings: Settings, run: Run, name: str) -> dict[str, Any]:
    """Evaluate a trained generator: mAP at every ratio with raw and super-resolved queries; return the content of ``result.json``.

    Rank 0 evaluates; {} on other ranks.
    """
    if run.rank != 0:
        return {}
    results = evaluate_generators({"raw": IdentityGenerator(), name: generator.eval()}, settings)
    for ratio in settings.ratios:
        values = (f"{kind} mAP {100 * by_ratio[ratio]:.1f}" for kind, by_ratio in results["map"].items())
        print(f"1/{ratio:g} per side: " + "  ".join(values))
    return run.write_result({"name": name, **results})


def evaluate_generator_run(run: str, data: str, split: str, out: str, inference: InferenceOptions) -> dict[str, Any]:
    """Evaluate a finished FSR-GAN run with :func:`evaluate_retrieval`; the collection has one split, the device is the CPU."""
    return evaluate_retrieval(Path(run), data, Path(out) if out else None)
