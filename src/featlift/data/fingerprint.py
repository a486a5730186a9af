"""Dataset fingerprints, which identify the data of a result."""

import hashlib
import json
from typing import Any

from featlift.data.crops import DatasetSubset
from featlift.data.dataset import ImageDataset
from featlift.data.synthetic.scenes import SyntheticScenes


def dataset_fingerprint(dataset: ImageDataset) -> str:
    """Hash of all image ids and sizes, classes, boxes and crowd flags: 16 hexadecimal digits.

    Of `SyntheticScenes` only the settings and the first image are hashed, without rendering the others; a subset of them adds its
    indices. Pixels of image files are not read.
    """
    return hashlib.sha256(json.dumps(_facts(dataset), sort_keys=True).encode()).hexdigest()[:16]


def _facts(dataset: ImageDataset) -> dict[str, Any]:
    if isinstance(dataset, SyntheticScenes):
        return _synthetic_facts(dataset)
    if isinstance(dataset, DatasetSubset) and isinstance(dataset.dataset, SyntheticScenes):
        return {"indices": dataset.indices, **_synthetic_facts(dataset.dataset)}
    return _ground_truth_facts(dataset)


def _synthetic_facts(scenes: SyntheticScenes) -> dict[str, Any]:
    image, instance_map, labels = scenes.render(0)
    digest = hashlib.sha256(image.tobytes() + instance_map.astype("<i4").tobytes()).hexdigest()
    return {"scenes": scenes.settings, "painted": digest, "labels": labels}  # the keys are hashed: do not rename them


def _ground_truth_facts(dataset: ImageDataset) -> dict[str, Any]:
    truth = dataset.coco()
    images = sorted([image["id"], image["height"], image["width"]] for image in truth["images"])
    objects = sorted(
        [a["image_id"], a["category_id"], a["iscrowd"], *(round(side, 3) for side in a["bbox"])]
        for a in truth["annotations"]
    )
    return {"classes": dataset.classes, "images": images, "objects": objects}
