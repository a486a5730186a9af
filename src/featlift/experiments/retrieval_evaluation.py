"""``featlift evaluate`` of a run of FSR-GAN: what is found by tiny queries, raw and lifted, as numbers and as curves."""

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
    """mAP, distances and bits at every ratio of the run (FSR-GAN, Figs. 5, 6 and 8), raw and lifted.

    Written to ``out``, or ``curves`` in the run: ``curves.json``, ``map.png``, ``distance.png``, ``bits.png``.

    Args:
        run: folder of a training of FSR-GAN.
        data: a folder by class (``gallery/<class>/``, ``query/<class>/``) to search instead of the run's own collection.
        out: folder.
    """
    settings, folder = load_retrieval_settings(run), out or run / "curves"
    if data:
        settings = replace(settings, collection=replace(settings.collection, benchmark="classes", images=data))
    found = evaluate_generators({"raw": IdentityGenerator(), "lifted": load(run / GENERATOR_FILE).eval()}, settings)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "curves.json", found)
    plot_retrieval_curves(found, folder)
    print(format_retrieval_table(found))
    print(folder)
    return found


def load_retrieval_settings(run: Path) -> Settings:
    """What a run says of pictures, describer and ratios; how it learned is left at its defaults."""
    kept = json.loads((run / "settings.json").read_text())
    statistics = kept["encoding"]["statistics"] and tuple(kept["encoding"]["statistics"])
    encoding = EmbedderConfig(**{**kept["encoding"], "statistics": statistics})
    return Settings(CollectionConfig(**kept["collection"]), encoding, ratios=tuple(kept["ratios"]))


def format_retrieval_table(results: dict[str, Any]) -> str:
    """A line for each ratio: short side, kilobits, and mAP in per cent."""
    lines = [f"{'smaller by':>10}{'short side':>12}{'kilobits':>10}" + "".join(f"{name:>9}" for name in results["map"])]
    for ratio, side in results["short_side"].items():
        precisions = "".join(f"{100 * curve[ratio]:9.1f}" for curve in results["map"].values())
        lines.append(f"{ratio:>10g}{side:>9.0f} px{results['bits'][ratio] / 1000:>10.1f}{precisions}")
    return "\n".join(lines)


def plot_retrieval_curves(results: dict[str, Any], folder: Path) -> None:
    """mAP against ratio and against bits, and the mean distance to the sharp descriptor."""
    kilobits = {ratio: bits / 1000 for ratio, bits in results["bits"].items()}
    precisions = {name: {ratio: [value] for ratio, value in curve.items()} for name, curve in results["map"].items()}
    by_bits = {name: {kilobits[ratio]: value for ratio, value in curve.items()} for name, curve in precisions.items()}
    distances = {
        name: {ratio: [pair[0]] for ratio, pair in curve.items()} for name, curve in results["distance"].items()
    }
    plot_seed_curves(precisions, folder / "map.png", "times smaller per side", "mAP")
    plot_seed_curves(by_bits, folder / "bits.png", "kilobits of the query (PNG)", "mAP")
    plot_seed_curves(distances, folder / "distance.png", "times smaller per side", "distance to the sharp descriptor")
