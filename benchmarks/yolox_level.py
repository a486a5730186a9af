r"""An extended level for YOLOX-Nano (COCO weights, frozen), trained without labels.

The level at stride 4 consists of the network's own frozen parts: stem, dark2 and dark3 on the image enlarged by 2, C3_p3 and the finest
head. Between them, the enlarged image's map of reduce_conv1 is required. A student derives it from a map of the plain pass; it is
distilled on unlabeled images from the pass on the enlarged image, through the frozen parts. With that pass's own map the level is the
"bound". Boxes of the new level below a size limit are added to the plain detector's before non-maximum suppression.

Students: ``lateral`` (upsamples lateral_conv0's map), ``reduce`` (reduce_conv1's), also ``lateral:INTERPOLATOR`` and
``reduce:INTERPOLATOR``, or an interpolator's name (reduce_conv1's map without guides).

Steps, each resumable, in this order (needs ``pip install pixeltable-yolox``)::

    python benchmarks/yolox_level.py cache    --cache OUT/cache --images DATA/coco_pretrained/unlabelled
    python benchmarks/yolox_level.py held-out --cache OUT/cache --name val80 \
        --images DATA/coco_pretrained/val80 DATA/coco/train2017 DATA/coco/val2017 \
        --ground-truth DATA/coco_pretrained/instances_val80.json DATA/coco/annotations/instances_{train,val}2017.json \
        --exclude DATA/coco_pretrained/unlabelled
    python benchmarks/yolox_level.py train    --cache OUT/cache --runs OUT/runs --student lateral --steps 2000 --held-out val80
    python benchmarks/yolox_level.py evaluate --cache OUT/cache --held-out val80 --runs OUT/runs/lateral_2000_seed0.pt --name val80_first

Results: ``benchmarks/results/yolox_level/<name>.json``.
"""

import argparse
import itertools
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from data_folder import DATA
from run import RESULTS, collect_metadata, write_result
from torch import nn
from yolox_boxes import Boxes, MergeRule
from yolox_cache import CELLS, MAPS, fill_cache, open_cache, read_images
from yolox_cost import compare_costs
from yolox_held_out import (
    METRICS,
    HeldOutSet,
    cached_level_boxes,
    compute_metrics,
    level_boxes,
    merge_all,
    open_held_out,
    pseudo_label,
    select_in_tiles,
    select_tiles,
    write_held_out,
)
from yolox_level_options import build_parser
from yolox_losses import DistillationSettings
from yolox_network import YOLOXNano
from yolox_students import build_student
from yolox_training import load_student, train_student

from featlift.evaluation.bootstrap import paired_bootstrap
from featlift.integrations.yolox import load_yolox

Row = dict[str, Any]


def open_network(args: argparse.Namespace) -> YOLOXNano:
    """Return the frozen detector with the weights ``args.weights``."""
    torch.set_num_threads(args.threads)
    network = YOLOXNano(load_yolox(args.weights))
    return network.to(memory_format=torch.channels_last)


def open_student(run: str, network: YOLOXNano) -> nn.Module:
    """Return the student of a checkpoint, or of the name ``bound``."""
    return build_student(run, network) if run == "bound" else load_student(Path(run), network)[0]


def cache_maps(args: argparse.Namespace) -> None:
    """Store the maps of unlabeled images and of a mirrored crop of each."""
    files = sorted(args.images.iterdir())
    fill_cache(
        open_network(args), args.cache / "unlabeled", list(MAPS), read_images(files, True), 2 * len(files), args.native
    )


