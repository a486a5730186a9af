"""Rasterize stencils onto a canvas with rotation and antialiasing by supersampling, in integer arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featlift.data.synthetic.backgrounds import RGB, Canvas
from featlift.data.synthetic.glyphs import FIELD, RIM, STENCIL_SIZE, SYMBOL, TRANSPARENT

SUBPIXEL = 16
_SHIFTS = np.array((0, 10, 20), dtype=np.int32)
_PACKED = np.zeros(4, dtype=np.int32)
_PACKED[[RIM, FIELD, SYMBOL]] = (1, 1 << 10, 1 << 20)  # three counters of ten bits: one sum instead of three


@dataclass(frozen=True)
class Sprite:
    """Stencil with colors of its three inks, position, size, rotation and motion blur.

    ``center`` (x, y) is in 1/16 pixels, ``width`` and ``height`` are in pixels. ``tilt`` is tan(angle/2) in 1/64, which
    makes sine and cosine rational and the result machine-independent. ``motion_blur`` is the displacement in pixels, to
    the right or, if negative, down.
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
    """Rasterized sprite on a ``region`` of the canvas: ``premultiplied_color`` [h, w, 3] in 0…255·``full_coverage``,
    ``coverage`` [h, w] in 0…``full_coverage``.
    """

    region: tuple[slice, slice]
    premultiplied_color: NDArray[np.int32]
    coverage: NDArray[np.int32]
    full_coverage: int

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Pixels of the region with at least half coverage, ``[h, w]``."""
        return 2 * self.coverage >= self.full_coverage

    def composite_onto(self, canvas: Canvas) -> None:
        """Alpha-composite the sprite onto ``canvas`` in place."""
        background = canvas[self.region]
        canvas[self.region] = (
            self.premultiplied_color + (self.full_coverage - self.coverage)[..., None] * background
        ) // self.full_coverage


def rasterize_sprite(sprite: Sprite, canvas_size: tuple[int, int]) -> SpriteRaster:
    """Rasterize ``sprite`` on a canvas of ``canvas_size`` (height, width)."""
    region = _bounding_slices(sprite, canvas_size)
    samples = max(2, min(8, -(-STENCIL_SIZE // max(sprite.width, sprite.height))))
    counts = _apply_motion_blur(_count_samples(sprite, region, samples), sprite.motion_blur)
    ink_counts = (counts[..., None] >> _SHIFTS) & 1023
    color = ink_counts @ np.array(sprite.colors, dtype=np.int32)
    full_coverage = samples * samples * (1 + (sprite.motion_blur != 0))
    return SpriteRaster(region, color, ink_counts.sum(axis=2, dtype=np.int32), full_coverage)


def _rotation(tilt: int) -> tuple[int, int, int]:
    """Numerators of cosine and sine and their common denominator, for tan(angle/2) = tilt/64."""
    return 4096 - tilt**2, 128 * tilt, 4096 + tilt**2


def _bounding_slices(sprite: Sprite, canvas_size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns the sprite may cover; at least one of each."""
    cos, sin, denominator = _rotation(sprite.tilt)
    slices = []
    for center, length, side, other_side in zip(
        reversed(sprite.center), canvas_size, (sprite.height, sprite.width), (sprite.width, sprite.height), strict=True
    ):
        radius = (side * cos + other_side * abs(sin)) // (2 * denominator) + 2 + abs(sprite.motion_blur)
        middle = min(max(center // SUBPIXEL, 0), length - 1)
        slices.append(slice(max(0, middle - radius), min(length, middle + radius + 1)))
    return slices[0], slices[1]


def _count_samples(sprite: Sprite, region: tuple[slice, slice], samples: int) -> NDArray[np.int32]:
    """Number of each pixel's ``samples`` x ``samples`` samples per ink, packed into one integer: ``[h, w]``."""
    unit = STENCIL_SIZE * samples  # per pixel: sprite center and sample centers are integers
    y, x = (
        np.arange(side.start * samples, side.stop * samples, dtype=np.int32) * STENCIL_SIZE
        + (STENCIL_SIZE // 2 - center * unit // SUBPIXEL)
        for side, center in zip(region, reversed(sprite.center), strict=True)
    )
    cos, sin, denominator = _rotation(sprite.tilt)
    column = ((x * cos)[None, :] + (y * sin)[:, None]) // (denominator * samples * sprite.width) + STENCIL_SIZE // 2
    row = ((y * cos)[:, None] - (x * sin)[None, :]) // (denominator * samples * sprite.height) + STENCIL_SIZE // 2
    outside = (row | column) & ~(STENCIL_SIZE - 1) != 0  # STENCIL_SIZE is a power of two
    index = sprite.stencil[row & (STENCIL_SIZE - 1), column & (STENCIL_SIZE - 1)]
    index[outside] = TRANSPARENT
    return _sum_row_groups(_sum_row_groups(_PACKED[index], samples).T, samples).T


def _sum_row_groups(values: NDArray[np.int32], samples: int) -> NDArray[np.int32]:
    """Sum each ``samples`` consecutive rows: ``[h·samples, w]`` → ``[h, w]``."""
    values = np.ascontiguousarray(values)
    return values.reshape(-1, samples, values.shape[1]).sum(axis=1, dtype=np.int32)


def _apply_motion_blur(counts: NDArray[np.int32], motion_blur: int) -> NDArray[np.int32]:
    """Add the counts shifted by ``motion_blur`` pixels to the right or, if negative, down."""
    if not motion_blur:
        return counts
    shifted = np.zeros_like(counts)
    if motion_blur > 0:
        shifted[:, motion_blur:] = counts[:, :-motion_blur]
    else:
        shifted[-motion_blur:] = counts[:motion_blur]
    return counts + shifted
