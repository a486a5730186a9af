"""Painting a stencil onto a canvas: turned, supersampled and averaged over the area of each pixel, in whole numbers
only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featlift.data.synthetic.backgrounds import RGB, Canvas
from featlift.data.synthetic.glyphs import FIELD, RIM, STENCIL_SIZE, SYMBOL, TRANSPARENT

SUBPIXEL = 16
_SHIFTS = np.array((0, 10, 20), dtype=np.int32)
_PACKED = np.zeros(4, dtype=np.int32)
_PACKED[[RIM, FIELD, SYMBOL]] = (
    1,
    1 << 10,
    1 << 20,
)  # three counters of ten bits in one number: one sum instead of three


@dataclass(frozen=True)
class Sprite:
    """Something to paint: a stencil, the colors of its three inks, and where, how large and how far turned it is.

    ``center`` (x, y) is in 1/16 pixels; ``width`` and ``height`` in pixels; ``tilt`` is tan(angle/2) in 1/64, so that
    sine and cosine are fractions and no machine rounds them its own way. ``motion_blur``, in pixels, is how far it moved to
    the right or, when negative, down while the picture was taken.
    """

    stencil: NDArray[np.uint8]
    colors: Sequence[RGB]
    center: tuple[int, int]
    width: int
    height: int
    tilt: int = 0
    motion_blur: int = 0


@dataclass(frozen=True)
class SpriteRaster:
    """A shape's share of each pixel of a window of the canvas: ``premultiplied_color`` [h, w, 3] in 0…255·whole, ``coverage`` [h, w] in
    0…whole.
    """

    region: tuple[slice, slice]
    premultiplied_color: NDArray[np.int32]
    coverage: NDArray[np.int32]
    full_coverage: int

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Pixels of the window that are at least half covered, ``[h, w]``."""
        return 2 * self.coverage >= self.full_coverage

    def composite_onto(self, canvas: Canvas) -> None:
        """Lay it over what is there, soft at the rim."""
        under = canvas[self.region]
        canvas[self.region] = (
            self.premultiplied_color + (self.full_coverage - self.coverage)[..., None] * under
        ) // self.full_coverage


def rasterise_sprite(sprite: Sprite, canvas_size: tuple[int, int]) -> SpriteRaster:
    """What ``sprite`` covers of a canvas of ``canvas_size`` (height, width)."""
    window = _bounding_slices(sprite, canvas_size)
    samples = max(2, min(8, -(-STENCIL_SIZE // max(sprite.width, sprite.height))))
    counts = _apply_motion_blur(_count_samples(sprite, window, samples), sprite.motion_blur)
    share = (counts[..., None] >> _SHIFTS) & 1023
    ink = share @ np.array(sprite.colors, dtype=np.int32)
    return SpriteRaster(
        window, ink, share.sum(axis=2, dtype=np.int32), samples * samples * (1 + (sprite.motion_blur != 0))
    )


def _rotation(tilt: int) -> tuple[int, int, int]:
    """Cosine, sine and the one they are fractions of, for tan(angle/2) = tilt/64."""
    return 4096 - tilt**2, 128 * tilt, 4096 + tilt**2


def _bounding_slices(sprite: Sprite, canvas_size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns the shape may touch; at least one of each."""
    cos, sin, one = _rotation(sprite.tilt)
    sides = []
    for place, length, own, other in zip(
        reversed(sprite.center), canvas_size, (sprite.height, sprite.width), (sprite.width, sprite.height), strict=True
    ):
        reach = (own * cos + other * abs(sin)) // (2 * one) + 2 + abs(sprite.motion_blur)
        middle = min(max(place // SUBPIXEL, 0), length - 1)
        sides.append(slice(max(0, middle - reach), min(length, middle + reach + 1)))
    return sides[0], sides[1]


def _count_samples(sprite: Sprite, region: tuple[slice, slice], samples: int) -> NDArray[np.int32]:
    """How many of each pixel's ``samples`` x ``samples`` samples each ink has, packed: ``[h, w]``."""
    unit = STENCIL_SIZE * samples  # of a pixel: the center and the middles of all samples are whole
    y, x = (
        np.arange(side.start * samples, side.stop * samples, dtype=np.int32) * STENCIL_SIZE
        + (STENCIL_SIZE // 2 - place * unit // SUBPIXEL)
        for side, place in zip(region, reversed(sprite.center), strict=True)
    )
    cos, sin, one = _rotation(sprite.tilt)
    column = ((x * cos)[None, :] + (y * sin)[:, None]) // (one * samples * sprite.width) + STENCIL_SIZE // 2
    row = ((y * cos)[:, None] - (x * sin)[None, :]) // (one * samples * sprite.height) + STENCIL_SIZE // 2
    outside = (row | column) & ~(STENCIL_SIZE - 1) != 0  # SAMPLES is a power of two
    index = sprite.stencil[row & (STENCIL_SIZE - 1), column & (STENCIL_SIZE - 1)]
    index[outside] = TRANSPARENT
    return _sum_row_groups(_sum_row_groups(_PACKED[index], samples).T, samples).T


def _sum_row_groups(values: NDArray[np.int32], samples: int) -> NDArray[np.int32]:
    """Sums of each ``samples`` rows: ``[h·samples, w]`` → ``[h, w]``."""
    values = np.ascontiguousarray(values)
    return values.reshape(-1, samples, values.shape[1]).sum(axis=1, dtype=np.int32)


def _apply_motion_blur(counts: NDArray[np.int32], motion_blur: int) -> NDArray[np.int32]:
    """The sum of the counts and themselves ``motion_blur`` pixels further: to the right, or down when negative."""
    if not motion_blur:
        return counts
    moved = np.zeros_like(counts)
    if motion_blur > 0:
        moved[:, motion_blur:] = counts[:, :-motion_blur]
    else:
        moved[-motion_blur:] = counts[:motion_blur]
    return counts + moved