def prepare_held_out(args: argparse.Namespace) -> None:
    """Store maps and boxes of labeled images; several folders with the same classes become one set."""
    excluded = {path.name for folder in args.exclude for path in folder.iterdir()}
    ground_truth: dict[str, Any] = {"images": [], "annotations": []}
    files = []
    for folder, annotations in zip(args.images, args.ground_truth, strict=True):
        part = json.loads(annotations.read_text())
        images = [image for image in part["images"] if image["file_name"] not in excluded]
        images.sort(key=lambda image: image["id"])
        ids = {image["id"] for image in images}
        ground_truth["categories"] = part["categories"]
        ground_truth["images"] += images
        ground_truth["annotations"] += [one for one in part["annotations"] if one["image_id"] in ids]
        files += [folder / image["file_name"] for image in images]
    for number, annotation in enumerate(ground_truth["annotations"], 1):
        annotation["id"] = number
    write_held_out(open_network(args), args.cache / args.name, files, ground_truth, args.native)


def train(args: argparse.Namespace) -> None:
    """Train a student and evaluate it on held-out images at some steps."""
    network = open_network(args)
    held_out_sets = [open_held_out(args.cache, name) for name in args.held_out]
    options, others = json.loads(args.options), json.loads(args.settings)
    settings = DistillationSettings(args.student, options, args.steps, seed=args.seed, **others)

    def evaluate(student: nn.Module) -> dict[str, Any]:
        return {one.name: _metrics_by_factor(one, level_boxes(network, student, one)) for one in held_out_sets}

    steps = [step for step in args.evaluate_at if step < settings.steps] + [settings.steps]
    args.runs.mkdir(parents=True, exist_ok=True)
    train_student(network, open_cache(args.cache / "unlabeled"), settings, args.runs, steps, evaluate)


def _metrics_by_factor(held_out: HeldOutSet, boxes: Sequence[Boxes]) -> dict[float, dict[str, float]]:
    return {
        factor: compute_metrics(held_out, merge_all(held_out, boxes, MergeRule(32.0, factor))) for factor in (1.0, 1.5)
    }


def select_rules(args: argparse.Namespace) -> None:
    """Metrics of a set for several rules of merging; nothing is selected."""
    network, rows = open_network(args), []
    held_out = open_held_out(args.cache, args.held_out)
    for run in args.runs:
        boxes = cached_level_boxes(network, open_student(run, network), held_out, Path(run).stem)
        for size, factor, power, plain in itertools.product(
            args.max_size, args.score_factor, args.score_power, args.min_plain_size
        ):
            rule = MergeRule(size, factor, power, min(plain, size))
            rows.append(_rule_row(run, rule, held_out, boxes))
    write(args, [{"caption": f"{args.held_out}: rules of merging", "rows": rows}])


def calibrate(args: argparse.Namespace) -> None:
    """Metrics for several factors of the level's scores with the teacher's confident boxes on unlabeled images as ground truth."""
    network = open_network(args)
    held_out = pseudo_label(network, open_cache(args.cache / "unlabeled"), args.num_images, args.min_score)
    rows = [{"level": "none"} | compute_metrics(held_out, merge_all(held_out, None, MergeRule()))]
    for run in args.runs:
        boxes = level_boxes(network, open_student(run, network), held_out)
        for rule in itertools.product(args.max_size, args.score_factor, args.score_power):
            rows.append(_rule_row(run, MergeRule(*rule), held_out, boxes))
    caption = f"{args.num_images} unlabeled images, teacher above {args.min_score}"
    write(args, [{"caption": caption, "rows": rows}])


def _rule_row(run: str, rule: MergeRule, held_out: HeldOutSet, boxes: Sequence[Boxes]) -> Row:
    row = {"level": Path(run).stem} | asdict(rule) | compute_metrics(held_out, merge_all(held_out, boxes, rule))
    print(row, flush=True)
    return row


