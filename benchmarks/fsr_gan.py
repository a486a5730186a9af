"""mAP of low-resolution queries: raw, ridge, one MLP per ratio, FSR-GAN with and without critic, image super-resolution, distilled encoder.

    python benchmarks/fsr_gan.py places                  # synthetic
    python benchmarks/fsr_gan.py tt100k-photos DATA      # trained on unrelated photographs, without leakage
    python benchmarks/fsr_gan.py tt100k-gallery DATA     # trained on the images of the gallery, without labels

DATA is the data folder (see ``benchmarks/README.md``): retrieval_tt100k, weights, coco, gtsdb and sr are used.

Models on descriptors are trained with every seed; the paper's baselines SRCNN and VDSR (image super-resolution before the embedding) and
the distilled encoder, which take minutes each, with one. Results: ``benchmarks/results/fsr_gan-<case>.json`` and four plots.
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from data_folder import DATA, MOBILENET
from retrieval_baselines import fit_best_ridge, fit_mean_offsets, train_baselines, train_per_ratio
from retrieval_images import write_photo_crops, write_views
from run import RESULTS, collect_metadata, write_result

from featlift.data.image_io import list_images
from featlift.data.retrieval_collections import CollectionConfig, list_train_images, open_collection
from featlift.data.synthetic.landmarks import write_synthetic_landmarks
from featlift.evaluation.retrieval import (
    classify_ap_changes,
    map_by_num_distractors,
    query_average_precisions,
)
from featlift.papers.fsr_gan import Settings
from featlift.papers.fsr_gan.descriptors import describe_files
from featlift.papers.fsr_gan.evaluation import apply_generator, query_descriptors, query_sizes, retrieval_curves
from featlift.papers.fsr_gan.settings import GANConfig, RegularizationConfig
from featlift.papers.fsr_gan.training import (
    build_descriptor_pairs,
    build_generator,
    select_regularization,
    train_generator,
)
from featlift.report.seed_curves import plot_seed_curves
from featlift.retrieval.descriptor_pairs import DescriptorPairs
from featlift.retrieval.embedders import EmbedderConfig
from featlift.retrieval.embedding_cache import build_descriptor_cache
from featlift.retrieval.generator import IdentityGenerator
from featlift.training import Run

HARD_RATIO = 6
"""Ratio of the evaluation with distractors and of the changes per query."""
Queries = dict[str, dict[float, torch.Tensor]]


def build_settings(case: str, data: Path, work: Path, steps: int) -> Settings:
    """Return the settings of the benchmark ``case`` with all output below ``work``."""
    cache = str(work / "descriptors")
    if case == "places":
        collection, embedder = (
            CollectionConfig("synthetic", str(work / "places")),
            EmbedderConfig("gist", input_size=128, cache_folder=cache),
        )
    else:
        gallery = data / "retrieval_tt100k"
        train_images = (
            write_photo_crops(data, work / "photos", 700)
            if case == "tt100k-photos"
            else write_views(gallery / "gallery", work / "views")
        )
        weights = str(data / MOBILENET.relative_to(DATA))
        collection = CollectionConfig("class-folders", str(gallery), train_images=str(train_images))
        embedder = EmbedderConfig("mobilenetv2_100", weights, input_size=128, mean_std=(0.5, 0.5), cache_folder=cache)
    return Settings(collection, embedder, hidden_dim=512, steps=steps)


def write_distractors(case: str, data: Path, work: Path, count: int) -> list[Path]:
    """Write ``count`` images without any query object (Sec. 5.3 uses 100,071 from Flickr)."""
    if case == "places":
        write_synthetic_landmarks(work / "others", num_landmarks=-(-count // 4), gallery_views=4, query_views=0, seed=2)
        return list_images(work / "others")[:count]
    return list_images(write_photo_crops(data, work / "others-photos", count, seed=1))[:count]


def train_all(
    blind: Settings, conditioned: Settings, pairs: DescriptorPairs, seed: int, folder: Path
) -> tuple[dict[str, Any], dict[str, float]]:
    """Train all models on descriptors; return the generators and their training seconds."""
    dimension, generators, seconds = pairs.high.shape[1], {}, {}

    def train_timed(
        name: str,
        settings: Settings,
        train=lambda settings, run: train_generator(build_generator(settings, dimension), pairs, settings, run),
    ):
        start = time.perf_counter()
        with Run(folder / f"{name}-{seed}", settings, seed, "cpu", save_every=100_000, log_every=200) as run:
            generators[name] = train(settings, run)
        seconds[name] = time.perf_counter() - start

    train_timed("MLP per ratio", blind, lambda settings, run: train_per_ratio(pairs, settings, run))
    train_timed("FSR-GAN, no critic", blind)
    train_timed("FSR-GAN, no critic, r = 1", replace(blind, focal_exponent=1.0))
    train_timed("FSR-GAN, critic (wgan-gp)", replace(blind, adversarial=GANConfig("wgan-gp", weight=0.1, n_critic=1)))
    train_timed("FSR-GAN, known ratio", conditioned)
    train_timed("FSR-GAN, unregularized", replace(blind, regularization=RegularizationConfig()))
    return generators, seconds


def with_selected_regularization(settings: Settings, pairs: DescriptorPairs, folder: Path) -> Settings:
    """Return ``settings`` with the regularization selected on the training images, with seed 0."""
    F, files = build_descriptor_cache(settings.embedder), list_train_images(settings.collection)
    with Run(
        folder / f"regularization-{settings.generator}", settings, device="cpu", save_every=100_000, log_every=500
    ) as run:
        return select_regularization(settings, F, files, pairs, run)


# -------------------------------------------------------------------------------------- evaluation


def large_scale(queries: Queries, settings: Settings, files: Sequence[Path]) -> dict[str, dict[int, float]]:
    """Return the mAP at :data:`HARD_RATIO` with increasing numbers of distractors ``files`` in the database (Fig. 7)."""
    landmarks, F = open_collection(settings.collection), build_descriptor_cache(settings.embedder)
    database, distractors = describe_files(F, landmarks.database, 1), describe_files(F, files, 1)
    counts = [0, *(len(files) // divisor for divisor in (8, 4, 2, 1))]
    return {
        name: map_by_num_distractors(by_ratio[HARD_RATIO], database, distractors, landmarks.queries, counts)
        for name, by_ratio in queries.items()
        if HARD_RATIO in by_ratio
    }


def compare_queries(
    before: torch.Tensor, after: torch.Tensor, settings: Settings, max_count: int = 5
) -> dict[str, Any]:
    """Count the queries by the change of their AP between two sets of descriptors ``[Q, D]``; list those with the largest changes."""
    landmarks, F = open_collection(settings.collection), build_descriptor_cache(settings.embedder)
    database = describe_files(F, landmarks.database, 1)
    pair = [query_average_precisions(descriptors, database, landmarks.queries) for descriptors in (before, after)]
    names = [f"{query.image_path.parent.name}/{query.image_path.name}" for query in landmarks.queries]
    rows = classify_ap_changes(*pair)
    largest_changes = [
        {"query": names[i], "AP raw": round(pair[0][i], 3), "AP super-resolved": round(pair[1][i], 3)}
        for kind in ("gained", "lost")
        for i in rows[kind][:max_count]
    ]
    return {"ratio": HARD_RATIO, "counts": {kind: len(rows[kind]) for kind in rows}, "furthest": largest_changes}


def merge_seeds(
    results: Sequence[Mapping[str, Mapping[str, Mapping[float, Any]]]],
) -> dict[str, dict[str, dict[float, list]]]:
    """Merge the curves of all seeds: ``{"map" | "distance": {name: {ratio: [value of each seed]}}}``, with mean distances."""
    merged: dict[str, dict[str, dict[float, list]]] = {"map": {}, "distance": {}}
    for result in results:
        for kind, by_name in merged.items():
            for name, curve in result[kind].items():
                for ratio, value in curve.items():
                    value = value[0] if kind == "distance" else value
                    by_name.setdefault(name, {}).setdefault(ratio, []).append(value)
    return merged


def build_tables(case: str, seeds: int, results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Build the tables of mAP and distance at every ratio, mAP with distractors, and the queries with the largest changes."""
    regularization = ", ".join(
        f"{kind}: {describe_regularization(settings.regularization)}" for kind, settings in results["settings"].items()
    )
    setup = f"{case}, trained on {results['learned_from']} images; mean ± half the range of {seeds} seeds (SRCNN, VDSR, RAML: one)"
    short_sides = {"method": "short side of the query, px"} | {
        f"{r:g}x": f"{px:.0f}" for r, px in results["short_side"].items()
    }
    bits = {"method": "kilobits of the query as PNG"} | {
        f"{r:g}x": f"{b / 1000:.0f}" for r, b in results["bits"].items()
    }
    counts = ", ".join(f"{n} {kind}" for kind, n in results["moved"]["counts"].items())
    large_scale = [
        {"method": name, **{f"{n:,}": round(value, 3) for n, value in curve.items()}}
        for name, curve in results["large_scale"].items()
    ]
    return [
        {
            "caption": f"mAP by downscaling factor of the query: {setup}; {regularization}",
            "rows": [short_sides, bits, *_rows(results["map"])],
        },
        {"caption": "Mean distance to the descriptor of the original query", "rows": _rows(results["distance"])},
        {
            "caption": f"mAP of queries downscaled by {HARD_RATIO}, by number of distractors in the database (seed 0)",
            "rows": large_scale,
        },
        {
            "caption": f"Queries downscaled by {HARD_RATIO}, largest AP changes by FSR-GAN without critic (seed 0; AP {counts})",
            "rows": results["moved"]["furthest"],
        },
    ]


