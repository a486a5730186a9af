"""The built-in dataset: procedural scenes with many small signs whose classes differ only in fine detail."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from featlift.data.dataset import Sample, coco_categories, consecutive_ids
from featlift.data.synthetic.backgrounds import apply_camera_effects
from featlift.data.synthetic.glyphs import GLYPHS
from featlift.data.synthetic.rng import PortableRNG
from featlift.data.synthetic.scene_builder import SceneBuilder
from featlift.data.synthetic.scene_cache import RENDERED_SCENES, Scene

SIGN_CLASSES = tuple(GLYPHS)


class SyntheticScenes:
    """Procedural scenes with signs of `SIGN_CLASSES`, boxes and masks.

    Image ``i`` is a function of ``(seed, first_index + i)`` and the other settings, byte for byte equal on every machine.
    Training and validation images use two seeds, or two ranges of one seed: ``SyntheticScenes(400)`` and
    ``SyntheticScenes(100, first_index=400)``.

    The class of a sign is its glyph, independent of outline, color, size and position, so classification errors are
    caused by low resolution: ``benchmarks/sign_classification.py`` measures the readable signs by size, at full and at half
    resolution. Boxes and masks cover the visible part, at least 70 % of the object.

    Args:
        num_images: Number of images.
        image_size: Height and width in pixels.
        seed: Non-negative integer.
        num_objects: Minimum and maximum number of signs per image; the number of clutter sprites has the same range.
        object_sizes: Minimum and maximum side of the signs in pixels, log-uniformly distributed.
        classes: Glyphs of `SIGN_CLASSES` to use.
        first_index: Index of the first scene.

    Raises:
        ValueError: for an empty or non-positive range, images too small for the signs, or an unknown class.
    """

    def __init__(
        self,
        num_images: int,
        image_size: tuple[int, int] = (160, 160),
        seed: int = 0,
        num_objects: tuple[int, int] = (8, 14),
        object_sizes: tuple[int, int] = (6, 40),
        classes: Sequence[str] = SIGN_CLASSES,
        first_index: int = 0,
    ) -> None:
        _validate_settings(num_images, image_size, num_objects, object_sizes, classes)
        self.classes, self.category_ids = list(classes), consecutive_ids(classes)
        self.settings: dict[str, Any] = {  # hashed as a part of the facts: do not rename the keys
            "count": num_images, "size": list(image_size), "seed": seed, "objects": list(num_objects), "sides": list(object_sizes),
            "classes": list(classes), "first": first_index,
        }  # fmt: skip
        self._num_images, self._image_size, self._seed, self._first_index = num_images, image_size, seed, first_index
        self._num_objects, self._object_sizes = num_objects, object_sizes

    def __len__(self) -> int:
        return self._num_images

    def __getitem__(self, index: int) -> Sample:
        """Image ``index`` [3, H, W] float32 in 0…1 and its target with ``masks`` [N, H, W]; see `featlift.data.dataset`."""
        pixels, instance_map, labels = self.render(index)
        image = torch.from_numpy(pixels).permute(2, 0, 1).contiguous().float() / 255
        masks = torch.from_numpy(instance_map[None] == np.arange(1, len(labels) + 1)[:, None, None])
        boxes = torch.tensor([_mask_to_box(mask) for mask in masks.numpy()], dtype=torch.float32).reshape(-1, 4)
        return image, {
            "boxes": boxes,
            "labels": torch.tensor(labels, dtype=torch.int64),
            "masks": masks.to(torch.uint8),
            "iscrowd": torch.zeros(len(labels), dtype=torch.int64),
            "area": masks.flatten(1).sum(1).float(),
            "image_id": torch.tensor(self._first_index + self._checked_index(index) + 1),
        }

    def render(self, index: int) -> Scene:
        """Render image ``index``: uint8 ``[H, W, 3]``; instance map ``[H, W]`` with object 1…N or 0 per pixel; labels.

        The images that were used last stay in memory (`featlift.data.synthetic.scene_cache`).
        """
        number = self._first_index + self._checked_index(index)
        settings = (self._image_size, self._num_objects, self._object_sizes, tuple(self.classes))
        return RENDERED_SCENES.get((self._seed, number, *settings), lambda: self._draw(number))

    def _draw(self, number: int) -> Scene:
        rng = PortableRNG(self._seed, number)
        scene = SceneBuilder(self._image_size, rng)
        for _ in range(rng.randint(*self._num_objects)):
            scene.add_clutter(self._object_sizes)
        for _ in range(rng.randint(*self._num_objects)):
            scene.add_sign(self.classes, self._object_sizes)
        for _ in range(rng.randint(2, 5)):
            scene.add_occluder(self._object_sizes)
        return apply_camera_effects(scene.canvas, rng), scene.instance_map, scene.labels

    def image_name(self, index: int) -> str:
        """File name of the image in an exported COCO folder."""
        return f"{self._first_index + self._checked_index(index) + 1:08d}.png"

    def image_size(self, index: int) -> tuple[int, int]:
        """Height and width in pixels, equal for all images."""
        return self._image_size

    def facts(self) -> dict[str, Any]:
        """Settings and the first image: `featlift.data.fingerprint` identifies the scenes by them, without rendering all."""
        image, instance_map, labels = self.render(0)
        digest = hashlib.sha256(image.tobytes() + instance_map.astype("<i4").tobytes()).hexdigest()
        return {"scenes": self.settings, "painted": digest, "labels": labels}

    def coco(self) -> dict[str, Any]:
        """Ground truth as a COCO dictionary with masks as run lengths; renders every scene once."""
        from featlift.data.masks import mask_to_rle

        images, annotations = [], []
        for index in range(len(self)):
            _, target = self[index]
            image_id = int(target["image_id"])
            images.append(
                {
                    "id": image_id,
                    "file_name": self.image_name(index),
                    "height": self._image_size[0],
                    "width": self._image_size[1],
                }
            )
            for box, label, area, mask in zip(*(target[k] for k in ("boxes", "labels", "area", "masks")), strict=True):
                left, top, right, bottom = box.tolist()
                annotations.append({
                    "id": len(annotations) + 1, "image_id": image_id, "category_id": int(label), "iscrowd": 0,
                    "bbox": [left, top, right - left, bottom - top], "area": float(area),
                    "segmentation": mask_to_rle(mask.numpy()),
                })  # fmt: skip
        return {"images": images, "annotations": annotations, "categories": coco_categories(self.classes)}

    def _checked_index(self, index: int) -> int:
        if not -self._num_images <= index < self._num_images:
            raise IndexError(f"Index {index} is out of range for {self._num_images} scenes.")
        return index % self._num_images


def _mask_to_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Tight box ``xyxy`` of the true pixels of ``mask`` [H, W]."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _validate_settings(
    num_images: int,
    image_size: tuple[int, int],
    num_objects: tuple[int, int],
    object_sizes: tuple[int, int],
    classes: Sequence[str],
) -> None:
    if num_images < 1:
        raise ValueError(f"num_images is {num_images}; a dataset needs at least one scene.")
    if not 0 <= num_objects[0] <= num_objects[1]:
        raise ValueError(
            f"num_objects is {num_objects}; give the minimum and maximum number of signs per scene, as in (8, 14)."
        )
    if not 3 <= object_sizes[0] <= object_sizes[1]:
        raise ValueError(
            f"object_sizes is {object_sizes}; give the minimum (at least 3) and maximum side in pixels, as in (6, 40)."
        )
    if min(image_size) < object_sizes[1]:
        raise ValueError(
            f"image_size is {image_size}: too small for signs of {object_sizes[1]} px. Use larger scenes or smaller signs."
        )
    unknown = [name for name in classes if name not in GLYPHS]
    if unknown or not classes:
        raise ValueError(f"Unknown classes {unknown}; choose at least one of {', '.join(GLYPHS)}.")
