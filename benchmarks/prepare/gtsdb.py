"""Convert the German Traffic Sign Detection Benchmark to a COCO folder.

    python benchmarks/prepare/gtsdb.py TrainIJCNN2013 DATA/gtsdb

Images with signs are reduced from 1360x800 to 680x400 (Lanczos, JPEG quality 80), and the 43 classes are merged to the four categories of
the benchmark. ``gtsdb_val.txt`` lists the validation images.
"""

import sys
from collections import defaultdict
from pathlib import Path

from coco_json import Box, read_names, write_split
from PIL import Image

CATEGORIES = {
    "prohibitory": (0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 15, 16),
    "danger": (11, *range(18, 32)),
    "mandatory": tuple(range(33, 41)),
    "other": (6, 12, 13, 14, 17, 32, 41, 42),
}
CATEGORY_IDS = {fine: number for number, group in enumerate(CATEGORIES.values(), 1) for fine in group}
SIZE = (680, 400)


def convert(source: Path, out: Path) -> None:
    """Write the splits "train" and "val" of ``source``, a folder with ``gt.txt`` and PPM images, to ``out``."""
    boxes = read_boxes(source / "gt.txt")
    val = set(read_names("gtsdb_val"))
    for split, names in (("train", sorted(set(boxes) - val)), ("val", sorted(set(boxes) & val))):
        (out / split).mkdir(parents=True, exist_ok=True)
        for name in names:
            image = Image.open(source / f"{name}.ppm").resize(SIZE, Image.Resampling.LANCZOS)
            image.save(out / split / f"{name}.jpg", quality=80)
        write_split(out, split, {f"{name}.jpg": boxes[name] for name in names}, SIZE, CATEGORIES)


def read_boxes(path: Path) -> dict[str, list[Box]]:
    """Return image name → boxes in pixels of the reduced image; a line of ``gt.txt`` is "00000.ppm;left;top;right;bottom;class"."""
    boxes = defaultdict(list)
    for line in path.read_text().split():
        name, *numbers = line.split(";")
        left, top, right, bottom, fine = map(int, numbers)
        box = (left / 2, top / 2, (right - left + 1) / 2, (bottom - top + 1) / 2)
        boxes[name.removesuffix(".ppm")].append((*box, CATEGORY_IDS[fine], {"fine_category_id": fine}))
    return dict(boxes)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