def evaluate_tiles(args: argparse.Namespace) -> None:
    """Metrics if the level is computed only in tiles around small boxes of the plain detector, and the share of these tiles."""
    network, rows = open_network(args), []
    held_out = open_held_out(args.cache, args.held_out)
    boxes = cached_level_boxes(network, open_student(args.run, network), held_out, Path(args.run).stem)
    content = sum(math.prod(math.ceil(side / 32) for side in image["extent"]) for image in held_out.cache.images)
    for min_score, margin in itertools.product(args.min_score, args.margin):
        tiles = [select_tiles(plain, args.tile_max_size, min_score, margin) for plain in held_out.plain]
        selected = list(map(select_in_tiles, boxes, tiles))
        results = merge_all(held_out, selected, MergeRule(args.max_size, args.score_factor))
        num_tiles = sum(int(one.sum()) for one in tiles)
        shares = {
            "share of 416x416": round(num_tiles / CELLS**2 / len(tiles), 3),
            "share of the content": round(num_tiles / content, 3),
        }
        rows.append({"score above": min_score, "margin": margin} | shares | compute_metrics(held_out, results))
        print(rows[-1], flush=True)
    write(args, [{"caption": f"{args.held_out}: tiles of 32 px in which the level is computed", "rows": rows}])


def evaluate(args: argparse.Namespace) -> None:
    """Compare runs and untrained students with the plain detector, the bound and the native image at twice the size."""
    network = open_network(args)
    students: dict[str, nn.Module] = {name: build_student(name, network) for name in ("nearest", "bound")}
    for name in args.untrained:
        options = {"guided": False} if name.startswith("lateral") else {}
        students[name] = build_student(name, network, options)
    curves: dict[str, Any] = {name: [] for name in students}
    for run in args.runs:
        students[Path(run).stem], checkpoint = load_student(Path(run), network)
        curves[Path(run).stem] = checkpoint["records"]["curve"]
    tables = []
    for name in args.held_out:
        held_out = open_held_out(args.cache, name)
        levels = {"native": held_out.native} if args.native else {}
        levels |= {one: cached_level_boxes(network, student, held_out, one) for one, student in students.items()}
        rows = compare_levels(held_out, levels, args)
        tables.append({"caption": f"{name}: {len(held_out.cache)} images", "rows": rows})
    tables.append({"caption": "cost", "rows": compare_costs(network, students, args.rounds)})
    write(args, tables, {"curves": curves})


def compare_levels(held_out: HeldOutSet, levels: dict[str, list[Boxes]], args: argparse.Namespace) -> list[Row]:
    """Metrics of the plain detector and of each level, with intervals of the differences at ``args.interval_max_size``."""
    plain = merge_all(held_out, None, MergeRule())
    references = {"plain": plain}
    if args.reference:
        references[args.reference] = merge_all(held_out, levels[args.reference], MergeRule(args.interval_max_size))
    rows: list[Row] = [{"level": "none"} | compute_metrics(held_out, plain)]
    for name, boxes in levels.items():
        for size, factor in itertools.product(args.max_size, args.score_factor):
            results = merge_all(held_out, boxes, MergeRule(size, factor))
            row = {"level": name, "max_size": size, "score_factor": factor} | compute_metrics(held_out, results)
            for reference, results_of_reference in references.items():
                if size == args.interval_max_size and reference != name:
                    intervals = paired_bootstrap(
                        held_out.ground_truth, results_of_reference, results, n_resamples=args.n_resamples
                    )
                    row |= {f"{metric} - {reference}": intervals[metric].percent_text for metric in METRICS}
            rows.append(row)
            print(held_out.name, row, flush=True)
    return rows


def write(args: argparse.Namespace, tables: list[dict[str, Any]], details: dict[str, Any] | None = None) -> None:
    """Write the result file ``args.name``."""
    command = " ".join(["python benchmarks/yolox_level.py", *sys.argv[1:]])
    metadata = collect_metadata(torch.device("cpu"), command)
    print(write_result(args.name, tables, metadata, RESULTS / "yolox_level", details))


STEPS = {
    "cache": cache_maps,
    "held-out": prepare_held_out,
    "train": train,
    "rules": select_rules,
    "calibrate": calibrate,
    "tiles": evaluate_tiles,
    "evaluate": evaluate,
}


def main() -> None:
    """Run the command line."""
    args = build_parser(__doc__, DATA / "weights" / "yolox_nano_coco.onnx").parse_args()
    STEPS[args.step](args)


if __name__ == "__main__":
    main()
