"""Convert BBBC038 (2018 Data Science Bowl, stage 1) to a COCO folder with instance masks.

    python benchmarks/prepare/nuclei.py stage1_train DATA/nuclei

Images of 256x256 pixels, sorted by name: every tenth image is for validation.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from featlift.data.masks import mask_to_rle


def convert(source: Path, out: Path) -> None:
    """Write the splits "train" and "val" of ``source``, the folder ``stage1_train``, to ``out``."""
    folders = sorted(path for path in source.iterdir() if (path / "masks").is_dir())
    folders = [path for path in folders if Image.open(next((path / "images").glob("*.png"))).size == (256, 256)]
    for split, part in (("train", [f for i, f in enumerate(folders) if i % 10]), ("val", folders[::10])):
        (out / split).mkdir(parents=True, exist_ok=True)
        truth: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "nucleus"}]}
        for image_id, folder in enumerate(part, 1):
            Image.open(folder / "images" / f"{folder.name}.png").convert("RGB").save(out / split / f"{folder.name}.png")
            truth["images"].append({"id": image_id, "file_name": f"{folder.name}.png", "width": 256, "height": 256})
            for mask in sorted((folder / "masks").glob("*.png")):
                annotation = {"id": len(truth["annotations"]) + 1, "image_id": image_id, "category_id": 1, "iscrowd": 0}
                truth["annotations"].append(annotation | read_instance(mask))
        (out / f"instances_{split}.json").write_text(json.dumps(truth))


def read_instance(path: Path) -> dict[str, Any]:
    """Return box, area and run-length encoding of the mask of one nucleus."""
    mask = np.array(Image.open(path).convert("L")) > 0
    rows, columns = np.nonzero(mask)
    left, top = int(columns.min()), int(rows.min())
    box = [left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1]
    return {"bbox": box, "area": int(mask.sum()), "segmentation": mask_to_rle(torch.from_numpy(mask))}


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
