"""The built-in data: procedural scenes full of small signs that only fine detail tells apart."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from featlift.data.dataset import Example, categories
from featlift.data.synthetic.backgrounds import Canvas, Colour, background, finished
from featlift.data.synthetic.glyphs import GLYPHS, OUTLINES, plain, stencil
from featlift.data.synthetic.painting import SUBPIXEL, Paint, Shape, paint
from featlift.data.synthetic.rng import Dice

CLASSES = tuple(GLYPHS)

COLOURS: tuple[tuple[Colour, Colour, Colour], ...] = (
    ((196, 30, 42), (240, 240, 236), (24, 24, 28)),  # red, white, black
    ((236, 238, 240), (28, 84, 170), (244, 246, 248)),  # white, blue, white
    ((30, 30, 32), (246, 196, 36), (26, 26, 30)),  # black, yellow, black
    ((240, 240, 238), (22, 120, 72), (242, 244, 242)),  # white, green, white
    ((226, 110, 20), (250, 232, 200), (60, 30, 20)),  # orange, cream, brown
)
"""(rim, field, ink) of a sign; any class has any of them."""

SHOWN, SHOWN_BY_SIGNS = 70, 90
"""Per cent of an object that must stay visible behind things of no class, and behind other signs; what would hide
more is not painted.
"""


class Scenes:
    """``count`` pictures of ``size`` (height, width), each with ``objects`` (fewest, most) signs and as much clutter.

    Picture ``i`` is a function of ``(seed, first + i)`` and of the other settings, byte for byte the same on every
    machine. Training and validation pictures are two seeds, or two ranges of one: ``Scenes(400)`` and ``Scenes(100,
    first=400)``.

    The class of a sign is its glyph; outline, colours, size and place say nothing about it. ``sides`` are the
    shortest and the longest side in pixels (log-uniform in between). What is mistaken here is mistaken
    for want of resolution: ``benchmarks/readability.py`` measures how many signs of each size can be read, at full size
    and at half. Boxes and masks are those of the visible part, at least 70 % of the object.

    Raises:
        ValueError: for a range that is empty or not positive, pictures too small for the signs, or an unknown class.
    """

    def __init__(
        self,
        count: int,
        size: tuple[int, int] = (160, 160),
        seed: int = 0,
        objects: tuple[int, int] = (8, 14),
        sides: tuple[int, int] = (6, 40),
        classes: Sequence[str] = CLASSES,
        first: int = 0,
    ) -> None:
        _check(count, size, objects, sides, classes)
        self.classes = list(classes)
        self.settings: dict[str, Any] = {
            "count": count, "size": list(size), "seed": seed, "objects": list(objects), "sides": list(sides),
            "classes": list(classes), "first": first,
        }  # fmt: skip
        self._count, self._size, self._seed, self._first = count, size, seed, first
        self._objects, self._sides = objects, sides

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Example:
        """Picture ``index`` [3, H, W] float32 in 0…1 and its target, with ``masks`` [N, H, W]; see
        `featlift.data.dataset`.
        """
        picture, owner, labels = self.painted(index)
        image = torch.from_numpy(picture).permute(2, 0, 1).contiguous().float() / 255
        masks = torch.from_numpy(owner[None] == np.arange(1, len(labels) + 1)[:, None, None])
        boxes = torch.tensor([_box(mask) for mask in masks.numpy()], dtype=torch.float32).reshape(-1, 4)
        return image, {
            "boxes": boxes,
            "labels": torch.tensor(labels, dtype=torch.int64),
            "masks": masks.to(torch.uint8),
            "iscrowd": torch.zeros(len(labels), dtype=torch.int64),
            "area": masks.flatten(1).sum(1).float(),
            "image_id": torch.tensor(self._first + self._at(index) + 1),
        }

    def painted(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.int32], list[int]]:
        """Picture ``index`` as ``[H, W, 3]`` bytes; which object (1…N, 0 for none) owns each pixel, ``[H, W]``; their
        labels.
        """
        dice = Dice(self._seed, self._first + self._at(index))
        scene = _Scene(self._size, dice)
        for _ in range(dice.between(*self._objects)):
            scene.clutter(self._sides)
        for _ in range(dice.between(*self._objects)):
            scene.sign(self.classes, self._sides)
        for _ in range(dice.between(2, 5)):
            scene.occluder(self._sides)
        return finished(scene.canvas, dice), scene.owner, scene.labels

    def name(self, index: int) -> str:
        """The file name this picture gets when the scenes are written out."""
        return f"{self._first + self._at(index) + 1:08d}.png"

    def size(self, index: int) -> tuple[int, int]:
        """Height and width, the same for all."""
        return self._size

    def coco(self) -> dict[str, Any]:
        """The ground truth in COCO's form, masks as run lengths. Every scene is painted once."""
        from featlift.data.masks import encode

        images, annotations = [], []
        for index in range(len(self)):
            _, target = self[index]
            number = int(target["image_id"])
            images.append(
                {"id": number, "file_name": self.name(index), "height": self._size[0], "width": self._size[1]}
            )
            for box, label, area, mask in zip(*(target[k] for k in ("boxes", "labels", "area", "masks")), strict=True):
                left, top, right, bottom = box.tolist()
                annotations.append({
                    "id": len(annotations) + 1, "image_id": number, "category_id": int(label), "iscrowd": 0,
                    "bbox": [left, top, right - left, bottom - top], "area": float(area),
                    "segmentation": encode(mask.numpy()),
                })  # fmt: skip
        return {"images": images, "annotations": annotations, "categories": categories(self.classes)}

    def _at(self, index: int) -> int:
        if not -self._count <= index < self._count:
            raise IndexError(f"Picture {index} of {self._count} scenes.")
        return index % self._count


