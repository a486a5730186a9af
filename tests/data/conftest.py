"""COCO folders with two splits."""

import json

import numpy as np
import pytest
from PIL import Image

BOX = {"image_id": 1, "category_id": 1, "iscrowd": 0}


@pytest.fixture
def write_folder():
    """A function that writes a COCO folder of three images of 40x30 pixels and returns it."""

    def write(root, annotations, prepare=None, categories=({"id": 1, "name": "a"},)):
        """Two images of 40x30 pixels in train, whose annotations are given, and another in val with one object."""
        rng = np.random.default_rng(0)
        for split, names in (("train", ("1.png", "2.png")), ("val", ("3.png",))):
            (root / split).mkdir(parents=True)
            for name in names:
                Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(root / split / name)
        for split, ids in (("train", (1, 2)), ("val", (3,))):
            objects = annotations if split == "train" else [{**BOX, "image_id": 3, "bbox": [1, 2, 9, 8]}]
            document = {
                "images": [{"id": k, "file_name": f"{k}.png", "width": 40, "height": 30} for k in ids],
                "annotations": [{"id": k, **annotation} for k, annotation in enumerate(objects)],
                "categories": list(categories),
            }
            if prepare:
                prepare(root, split, document)
            (root / f"instances_{split}.json").write_text(json.dumps(document))
        return root

    return write
