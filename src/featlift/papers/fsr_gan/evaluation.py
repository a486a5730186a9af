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
from featlift.data.image_io import list_images, read_image_crop
from featlift.data.retrieval_collections import CollectionConfig, list_held_out_images, open_collection
from featlift.data.retrieval_readers import RetrievalQuery
from featlift.evaluation.retrieval import (
    distance_by_ratio,
    map_by_ratio,
    png_bits,
    similar_distances,
)
from featlift.papers.fsr_gan.descriptors import describe_files
from featlift.papers.fsr_gan.settings import Settings
from featlift.papers.fsr_gan.vector_pairs import evaluate_vector_pairs, format_vector_results, read_vector_pairs
from featlift.report.seed_curves import plot_seed_curves
from featlift.retrieval.descriptors import downscale_image
from featlift.retrieval.embedders import EmbedderConfig
from featlift.retrieval.embedding_cache import build_descriptor_cache
from featlift.retrieval.generator import (
    GENERATOR_FILE,
    IdentityGenerator,
    super_resolve_descriptors,
)
from featlift.runs.announce import describe_generator_training
from featlift.runs.options import InferenceOptions
from featlift.training import Run, distributed


def evaluate_retrieval(run: Path, data: str = "", out: Path | None = None) -> dict[str, Any]:
    """Compute mAP, distances and bits at every ratio of the run (FSR-GAN, Figs. 2 and 5 to 8), raw and super-resolved.

    Writes ``curves.json``, ``map.png``, ``distance.png``, ``bits.png`` and, if the collection has distractors, ``distractors.png``;
    returns the content of ``curves.json``. Of several processes, all embed their share of the images, and rank 0 writes.

    Args:
        run: Folder of a training of FSR-GAN.
        data: Folder by class (``gallery/<class>/``, ``query/<class>/``) to search instead of the collection of the run.
        out: Output folder; by default ``curves`` in the run.
    """
    settings, folder = load_retrieval_settings(run), out or run / "curves"
    if settings.vectors and not data:
        results = evaluate_vector_pairs(load(run / GENERATOR_FILE).eval(), settings)
        if distributed.get_rank() == 0:
            write_json(folder / "curves.json", results)
            print(format_vector_results(results))
        return results
    if data:
        collection = replace(settings.collection, name="class-folders", image_folder=data, train_images=data)
        settings = replace(settings, collection=collection)
    generators = {"raw": IdentityGenerator(), "super-resolved": load(run / GENERATOR_FILE).eval()}
    results = evaluate_generators(generators, settings)
    if distributed.get_rank() != 0:
        return results
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
    vectors = tuple(stored.get("vectors", ()))
    return Settings(CollectionConfig(**stored["collection"]), embedder, vectors, ratios=tuple(stored["ratios"]))


def format_retrieval_table(results: dict[str, Any]) -> str:
    """Format one line per ratio: short side in pixels, kilobits, and mAP in percent."""
    header = f"{'downscale':>10}{'short side':>12}{'kilobits':>10}"
    lines = [header + "".join(f"{name:>16}" for name in results["map"])]
    for ratio, side in results["short_side"].items():
        precisions = "".join(f"{100 * curve[ratio]:16.1f}" for curve in results["map"].values())
        lines.append(f"{ratio:>10g}{side:>9.0f} px{results['bits'][ratio] / 1000:>10.1f}{precisions}")
    similar = (f"{name} images {distance:.3f}" for name, distance in results["similar_distances"].items())
    lines.append(f"distance at full resolution: {', '.join(similar)}")
    return "\n".join(lines)


def plot_retrieval_curves(results: dict[str, Any], folder: Path) -> None:
    """Plot mAP against ratio and bits, with distractors if there are any, and the distances to the full-resolution descriptors."""
    kilobits = {ratio: bits / 1000 for ratio, bits in results["bits"].items()}
    precisions = _one_seed(results["map"])
    by_bits = {name: {kilobits[ratio]: value for ratio, value in curve.items()} for name, curve in precisions.items()}
    distances = _one_seed(
        {name: {r: mean for r, (mean, _) in curve.items()} for name, curve in results["held_out_distance"].items()}
    )
    for name, distance in results["similar_distances"].items():
        distances[f"{name} images"] = {ratio: [distance] for ratio in results["bits"]}
    factor = "downscale factor per side"
    plot_seed_curves(precisions, folder / "map.png", factor, "mAP")
    plot_seed_curves(by_bits, folder / "bits.png", "kilobits of the query (PNG)", "mAP")
    plot_seed_curves(distances, folder / "distance.png", factor, "distance to the original descriptor")
    if "distractor_map" in results:
        with_distractors = {f"{name}, distractors": curve for name, curve in results["distractor_map"].items()}
        plot_seed_curves(precisions | _one_seed(with_distractors), folder / "distractors.png", factor, "mAP")


