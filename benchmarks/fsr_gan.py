"""mAP of tiny queries: raw, ridge, one MLP per ratio, FSR-GAN with and without its critic, and what lifts pictures or encoders instead.

    python benchmarks/fsr_gan.py places                             # built in
    python benchmarks/fsr_gan.py tt100k-photos ../shared/data       # learned from photographs of other things: leak-free
    python benchmarks/fsr_gan.py tt100k-gallery ../shared/data      # learned from the gallery's own pictures, without labels

The folder is that of the sample data: retrieval_tt100k, weights, coco, gtsdb and sr are used. What learns from descriptors is run with
every seed; the paper's rivals SRCNN and VDSR (the picture is enlarged, then described) and the distilled encoder, which take
minutes each, with one. → benchmarks/results/fsr_gan-<case>.json and three pictures.
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from picture_rivals import rivals
from run import RESULTS, keep, made
from sign_pictures import photos, views

from featlift.data.landmarks import list_collection_images
from featlift.data.pairs import DescriptorPairs
from featlift.data.synthetic.landmarks import write_synthetic_landmarks
from featlift.evaluation.retrieval import (
    classify_ap_changes,
    map_by_num_distractors,
    plot_seed_curves,
    query_average_precisions,
)
from featlift.gallery import (
    CollectionConfig,
    EmbedderConfig,
    build_descriptor_cache,
    describe_files,
    list_train_images,
    open_collection,
)
from featlift.papers.fsr_gan import (
    GANConfig,
    RegularizationConfig,
    Settings,
    apply_generator,
    build_descriptor_pairs,
    build_generator,
    query_descriptors,
    query_sizes,
    retrieval_curves,
    select_regularization,
    train_generator,
)
from featlift.retrieval.linear_baselines import IdentityGenerator
from featlift.rivals import fit_best_ridge, fit_mean_offsets, train_per_ratio
from featlift.training import Run

HARD = 6
"""The ratio at which distractors are added, and gains and losses are counted."""
Queries = dict[str, dict[float, torch.Tensor]]


def settings_of(case: str, data: Path, work: Path, steps: int) -> Settings:
    """The benchmark ``case``, with everything that it writes under ``work``."""
    cache = str(work / "descriptors")
    if case == "places":
        collection, encoding = (
            CollectionConfig("places", str(work / "places")),
            EmbedderConfig("gist", input_size=128, cache_folder=cache),
        )
    else:
        gallery = data / "retrieval_tt100k"
        known = (
            photos(data, work / "photos", 700)
            if case == "tt100k-photos"
            else views(gallery / "gallery", work / "views")
        )
        weights = str(data / "weights" / "mobilenet_v2_tf2ptq_dequant.pth")
        collection = CollectionConfig("classes", str(gallery), train_images=str(known))
        encoding = EmbedderConfig("mobilenetv2_100", weights, input_size=128, mean_std=(0.5, 0.5), cache_folder=cache)
    return Settings(collection, encoding, hidden_dim=512, steps=steps)


def distractors(case: str, data: Path, work: Path, count: int) -> list[Path]:
    """``count`` pictures that show nothing that is asked for (Sec. 5.3 takes 100,071 of Flickr)."""
    if case == "places":
        write_synthetic_landmarks(work / "others", num_landmarks=-(-count // 4), gallery_views=4, query_views=0, seed=2)
        return list_collection_images(work / "others")[:count]
    return list_collection_images(photos(data, work / "others-photos", count, seed=1))[:count]


def learned(
    blind: Settings, told: Settings, pairs: DescriptorPairs, seed: int, folder: Path
) -> tuple[dict[str, Any], dict[str, float]]:
    """Everything that learns from descriptors, and the seconds each took."""
    dimension, lifts, seconds = pairs.high.shape[1], {}, {}

    def timed(
        name: str,
        how: Settings,
        make=lambda how, run: train_generator(build_generator(how, dimension), pairs, how, run),
    ):
        began = time.perf_counter()
        with Run(folder / f"{name}-{seed}", how, seed, "cpu", save_every=100_000, log_every=200) as run:
            lifts[name] = make(how, run)
        seconds[name] = time.perf_counter() - began

    timed("MLP per ratio", blind, lambda how, run: train_per_ratio(pairs, how, run))
    timed("FSR-GAN, no critic", blind)
    timed("FSR-GAN, no critic, r = 1", replace(blind, focal_exponent=1.0))
    timed("FSR-GAN, critic (wgan-gp)", replace(blind, adversarial=GANConfig("wgan-gp", weight=0.1, n_critic=1)))
    timed("FSR-GAN, told the ratio", told)
    timed("FSR-GAN as bold as can be", replace(blind, regularization=RegularizationConfig()))
    return lifts, seconds


def cautious(settings: Settings, pairs: DescriptorPairs, folder: Path) -> Settings:
    """``settings`` with the caution that suits the pictures, found once, with seed 0."""
    F, files = build_descriptor_cache(settings.encoding), list_train_images(settings.collection)
    with Run(
        folder / f"caution-{settings.generator}", settings, device="cpu", save_every=100_000, log_every=500
    ) as run:
        return select_regularization(settings, F, files, pairs, run)


# -------------------------------------------------------------------------------------- what was found


def large_scale(queries: Queries, settings: Settings, files: Sequence[Path]) -> dict[str, dict[int, float]]:
    """mAP at :data:`HARD` with more and more of ``files`` behind the database (Fig. 7)."""
    landmarks, F = open_collection(settings.collection), build_descriptor_cache(settings.encoding)
    database, others = describe_files(F, landmarks.database, 1), describe_files(F, files, 1)
    counts = [0, *(len(files) // part for part in (8, 4, 2, 1))]
    return {
        name: map_by_num_distractors(each[HARD], database, others, landmarks.queries, counts)
        for name, each in queries.items()
        if HARD in each
    }


def who_moved(before: torch.Tensor, after: torch.Tensor, settings: Settings, shown: int = 5) -> dict[str, Any]:
    """How many queries gained, lost and kept their precision between two descriptions ``[Q, D]``, and those that moved furthest."""
    landmarks, F = open_collection(settings.collection), build_descriptor_cache(settings.encoding)
    database = describe_files(F, landmarks.database, 1)
    pair = [query_average_precisions(each, database, landmarks.queries) for each in (before, after)]
    names = [f"{query.image_path.parent.name}/{query.image_path.name}" for query in landmarks.queries]
    rows = classify_ap_changes(*pair)
    furthest = [
        {"query": names[i], "AP raw": round(pair[0][i], 3), "AP lifted": round(pair[1][i], 3)}
        for kind in ("gained", "lost")
        for i in rows[kind][:shown]
    ]
    return {"ratio": HARD, "counts": {kind: len(rows[kind]) for kind in rows}, "furthest": furthest}


def gathered(
    found: Sequence[Mapping[str, Mapping[str, Mapping[float, Any]]]],
) -> dict[str, dict[str, dict[float, list]]]:
    """Curves of several seeds as one: ``{"map" | "distance": {name: {ratio: [value of each seed]}}}``; of distances the mean is kept."""
    whole: dict[str, dict[str, dict[float, list]]] = {"map": {}, "distance": {}}
    for one in found:
        for kind, by_name in whole.items():
            for name, curve in one[kind].items():
                for ratio, value in curve.items():
                    value = value[0] if kind == "distance" else value
                    by_name.setdefault(name, {}).setdefault(ratio, []).append(value)
    return whole


def tables(case: str, seeds: int, found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For the pages: mAP and distance of every way at every ratio, mAP among distractors, and the queries that moved furthest."""
    caution = ", ".join(f"{kind}: {said(each.caution)}" for kind, each in found["settings"].items())
    of = f"{case}, learned from {found['learned_from']} pictures; mean ± half the range of {seeds} seeds (SRCNN, VDSR, RAML: one)"
    short = {"way": "short side of the query, px"} | {f"{r:g}x": f"{px:.0f}" for r, px in found["short_side"].items()}
    bits = {"way": "kilobits of the query as PNG"} | {f"{r:g}x": f"{b / 1000:.0f}" for r, b in found["bits"].items()}
    counts = ", ".join(f"{n} {kind}" for kind, n in found["moved"]["counts"].items())
    crowd = [
        {"way": name, **{f"{n:,}": round(value, 3) for n, value in curve.items()}}
        for name, curve in found["large_scale"].items()
    ]
    return [
        {
            "caption": f"mAP by how many times smaller the query is: {of}; {caution}",
            "rows": [short, bits, *_rows(found["map"])],
        },
        {"caption": "Mean distance to the sharp query's descriptor", "rows": _rows(found["distance"])},
        {
            "caption": f"mAP of queries {HARD} times smaller, with so many distractors in the database (seed 0)",
            "rows": crowd,
        },
        {
            "caption": f"Queries {HARD} times smaller that moved furthest by FSR-GAN without a critic (seed 0; {counts} their AP)",
            "rows": found["moved"]["furthest"],
        },
    ]