class _Scene:
    """A scene under way: the canvas, who owns which pixel, and how large each object would be if nothing hid it."""

    def __init__(self, size: tuple[int, int], dice: Dice) -> None:
        self.canvas: Canvas = background(size, dice)
        self.owner = np.zeros(size, dtype=np.int32)
        self.labels: list[int] = []
        self._whole: list[int] = [0]  # pixels of nobody, and of objects 1 … N when they were painted
        self._shown: list[int] = [0]  # what is still to be seen of them
        self._dice, self._size = dice, size

    def sign(self, classes: Sequence[str], sides: tuple[int, int]) -> None:
        """One object, where it hides no other too much; twenty places are tried, then the scene is full."""
        dice = self._dice
        label, side = dice.between(1, len(classes)), dice.log_uniform(*sides)
        sprite = stencil(dice.choice(tuple(OUTLINES)), classes[label - 1])
        colours, tilt = _weathered(dice.choice(COLOURS), dice), dice.between(-7, 7)
        smear = dice.choice((-1, 1)) * max(1, side // 14) if dice.chance(20) else 0
        for _ in range(20):
            painted = paint(Shape(sprite, colours, self._place(side // 2), side, side, tilt, smear), self._size)
            if painted.mask.any() and self._spares(painted, SHOWN_BY_SIGNS):
                self._own(painted, label)
                return

    def clutter(self, sides: tuple[int, int]) -> None:
        """Something of no class behind the objects to come: a blank sign, a spot or a bar."""
        dice, side = self._dice, self._dice.log_uniform(*sides)
        outline = dice.choice((*OUTLINES, "bar"))
        sprite = stencil(outline) if outline != "bar" and dice.chance(50) else plain(outline)
        colours = _weathered(dice.choice(COLOURS), dice)
        tall, tilt = max(2, side * dice.between(4, 16) // 10), dice.between(-24, 24)
        paint(Shape(sprite, colours, self._place(0), side, tall, tilt), self._size).onto(self.canvas)

    def occluder(self, sides: tuple[int, int]) -> None:
        """A pole or a spot in front of whatever is there."""
        dice = self._dice
        grey = dice.between(30, 200)
        colour = (grey + dice.between(-20, 20), grey, grey + dice.between(-20, 20))
        if dice.chance(60):
            thick, tall, sprite = (
                dice.between(1, max(2, sides[1] // 8)),
                dice.between(sides[1], 3 * sides[1]),
                plain("bar"),
            )
        else:
            thick = tall = dice.between(max(2, sides[0] // 2), max(2, sides[1] // 3))
            sprite = plain("round")
        painted = paint(Shape(sprite, (colour,) * 3, self._place(0), thick, tall, dice.between(-9, 9)), self._size)
        if self._spares(painted, SHOWN):
            painted.onto(self.canvas)
            self._claim(painted, 0)

    def _own(self, painted: Paint, label: int) -> None:
        painted.onto(self.canvas)
        self.labels.append(label)
        self._claim(painted, len(self.labels))
        self._whole.append(int(painted.mask.sum()))
        self._shown.append(self._whole[-1])

    def _claim(self, painted: Paint, owner: int) -> None:
        self._shown = [shown - hidden for shown, hidden in zip(self._shown, self._hidden(painted), strict=True)]
        self.owner[painted.window][painted.mask] = owner

    def _hidden(self, painted: Paint) -> list[int]:
        """How many pixels of nobody and of each object ``painted`` lies upon."""
        return np.bincount(self.owner[painted.window][painted.mask], minlength=len(self._shown)).tolist()

    def _spares(self, painted: Paint, least: int) -> bool:
        """Whether every object it touches would still show ``least`` per cent of itself."""
        objects = list(zip(self._shown, self._whole, self._hidden(painted), strict=True))[1:]
        return all(100 * (shown - hidden) >= least * whole for shown, whole, hidden in objects if hidden)

    def _place(self, margin: int) -> tuple[int, int]:
        """A point (x, y) in 1/16 pixels, at least ``margin`` pixels from the rim of the picture."""
        height, width = self._size
        across = self._dice.between(margin * SUBPIXEL, max(margin, width - margin) * SUBPIXEL)
        return across, self._dice.between(margin * SUBPIXEL, max(margin, height - margin) * SUBPIXEL)


def _weathered(colours: Sequence[Colour], dice: Dice) -> list[Colour]:
    """The colours in a light of their own, and a little faded towards grey."""
    light, fade = dice.between(55, 105), dice.between(0, 35)
    return [tuple((c * (100 - fade) + 128 * fade) * light // 10_000 for c in colour) for colour in colours]  # type: ignore[misc]


def _box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """The tight box ``xyxy`` around the true pixels of ``mask`` [H, W]."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _check(
    count: int, size: tuple[int, int], objects: tuple[int, int], sides: tuple[int, int], classes: Sequence[str]
) -> None:
    if count < 1:
        raise ValueError(f"count is {count}; a dataset needs at least one scene.")
    if not 0 <= objects[0] <= objects[1]:
        raise ValueError(f"objects is {objects}; give the fewest and the most signs a scene has, as in (8, 14).")
    if not 3 <= sides[0] <= sides[1]:
        raise ValueError(
            f"sides is {sides}; give the shortest (at least 3) and the longest side in pixels, as in (6, 40)."
        )
    if min(size) < sides[1]:
        raise ValueError(
            f"size is {size}: too small for signs of {sides[1]} px. Make the scenes larger or the sides shorter."
        )
    unknown = [name for name in classes if name not in GLYPHS]
    if unknown or not classes:
        raise ValueError(f"Unknown classes {unknown}; choose at least one of {', '.join(GLYPHS)}.")
