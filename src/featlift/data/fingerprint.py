"""Dataset fingerprints, which identify the data of a result."""

import hashlib
import json
from typing import Any, Protocol, runtime_checkable

from featlift.data.dataset import ImageDataset


@runtime_checkable
class HasFacts(Protocol):
    """A dataset that states itself what identifies it, such as the settings that its images are rendered from."""

    def facts(self) -> dict[str, Any]:
        """What identifies images and objects, as JSON values. Their keys and values are hashed: do not change them."""
        ...


def dataset_fingerprint(dataset: ImageDataset) -> str:
    """Hash of what identifies the dataset, 16 hexadecimal digits: its own `HasFacts.facts`, or else `ground_truth_facts`.

    Pixels of image files are not read.
    """
    return hashlib.sha256(json.dumps(dataset_facts(dataset), sort_keys=True).encode()).hexdigest()[:16]


def dataset_facts(dataset: ImageDataset) -> dict[str, Any]:
    """What `dataset_fingerprint` hashes."""
    return dataset.facts() if isinstance(dataset, HasFacts) else ground_truth_facts(dataset)


def ground_truth_facts(dataset: ImageDataset) -> dict[str, Any]:
    """Classes, ids and sizes of all images, and boxes, category ids and crowd flags of all objects."""
    truth = dataset.coco()
    images = sorted([image["id"], image["height"], image["width"]] for image in truth["images"])
    objects = sorted(
        [a["image_id"], a["category_id"], a["iscrowd"], *(round(side, 3) for side in a["bbox"])]
        for a in truth["annotations"]
    )
    return {"classes": dataset.classes, "images": images, "objects": objects}
