"""mAP against ratio: raw, ridge, one MLP per ratio, FSR-GAN with and without its critic; three seeds. →
benchmarks/results/fsr_gan-*.json, .png

    python benchmarks/fsr_gan.py places                    # built in
    python benchmarks/fsr_gan.py tt100k-photos /work/shared/data   # learned from photographs of other things: leak-free
    python benchmarks/fsr_gan.py tt100k-gallery /work/shared/data  # learned from the gallery's own pictures, without
    labels

The folder is that of the sample data: retrieval_tt100k, weights, coco, gtsdb and sr are used.
"""

import argparse
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from run import made

from featlift.evaluation.retrieval import draw_curves, moved, precisions
from featlift.gallery import Collection, Encoding, learning, opened, remembering, seen
from featlift.papers.fsr_gan import Game, Settings, descend, described, generator, measure, per_ratio, strongest_ridge
from featlift.retrieval.generator import lifted
from featlift.retrieval.lifts import Identity
from featlift.training import Descent, Run
from featlift.training.run import write_json

RESULTS = Path(__file__).parent / "results"
SLOWLY = Descent("adam", 8e-4, weight_decay=1e-4, schedule="cosine")


def settings_of(case: str, data: Path, work: Path, steps: int) -> Settings:
    """The benchmark ``case``, with everything that it writes under ``work``."""
    cache = str(work / "descriptors")
    if case == "places":
        collection, encoding = Collection("places", str(work / "places")), Encoding("gist", size=128, cache=cache)
    else:
        learn_from = photos(data, work) if case == "tt100k-photos" else views(data, work)
        weights = str(data / "weights" / "mobilenet_v2_tf2ptq_dequant.pth")
        collection = Collection("classes", str(data / "retrieval_tt100k"), learn_from=str(learn_from))
        encoding = Encoding("mobilenetv2_100", weights, size=128, statistics=(0.5, 0.5), cache=cache)
    return Settings(collection, encoding, hidden=512, descent=SLOWLY, steps=steps)


def photos(data: Path, work: Path, count: int = 700) -> Path:
    """Square crops of 56 to 112 px from photographs that show no sign of TT100K."""
    luck, out = random.Random(0), work / "photos"
    sources = [sorted((data / name).rglob("*.*g")) for name in ("coco", "gtsdb", "sr/BSDS500_train100")]
    files = [file for source in sources for file in source]
    out.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        image, side = Image.open(luck.choice(files)).convert("RGB"), luck.randint(56, 112)
        if min(image.size) >= side:
            x, y = luck.randint(0, image.width - side), luck.randint(0, image.height - side)
            image.crop((x, y, x + side, y + side)).save(out / f"photo-{i:04d}.png")
    return out


def views(data: Path, work: Path, each: int = 1) -> Path:
    """The gallery's pictures, and ``each`` crops (75–95 %) of every one."""
    luck, out, gallery = random.Random(0), work / "views", data / "retrieval_tt100k" / "gallery"
    for file in sorted(gallery.glob("*/*.png")):
        image, folder = Image.open(file).convert("RGB"), out / file.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / file.name)
        for view in range(each):
            share = luck.uniform(0.75, 0.95)
            width, height = int(image.width * share), int(image.height * share)
            x, y = luck.randint(0, image.width - width), luck.randint(0, image.height - height)
            image.crop((x, y, x + width, y + height)).save(folder / f"{file.stem}-{view}.png")
    return out


def lifts_of(settings: Settings, pairs, seed: int, folder: Path) -> tuple[dict, dict]:
    """Everything that learns, once, and the seconds each took."""
    dimension, lifts, seconds = pairs.high.shape[1], {}, {}

    def timed(name, make):
        began = time.perf_counter()
        with Run(folder / f"{name}-{seed}", seed=seed, device="cpu", save_every=100_000, log_every=200) as run:
            lifts[name] = make(run)
        seconds[name] = time.perf_counter() - began

    def trained(changed: Settings):
        return lambda run: descend(generator(changed, dimension), pairs, changed, run)

    timed("MLP per ratio", lambda run: per_ratio(pairs, settings, run))
    timed("FSR-GAN, no critic", trained(settings))
    timed("FSR-GAN, no critic, r = 1", trained(replace(settings, exponent=1.0)))
    timed("FSR-GAN, critic (wgan-gp)", trained(replace(settings, game=Game("wgan-gp", weight=0.1, turns=1))))
    timed("FSR-GAN, told the ratio", trained(replace(settings, generator="conditioned")))
    return lifts, seconds


