"""The built-in data: procedural scenes full of small signs that only fine detail tells apart."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from featlift.data.dataset import Sample, coco_categories
from featlift.data.synthetic.backgrounds import RGB, Canvas, apply_camera_effects, draw_background
from featlift.data.synthetic.glyphs import GLYPHS, SIGN_OUTLINES, filled_stencil, sign_stencil
from featlift.data.synthetic.painting import SUBPIXEL, Sprite, SpriteRaster, rasterise_sprite
from featlift.data.synthetic.rng import PortableRNG

SIGN_CLASSES = tuple(GLYPHS)

SIGN_COLOURS: tuple[tuple[RGB, RGB, RGB], ...] = (
    ((196, 30, 42), (240, 240, 236), (24, 24, 28)),  # red, white, black
    ((236, 238, 240), (28, 84, 170), (244, 246, 248)),  # white, blue, white
    ((30, 30, 32), (246, 196, 36), (26, 26, 30)),  # black, yellow, black
    ((240, 240, 238), (22, 120, 72), (242, 244, 242)),  # white, green, white
    ((226, 110, 20), (250, 232, 200), (60, 30, 20)),  # orange, cream, brown
)
"""(rim, field, ink) of a sign; any class has any of them."""

MIN_VISIBLE_BEHIND_OCCLUDER, MIN_VISIBLE_BEHIND_SIGN = 70, 90
"""Per cent of an object that must stay visible behind things of no class, and behind other signs; what would hide
more is not painted.
"""


class SyntheticScenes:
    """``num_images`` pictures of ``image_size`` (height, width), each with ``num_objects`` (fewest, most) signs and as much clutter.

    Picture ``i`` is a function of ``(seed, first + i)`` and of the other settings, byte for byte the same on every
    machine. Training and validation pictures are two seeds, or two ranges of one: ``Scenes(400)`` and ``Scenes(100,
    first=400)``.

    The class of a sign is its glyph; outline, colors, size and place say nothing about it. ``object_sizes`` are the
    shortest and the longest side in pixels (log-uniform in between). What is mistaken here is mistaken
    for want of resolution: ``benchmarks/readability.py`` measures how many signs of each size can be read, at full size
    and at half. Boxes and masks are those of the visible part, at least 70 % of the object.

    Raises:
        ValueError: for a range that is empty or not positive, pictures too small for the signs, or an unknown class.
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
        self.classes = list(classes)
        self.settings: dict[str, Any] = {
            "count": num_images, "size": list(image_size), "seed": seed, "objects": list(num_objects), "sides": list(object_sizes),
            "classes": list(classes), "first": first_index,
        }  # fmt: skip
        self._num_images, self._image_size, self._seed, self._first_index = num_images, image_size, seed, first_index
        self._num_objects, self._object_sizes = num_objects, object_sizes

    def __len__(self) -> int:
        return self._num_images

    def __getitem__(self, index: int) -> Sample:
        """Picture ``index`` [3, H, W] float32 in 0…1 and its target, with ``masks`` [N, H, W]; see
        `featlift.data.dataset`.
        """
        picture, owner, labels = self.render(index)
        image = torch.from_numpy(picture).permute(2, 0, 1).contiguous().float() / 255
        masks = torch.from_numpy(owner[None] == np.arange(1, len(labels) + 1)[:, None, None])
        boxes = torch.tensor([_mask_to_box(mask) for mask in masks.numpy()], dtype=torch.float32).reshape(-1, 4)
        return image, {
            "boxes": boxes,
            "labels": torch.tensor(labels, dtype=torch.int64),
            "masks": masks.to(torch.uint8),
            "iscrowd": torch.zeros(len(labels), dtype=torch.int64),
            "area": masks.flatten(1).sum(1).float(),
            "image_id": torch.tensor(self._first_index + self._checked_index(index) + 1),
        }

    def render(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.int32], list[int]]:
        """Picture ``index`` as ``[H, W, 3]`` bytes; which object (1…N, 0 for none) owns each pixel, ``[H, W]``; their
        labels.
        """
        dice = PortableRNG(self._seed, self._first_index + self._checked_index(index))
        scene = _SceneBuilder(self._image_size, dice)
        for _ in range(dice.randint(*self._num_objects)):
            scene.add_clutter(self._object_sizes)
        for _ in range(dice.randint(*self._num_objects)):
            scene.add_sign(self.classes, self._object_sizes)
        for _ in range(dice.randint(2, 5)):
            scene.add_occluder(self._object_sizes)
        return apply_camera_effects(scene.canvas, dice), scene.instance_map, scene.labels

    def image_name(self, index: int) -> str:
        """The file name this picture gets when the scenes are written out."""
        return f"{self._first_index + self._checked_index(index) + 1:08d}.png"

    def image_size(self, index: int) -> tuple[int, int]:
        """Height and width, the same for all."""
        return self._image_size

    def coco(self) -> dict[str, Any]:
        """The ground truth in COCO's form, masks as run lengths. Every scene is painted once."""
        from featlift.data.masks import mask_to_rle

        images, annotations = [], []
        for index in range(len(self)):
            _, target = self[index]
            number = int(target["image_id"])
            images.append(
                {
                    "id": number,
                    "file_name": self.image_name(index),
                    "height": self._image_size[0],
                    "width": self._image_size[1],
                }
            )
            for box, label, area, mask in zip(*(target[k] for k in ("boxes", "labels", "area", "masks")), strict=True):
                left, top, right, bottom = box.tolist()
                annotations.append({
                    "id": len(annotations) + 1, "image_id": number, "category_id": int(label), "iscrowd": 0,
                    "bbox": [left, top, right - left, bottom - top], "area": float(area),
                    "segmentation": mask_to_rle(mask.numpy()),
                })  # fmt: skip
        return {"images": images, "annotations": annotations, "categories": coco_categories(self.classes)}

    def _checked_index(self, index: int) -> int:
        if not -self._num_images <= index < self._num_images:
            raise IndexError(f"Picture {index} of {self._num_images} scenes.")
        return index % self._num_images