def describe_regularization(config: RegularizationConfig | None) -> str:
    """Describe the rank of the corrections and the loss."""
    rank, relative = (config.rank, config.relative_loss) if config else (0, False)
    return f"corrections of {f'rank {rank}' if rank else 'any rank'}, {'relative' if relative else 'absolute'} loss"


def _rows(by_name: Mapping[str, Mapping[float, Sequence[float]]]) -> list[dict[str, Any]]:
    return [
        {"method": name} | {f"{r:g}x": format_mean_range(v) for r, v in curve.items()}
        for name, curve in by_name.items()
    ]


def format_mean_range(values: Sequence[float]) -> str:
    """Format mean ± half the range, without the latter for one value."""
    half_range = f" ± {(max(values) - min(values)) / 2:.3f}" if len(values) > 1 and max(values) > min(values) else ""
    return f"{sum(values) / len(values):.3f}{half_range}"


def plot_results(case: str, results: Mapping[str, Any], folder: Path) -> None:
    """Plot mAP by ratio (Fig. 6), distances (Fig. 5), mAP by bits (Fig. 8) and by number of distractors (Fig. 7)."""
    by_bits = {
        name: {results["bits"][ratio] / 1000: v for ratio, v in curve.items()} for name, curve in results["map"].items()
    }
    large_scale = {name: {n: [value] for n, value in curve.items()} for name, curve in results["large_scale"].items()}
    factor = "downscale factor per side"
    for kind, curves, xlabel, ylabel in (
        ("map", results["map"], factor, "mAP"),
        ("distance", results["distance"], factor, "distance to the original descriptor"),
        ("bits", by_bits, "kilobits of the query (PNG)", "mAP"),
        ("distractors", large_scale, "distractors in the database", "mAP"),
    ):
        plot_seed_curves(curves, folder / f"fsr_gan-{case}-{kind}.png", xlabel, ylabel)


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=("places", "tt100k-photos", "tt100k-gallery"))
    parser.add_argument("data", type=Path, nargs="?", default=DATA, help="Folder of the data")
    parser.add_argument("--work", type=Path, default=Path("runs/fsr-gan"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    for name, default, description in (
        ("seeds", 3, "Seeds of the models on descriptors"),
        ("steps", 500, "Steps of G"),
        ("srcnn-steps", 300, "Steps of SRCNN at each scale"),
        ("vdsr-steps", 60, "Steps of VDSR at each scale"),
        ("raml-steps", 150, "Steps of the distilled encoder"),
        ("distractors", 2000, "Number of distractor images"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=description)
    return parser.parse_args()


def main() -> None:
    """Run one case and write its JSON file and plots."""
    args = parse_arguments()
    torch.set_num_threads(1)
    metadata = collect_metadata(torch.device("cpu"), f"python benchmarks/fsr_gan.py {' '.join(sys.argv[1:])}")
    settings, folder = build_settings(args.case, args.data, args.work, args.steps), args.work / f"runs-{args.case}"
    pairs = build_descriptor_pairs(
        build_descriptor_cache(settings.embedder), list_train_images(settings.collection), settings.ratios
    )
    low = query_descriptors(settings, settings.ratios)
    linear = {
        "raw": IdentityGenerator(),
        "ridge": fit_best_ridge(pairs),
        "mean offset, known ratio": fit_mean_offsets(pairs),
    }
    linear_queries = {name: apply_generator(generator, low) for name, generator in linear.items()}
    blind, conditioned = (
        with_selected_regularization(replace(settings, generator=kind), pairs, folder)
        for kind in ("residual", "conditioned")
    )
    curves, seconds, first_queries = [retrieval_curves(linear_queries, settings)], {}, linear_queries
    for seed in range(args.seeds):
        generators, seconds = train_all(blind, conditioned, pairs, seed, folder)
        queries = {name: apply_generator(generator, low) for name, generator in generators.items()}
        curves.append(retrieval_curves(queries, settings))
        first_queries = queries if seed == 0 else first_queries
    curves.append(retrieval_curves(train_baselines(settings, args, folder), settings))
    distractors = write_distractors(args.case, args.data, args.work, args.distractors)
    results = {
        "settings": {"blind": blind, "conditioned": conditioned},
        "learned_from": len(pairs.high),
        "seconds": seconds,
        **merge_seeds(curves),
        **query_sizes(settings, settings.ratios),
        "large_scale": large_scale({**linear_queries, **first_queries}, settings, distractors),
        "moved": compare_queries(low[HARD_RATIO], first_queries["FSR-GAN, no critic"][HARD_RATIO], settings),
    }
    metadata |= {"seed": f"0 to {args.seeds - 1}"}
    tables = build_tables(args.case, args.seeds, results)
    print(write_result(f"fsr_gan-{args.case}", tables, metadata, args.out, results))
    plot_results(args.case, results, args.out)


if __name__ == "__main__":
    main()
