"""A short name for exactly these data, so that a result says what it was measured on."""

import hashlib
import json
from typing import Any

from featlift.data.dataset import ImageDataset
from featlift.data.synthetic.scenes import SyntheticScenes


def dataset_fingerprint(dataset: ImageDataset) -> str:
    """Sixteen hexadecimal digits that change whenever an image id or size, a class, a box or a crowd flag does.

    Of `Scenes` the settings and the bytes of the first picture are taken, so the whole set need not be painted.
    Pixels of picture files are not looked at.
    """
    facts = _synthetic_facts(dataset) if isinstance(dataset, SyntheticScenes) else _ground_truth_facts(dataset)
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _synthetic_facts(scenes: SyntheticScenes) -> dict[str, Any]:
    picture, owner, labels = scenes.render(0)
    painted = hashlib.sha256(picture.tobytes() + owner.astype("<i4").tobytes()).hexdigest()
    return {"scenes": scenes.settings, "painted": painted, "labels": labels}


def _ground_truth_facts(dataset: ImageDataset) -> dict[str, Any]:
    truth = dataset.coco()
    images = sorted([image["id"], image["height"], image["width"]] for image in truth["images"])
    objects = sorted(
        [a["image_id"], a["category_id"], a["iscrowd"], *(round(side, 3) for side in a["bbox"])]
        for a in truth["annotations"]
    )
    return {"classes": dataset.classes, "images": images, "objects": objects}