def said(caution: RegularizationConfig | None) -> str:
    """In words."""
    rank, relative = (caution.rank, caution.relative_loss) if caution else (0, False)
    return f"corrections of {f'rank {rank}' if rank else 'any rank'}, {'relative' if relative else 'plain'} loss"


def _rows(by_name: Mapping[str, Mapping[float, Sequence[float]]]) -> list[dict[str, Any]]:
    return [{"way": name} | {f"{r:g}x": cell(v) for r, v in curve.items()} for name, curve in by_name.items()]


def cell(values: Sequence[float]) -> str:
    """Mean ± half the range, where there is one."""
    spread = f" ± {(max(values) - min(values)) / 2:.3f}" if len(values) > 1 and max(values) > min(values) else ""
    return f"{sum(values) / len(values):.3f}{spread}"


def draw(case: str, found: Mapping[str, Any], folder: Path) -> None:
    """mAP against ratio (Fig. 6), distances (Fig. 5), mAP against bits (Fig. 8) and among distractors (Fig. 7)."""
    by_bits = {
        name: {found["bits"][ratio] / 1000: v for ratio, v in curve.items()} for name, curve in found["map"].items()
    }
    crowd = {name: {n: [value] for n, value in curve.items()} for name, curve in found["large_scale"].items()}
    times = "times smaller per side"
    for kind, shown, across, up in (
        ("map", found["map"], times, "mAP"),
        ("distance", found["distance"], times, "distance to the sharp descriptor"),
        ("bits", by_bits, "kilobits of the query (PNG)", "mAP"),
        ("distractors", crowd, "distractors in the database", "mAP"),
    ):
        plot_seed_curves(shown, folder / f"fsr_gan-{case}-{kind}.png", across, up)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=("places", "tt100k-photos", "tt100k-gallery"))
    parser.add_argument("data", type=Path, nargs="?", default=Path("data"))
    parser.add_argument("--work", type=Path, default=Path("runs/fsr-gan"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    for name, value, said in (
        ("seeds", 3, "of what learns from descriptors"),
        ("steps", 500, "of G"),
        ("srcnn-steps", 300, "at each scale"),
        ("vdsr-steps", 60, "at each scale"),
        ("raml-steps", 150, "of the distilled encoder"),
        ("distractors", 2000, "pictures"),
    ):
        parser.add_argument(f"--{name}", type=int, default=value, help=said)
    return parser.parse_args()


def main() -> None:
    """Run one case and write its JSON and its pictures."""
    given = arguments()
    torch.set_num_threads(1)
    about = made(torch.device("cpu"), f"python benchmarks/fsr_gan.py {' '.join(sys.argv[1:])}")
    settings, folder = settings_of(given.case, given.data, given.work, given.steps), given.work / f"runs-{given.case}"
    pairs = build_descriptor_pairs(
        build_descriptor_cache(settings.encoding), list_train_images(settings.collection), settings.ratios
    )
    low = query_descriptors(settings, settings.ratios)
    fixed = {
        "raw": IdentityGenerator(),
        "ridge": fit_best_ridge(pairs),
        "mean shift, told the ratio": fit_mean_offsets(pairs),
    }
    once = {name: apply_generator(lift, low) for name, lift in fixed.items()}
    blind, told = (cautious(replace(settings, generator=kind), pairs, folder) for kind in ("residual", "conditioned"))
    every, seconds, first = [retrieval_curves(once, settings)], {}, once
    for seed in range(given.seeds):
        lifts, seconds = learned(blind, told, pairs, seed, folder)
        queries = {name: apply_generator(lift, low) for name, lift in lifts.items()}
        every.append(retrieval_curves(queries, settings))
        first = queries if seed == 0 else first
    every.append(retrieval_curves(rivals(settings, given, folder), settings))
    others = distractors(given.case, given.data, given.work, given.distractors)
    found = {
        "settings": {"blind": blind, "told": told},
        "learned_from": len(pairs.high),
        "seconds": seconds,
        **gathered(every),
        **query_sizes(settings, settings.ratios),
        "large_scale": large_scale({**once, **first}, settings, others),
        "moved": who_moved(low[HARD], first["FSR-GAN, no critic"][HARD], settings),
    }
    about |= {"seed": f"0 to {given.seeds - 1}"}
    print(keep(f"fsr_gan-{given.case}", tables(given.case, given.seeds, found), about, given.out, found))
    draw(given.case, found, given.out)


if __name__ == "__main__":
    main()