def who_moved(settings: Settings, lift, ratio: float) -> dict:
    """Which queries gained and lost by ``lift`` at ``ratio``."""
    landmarks, F = opened(settings.collection), remembering(settings.encoding)
    database, low = seen(F, landmarks.database, 1), seen(F, [q.picture for q in landmarks.queries], ratio)
    told = torch.full((len(low),), float(ratio))
    pair = [precisions(x, database, landmarks.queries) for x in (low, lifted(lift, low, told))]
    names = [f"{q.picture.parent.name}/{q.picture.name}" for q in landmarks.queries]
    rows = moved(*pair)
    found = {
        kind: [{"query": names[i], "before": pair[0][i], "after": pair[1][i]} for i in rows[kind][:8]] for kind in rows
    }
    return {
        "ratio": ratio,
        "counts": {kind: len(rows[kind]) for kind in rows},
        **{k: found[k] for k in ("gained", "lost")},
    }


def tables(found: dict[str, Any]) -> list[dict[str, Any]]:
    """For ``docs/results.md``: mAP of every way at every ratio, mean ± half the range over seeds."""

    def cell(values: Sequence[float]) -> str:
        spread = f" ± {(max(values) - min(values)) / 2:.3f}" if len(values) > 1 else ""
        return f"{sum(values) / len(values):.3f}{spread}"

    short = {"way": "short side of the query, px"} | {f"{r:g}x": f"{px:.0f}" for r, px in found["short_side"].items()}
    rows = [{"way": name} | {f"{r:g}x": cell(v) for r, v in curve.items()} for name, curve in found["map"].items()]
    learned = f"learned from {found['learned_from']} pictures, {found['seeds']} seeds"
    return [
        {"caption": f"mAP by how many times smaller the query is, {found['case']}, {learned}", "rows": [short, *rows]}
    ]


def main() -> None:
    """Run one case and write its JSON and its pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=("places", "tt100k-photos", "tt100k-gallery"))
    parser.add_argument("data", type=Path, nargs="?", default=Path("data"))
    parser.add_argument("--work", type=Path, default=Path("runs/fsr-gan"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=500)
    given = parser.parse_args()
    torch.set_num_threads(1)
    settings = settings_of(given.case, given.data, given.work, given.steps)
    pairs = described(remembering(settings.encoding), learning(settings.collection), settings.ratios)
    fixed = {"raw": Identity(), "ridge": strongest_ridge(pairs)}
    every = [measure(fixed, settings)]
    seconds = {}
    for seed in range(given.seeds):
        lifts, seconds = lifts_of(settings, pairs, seed, given.work / given.case)
        every.append(measure(lifts, settings))
    curves = {key: {} for key in ("map", "distance")}
    for found in every:
        for key, curve in curves.items():
            for name, values in found[key].items():
                for ratio, value in values.items():
                    curve.setdefault(name, {}).setdefault(ratio, []).append(value[0] if key == "distance" else value)
    sizes = {key: every[0][key] for key in ("short_side", "bits")}
    changed = who_moved(settings, lifts["FSR-GAN, no critic"], 6)
    result = {"case": given.case, "seeds": given.seeds, "learned_from": len(pairs.high), **curves, **sizes}
    facts = made(
        torch.device("cpu"), f"python benchmarks/fsr_gan.py {given.case} --seeds {given.seeds} --steps {given.steps}"
    )
    detail = {"settings": settings, "seconds": seconds, "moved": changed}
    write_json(RESULTS / f"fsr_gan-{given.case}.json", {"tables": tables(result), "made": facts, **result, **detail})
    draw_curves(curves["map"], RESULTS / f"fsr_gan-{given.case}-map.png", "times smaller per side", "mAP")
    draw_curves(
        curves["distance"],
        RESULTS / f"fsr_gan-{given.case}-distance.png",
        "times smaller per side",
        "distance to the sharp descriptor",
    )
    by_bits = {
        name: {sizes["bits"][ratio] / 1000: v for ratio, v in curve.items()} for name, curve in curves["map"].items()
    }
    draw_curves(by_bits, RESULTS / f"fsr_gan-{given.case}-bits.png", "kilobits of the query (PNG)", "mAP")
    for name, curve in curves["map"].items():
        print(f"{name:28s}", *[f"{sum(v) / len(v):.3f}" for v in curve.values()])


if __name__ == "__main__":
    main()
