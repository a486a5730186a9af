"""Draw the signs, clutter and occluders of a synthetic scene, and keep track of the visible pixels of each sign."""

from collections.abc import Sequence

import numpy as np

from featlift.data.synthetic.backgrounds import RGB, Canvas, draw_background
from featlift.data.synthetic.glyphs import SIGN_OUTLINES, filled_stencil, sign_stencil
from featlift.data.synthetic.painting import SUBPIXEL, Sprite, SpriteRaster, rasterize_sprite
from featlift.data.synthetic.rng import PortableRNG

SIGN_COLORS: tuple[tuple[RGB, RGB, RGB], ...] = (
    ((196, 30, 42), (240, 240, 236), (24, 24, 28)),  # red, white, black
    ((236, 238, 240), (28, 84, 170), (244, 246, 248)),  # white, blue, white
    ((30, 30, 32), (246, 196, 36), (26, 26, 30)),  # black, yellow, black
    ((240, 240, 238), (22, 120, 72), (242, 244, 242)),  # white, green, white
    ((226, 110, 20), (250, 232, 200), (60, 30, 20)),  # orange, cream, brown
)
"""(rim, field, symbol) colors of a sign, independent of its class."""
MIN_VISIBLE_BEHIND_OCCLUDER, MIN_VISIBLE_BEHIND_SIGN = 70, 90
"""Minimum visible per cent of an object behind occluders and behind other signs; sprites that would hide more are not drawn."""


class SceneBuilder:
    """Scene in progress: canvas, instance map, and the full and visible area of each object."""

    def __init__(self, image_size: tuple[int, int], rng: PortableRNG) -> None:
        self.canvas: Canvas = draw_background(image_size, rng)
        self.instance_map = np.zeros(image_size, dtype=np.int32)
        self.labels: list[int] = []
        self._full_areas: list[int] = [0]  # pixels of the background (unused) and of objects 1 … N without occlusion
        self._visible_areas: list[int] = [0]  # their visible pixels
        self._rng, self._image_size = rng, image_size

    def add_sign(self, classes: Sequence[str], object_sizes: tuple[int, int]) -> None:
        """Draw an object that hides others only within the limit; gives up after twenty random positions."""
        rng = self._rng
        label, side = rng.randint(1, len(classes)), rng.log_uniform(*object_sizes)
        stencil = sign_stencil(rng.choice(tuple(SIGN_OUTLINES)), classes[label - 1])
        colors, tilt = _fade_colors(rng.choice(SIGN_COLORS), rng), rng.randint(-7, 7)
        blur = rng.choice((-1, 1)) * max(1, side // 14) if rng.chance(20) else 0
        for _ in range(20):
            sprite = Sprite(stencil, colors, self._random_position(side // 2), side, side, tilt, blur)
            raster = rasterize_sprite(sprite, self._image_size)
            if raster.mask.any() and self._leaves_visible(raster, MIN_VISIBLE_BEHIND_SIGN):
                self._add_object(raster, label)
                return

    def add_clutter(self, object_sizes: tuple[int, int]) -> None:
        """Draw clutter of no class into the background: a blank sign, a filled outline or a bar."""
        rng, width = self._rng, self._rng.log_uniform(*object_sizes)
        outline = rng.choice((*SIGN_OUTLINES, "bar"))
        stencil = sign_stencil(outline) if outline != "bar" and rng.chance(50) else filled_stencil(outline)
        colors = _fade_colors(rng.choice(SIGN_COLORS), rng)
        height, tilt = max(2, width * rng.randint(4, 16) // 10), rng.randint(-24, 24)
        sprite = Sprite(stencil, colors, self._random_position(0), width, height, tilt)
        rasterize_sprite(sprite, self._image_size).composite_onto(self.canvas)

    def add_occluder(self, object_sizes: tuple[int, int]) -> None:
        """Draw a pole or a disk in the foreground, unless it hides an object beyond the limit."""
        rng = self._rng
        gray = rng.randint(30, 200)
        color = (gray + rng.randint(-20, 20), gray, gray + rng.randint(-20, 20))
        if rng.chance(60):
            stencil, width = filled_stencil("bar"), rng.randint(1, max(2, object_sizes[1] // 8))
            height = rng.randint(object_sizes[1], 3 * object_sizes[1])
        else:
            stencil = filled_stencil("round")
            width = height = rng.randint(max(2, object_sizes[0] // 2), max(2, object_sizes[1] // 3))
        sprite = Sprite(stencil, (color,) * 3, self._random_position(0), width, height, rng.randint(-9, 9))
        raster = rasterize_sprite(sprite, self._image_size)
        if self._leaves_visible(raster, MIN_VISIBLE_BEHIND_OCCLUDER):
            raster.composite_onto(self.canvas)
            self._assign_pixels(raster, 0)

    def _add_object(self, raster: SpriteRaster, label: int) -> None:
        raster.composite_onto(self.canvas)
        self.labels.append(label)
        self._assign_pixels(raster, len(self.labels))
        self._full_areas.append(int(raster.mask.sum()))
        self._visible_areas.append(self._full_areas[-1])

    def _assign_pixels(self, raster: SpriteRaster, instance: int) -> None:
        self._visible_areas = [
            visible - hidden for visible, hidden in zip(self._visible_areas, self._hidden_areas(raster), strict=True)
        ]
        self.instance_map[raster.region][raster.mask] = instance

    def _hidden_areas(self, raster: SpriteRaster) -> list[int]:
        """Number of pixels of the background and of each object that ``raster`` covers."""
        return np.bincount(self.instance_map[raster.region][raster.mask], minlength=len(self._visible_areas)).tolist()

    def _leaves_visible(self, raster: SpriteRaster, min_percent: int) -> bool:
        """Whether ``min_percent`` per cent of every covered object would stay visible."""
        objects = list(zip(self._visible_areas, self._full_areas, self._hidden_areas(raster), strict=True))[1:]
        return all(100 * (visible - hidden) >= min_percent * full for visible, full, hidden in objects if hidden)

    def _random_position(self, margin: int) -> tuple[int, int]:
        """Random point (x, y) in 1/16 pixels, at least ``margin`` pixels from the image border."""
        height, width = self._image_size
        x = self._rng.randint(margin * SUBPIXEL, max(margin, width - margin) * SUBPIXEL)
        return x, self._rng.randint(margin * SUBPIXEL, max(margin, height - margin) * SUBPIXEL)


def _fade_colors(colors: Sequence[RGB], rng: PortableRNG) -> list[RGB]:
    """Scale the colors by a random brightness and blend them towards gray."""
    brightness, fade = rng.randint(55, 105), rng.randint(0, 35)
    return [tuple((c * (100 - fade) + 128 * fade) * brightness // 10_000 for c in color) for color in colors]  # type: ignore[misc]