class _SceneBuilder:
    """A scene under way: the canvas, who owns which pixel, and how large each object would be if nothing hid it."""

    def __init__(self, image_size: tuple[int, int], rng: PortableRNG) -> None:
        self.canvas: Canvas = draw_background(image_size, rng)
        self.instance_map = np.zeros(image_size, dtype=np.int32)
        self.labels: list[int] = []
        self._full_areas: list[int] = [0]  # pixels of nobody, and of objects 1 … N when they were painted
        self._visible_areas: list[int] = [0]  # what is still to be seen of them
        self._rng, self._image_size = rng, image_size

    def add_sign(self, classes: Sequence[str], object_sizes: tuple[int, int]) -> None:
        """One object, where it hides no other too much; twenty places are tried, then the scene is full."""
        dice = self._rng
        label, side = dice.randint(1, len(classes)), dice.log_uniform(*object_sizes)
        sprite = sign_stencil(dice.choice(tuple(SIGN_OUTLINES)), classes[label - 1])
        colors, tilt = _fade_colors(dice.choice(SIGN_COLOURS), dice), dice.randint(-7, 7)
        smear = dice.choice((-1, 1)) * max(1, side // 14) if dice.chance(20) else 0
        for _ in range(20):
            painted = rasterise_sprite(
                Sprite(sprite, colors, self._random_position(side // 2), side, side, tilt, smear), self._image_size
            )
            if painted.mask.any() and self._leaves_visible(painted, MIN_VISIBLE_BEHIND_SIGN):
                self._add_object(painted, label)
                return

    def add_clutter(self, object_sizes: tuple[int, int]) -> None:
        """Something of no class behind the objects to come: a blank sign, a spot or a bar."""
        dice, side = self._rng, self._rng.log_uniform(*object_sizes)
        outline = dice.choice((*SIGN_OUTLINES, "bar"))
        sprite = sign_stencil(outline) if outline != "bar" and dice.chance(50) else filled_stencil(outline)
        colors = _fade_colors(dice.choice(SIGN_COLOURS), dice)
        tall, tilt = max(2, side * dice.randint(4, 16) // 10), dice.randint(-24, 24)
        rasterise_sprite(
            Sprite(sprite, colors, self._random_position(0), side, tall, tilt), self._image_size
        ).composite_onto(self.canvas)

    def add_occluder(self, object_sizes: tuple[int, int]) -> None:
        """A pole or a spot in front of whatever is there."""
        dice = self._rng
        gray = dice.randint(30, 200)
        color = (gray + dice.randint(-20, 20), gray, gray + dice.randint(-20, 20))
        if dice.chance(60):
            thick, tall, sprite = (
                dice.randint(1, max(2, object_sizes[1] // 8)),
                dice.randint(object_sizes[1], 3 * object_sizes[1]),
                filled_stencil("bar"),
            )
        else:
            thick = tall = dice.randint(max(2, object_sizes[0] // 2), max(2, object_sizes[1] // 3))
            sprite = filled_stencil("round")
        painted = rasterise_sprite(
            Sprite(sprite, (color,) * 3, self._random_position(0), thick, tall, dice.randint(-9, 9)), self._image_size
        )
        if self._leaves_visible(painted, MIN_VISIBLE_BEHIND_OCCLUDER):
            painted.composite_onto(self.canvas)
            self._assign_pixels(painted, 0)

    def _add_object(self, raster: SpriteRaster, label: int) -> None:
        raster.composite_onto(self.canvas)
        self.labels.append(label)
        self._assign_pixels(raster, len(self.labels))
        self._full_areas.append(int(raster.mask.sum()))
        self._visible_areas.append(self._full_areas[-1])

    def _assign_pixels(self, raster: SpriteRaster, instance: int) -> None:
        self._visible_areas = [
            shown - hidden for shown, hidden in zip(self._visible_areas, self._hidden_areas(raster), strict=True)
        ]
        self.instance_map[raster.region][raster.mask] = instance

    def _hidden_areas(self, raster: SpriteRaster) -> list[int]:
        """How many pixels of nobody and of each object ``raster`` lies upon."""
        return np.bincount(self.instance_map[raster.region][raster.mask], minlength=len(self._visible_areas)).tolist()

    def _leaves_visible(self, raster: SpriteRaster, min_percent: int) -> bool:
        """Whether every object it touches would still show ``min_percent`` per cent of itself."""
        objects = list(zip(self._visible_areas, self._full_areas, self._hidden_areas(raster), strict=True))[1:]
        return all(100 * (shown - hidden) >= min_percent * whole for shown, whole, hidden in objects if hidden)

    def _random_position(self, margin: int) -> tuple[int, int]:
        """A point (x, y) in 1/16 pixels, at least ``margin`` pixels from the rim of the picture."""
        height, width = self._image_size
        across = self._rng.randint(margin * SUBPIXEL, max(margin, width - margin) * SUBPIXEL)
        return across, self._rng.randint(margin * SUBPIXEL, max(margin, height - margin) * SUBPIXEL)


def _fade_colors(colors: Sequence[RGB], rng: PortableRNG) -> list[RGB]:
    """The colors in a light of their own, and a little faded towards gray."""
    light, fade = rng.randint(55, 105), rng.randint(0, 35)
    return [tuple((c * (100 - fade) + 128 * fade) * light // 10_000 for c in color) for color in colors]  # type: ignore[misc]


def _mask_to_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """The tight box ``xyxy`` around the true pixels of ``mask`` [H, W]."""
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
        raise ValueError(f"count is {num_images}; a dataset needs at least one scene.")
    if not 0 <= num_objects[0] <= num_objects[1]:
        raise ValueError(f"objects is {num_objects}; give the fewest and the most signs a scene has, as in (8, 14).")
    if not 3 <= object_sizes[0] <= object_sizes[1]:
        raise ValueError(
            f"sides is {object_sizes}; give the shortest (at least 3) and the longest side in pixels, as in (6, 40)."
        )
    if min(image_size) < object_sizes[1]:
        raise ValueError(
            f"size is {image_size}: too small for signs of {object_sizes[1]} px. Make the scenes larger or the sides shorter."
        )
    unknown = [name for name in classes if name not in GLYPHS]
    if unknown or not classes:
        raise ValueError(f"Unknown classes {unknown}; choose at least one of {', '.join(GLYPHS)}.")
