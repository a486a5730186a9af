"""Convert DeepPCB to a COCO folder with 650 training and 50 validation images of its official training set.

    git clone https://github.com/tangsanli5201/DeepPCB
    python benchmarks/prepare/deeppcb.py DeepPCB/PCBData DATA/deeppcb

``deeppcb_train.txt`` and ``deeppcb_val.txt`` list the images.
"""

import shutil
import sys
from pathlib import Path

from coco_json import Box, read_names, write_split

CLASSES = ("open", "short", "mousebite", "spur", "copper", "pinhole")
SIZE = (640, 640)


def convert(source: Path, out: Path) -> None:
    """Write the splits "train" and "val" of ``source``, the folder ``PCBData``, to ``out``."""
    annotations = {path.stem: path for path in source.glob("group*/*_not/*.txt")}
    for split in ("train", "val"):
        (out / split).mkdir(parents=True, exist_ok=True)
        images = {}
        for name in read_names(f"deeppcb_{split}"):
            path = annotations[name]
            image = path.parent.with_name(path.parent.name.removesuffix("_not")) / f"{name}_test.jpg"
            shutil.copyfile(image, out / split / image.name)
            images[image.name] = read_boxes(path)
        write_split(out, split, images, SIZE, CLASSES)


def read_boxes(path: Path) -> list[Box]:
    """Return the boxes of a file with lines "left top right bottom class", classes from 1."""
    rows = [[int(number) for number in line.split()] for line in path.read_text().splitlines() if line.strip()]
    return [(left, top, right - left, bottom - top, label, {}) for left, top, right, bottom, label in rows]


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