def _one_seed(curves: Mapping[str, Mapping[float, float]]) -> dict[str, dict[float, list[float]]]:
    return {name: {x: [value] for x, value in curve.items()} for name, curve in curves.items()}


def evaluate_generators(
    generators: Mapping[str, nn.Module], settings: Settings, ratios: Sequence[float] = ()
) -> dict[str, Any]:
    """Return :func:`retrieval_curves` of every generator, :func:`held_out_distances` and :func:`query_sizes` at every ratio."""
    ratios = ratios or settings.ratios
    low = query_descriptors(settings, ratios)
    curves = retrieval_curves(
        {name: apply_generator(generator, low) for name, generator in generators.items()}, settings
    )
    return curves | held_out_distances(generators, settings, ratios) | query_sizes(settings, ratios)


def held_out_distances(
    generators: Mapping[str, nn.Module], settings: Settings, ratios: Sequence[float]
) -> dict[str, Any]:
    """Return ``"held_out_distance"``, (mean, variance) of the distance to the full-resolution descriptors by name and ratio, over
    ``"num_held_out"`` whole images that G has not seen (Sec. 4.1, Figs. 2a, 4 and 5).
    """
    files, F = list_held_out_images(settings.collection), build_descriptor_cache(settings.embedder)
    high, low = describe_files(F, files, 1), {ratio: describe_files(F, files, ratio) for ratio in ratios}
    curves = {name: distance_by_ratio(apply_generator(G, low), high) for name, G in generators.items()}
    return {"held_out_distance": curves, "num_held_out": len(files)}


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

    The database is at full resolution and not super-resolved; distances are to the full-resolution queries. ``"similar_distances"`` are
    the distances in the database at full resolution; ``"distractor_map"`` is the mAP with the collection's distractors, if it has any.
    """
    landmarks, F = open_collection(settings.collection), build_descriptor_cache(settings.embedder)
    database, high = describe_files(F, landmarks.database, 1), query_descriptors(settings, [1])[1]
    results = {
        "map": _map_by_name(queries, database, landmarks.queries),
        "distance": {name: distance_by_ratio(by_ratio, high) for name, by_ratio in queries.items()},
        "similar_distances": similar_distances(high, database, landmarks.queries),
    }
    if settings.collection.distractors:
        others = describe_files(F, list_images(Path(settings.collection.distractors)), 1)
        results["distractor_map"] = _map_by_name(queries, torch.cat([database, others]), landmarks.queries)
    return results


def _map_by_name(
    queries: Mapping[str, Mapping[float, Tensor]], database: Tensor, relevance: Sequence[RetrievalQuery]
) -> dict[str, dict[float, float]]:
    return {name: map_by_ratio(by_ratio, database, relevance) for name, by_ratio in queries.items()}


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

    All ranks embed their share of the images; rank 0 writes.
    """
    if settings.vectors:
        results = evaluate_vector_pairs(generator.eval(), settings)
        lines = [format_vector_results(results)]
    else:
        results = evaluate_generators({"raw": IdentityGenerator(), name: generator.eval()}, settings)
        lines = [_format_precisions(ratio, results["map"]) for ratio in settings.ratios]
    if run.rank == 0:
        print("\n".join(lines))
    return run.write_result({"name": name, **results})


def _format_precisions(ratio: float, curves: Mapping[str, Mapping[float, float]]) -> str:
    values = (f"{name} mAP {100 * by_ratio[ratio]:.1f}" for name, by_ratio in curves.items())
    return f"1/{ratio:g} per side: " + "  ".join(values)


def evaluate_generator_run(run: str, data: str, split: str, out: str, inference: InferenceOptions) -> dict[str, Any]:
    """Evaluate a finished FSR-GAN run with :func:`evaluate_retrieval`; the collection has one split, the device is the CPU."""
    return evaluate_retrieval(Path(run), data, Path(out) if out else None)


def describe_fsr_gan_training(settings: Settings, stop_after: str = "") -> str:
    """Describe the training; vectors are read, so that files that do not match are refused before it.

    Raises:
        FileNotFoundError: If a file of vectors does not exist.
        ValueError: If the vectors do not match.
    """
    if not settings.vectors:
        return describe_generator_training(settings, stop_after)
    train_pairs, held_out = read_vector_pairs(settings)
    size = f"{len(train_pairs.high):,} pairs of {train_pairs.high.shape[1]} numbers ({len(held_out.high):,} held out)"
    return f"{settings.generator} generator, {size}, {settings.steps:,} steps of {settings.batch_size} pairs"
