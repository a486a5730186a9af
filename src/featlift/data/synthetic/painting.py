"""Painting a stencil onto a canvas: turned, supersampled and averaged over the area of each pixel, in whole numbers
only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featlift.data.synthetic.backgrounds import Canvas, Colour
from featlift.data.synthetic.glyphs import CLEAR, FIELD, INK, RIM, SAMPLES

SUBPIXEL = 16
_SHIFTS = np.array((0, 10, 20), dtype=np.int32)
_PACKED = np.zeros(4, dtype=np.int32)
_PACKED[[RIM, FIELD, INK]] = 1, 1 << 10, 1 << 20  # three counters of ten bits in one number: one sum instead of three


@dataclass(frozen=True)
class Shape:
    """Something to paint: a stencil, the colours of its three inks, and where, how large and how far turned it is.

    ``centre`` (x, y) is in 1/16 pixels; ``width`` and ``height`` in pixels; ``tilt`` is tan(angle/2) in 1/64, so that
    sine and cosine are fractions and no machine rounds them its own way. ``smear``, in pixels, is how far it moved to
    the right or, when negative, down while the picture was taken.
    """

    stencil: NDArray[np.uint8]
    colours: Sequence[Colour]
    centre: tuple[int, int]
    width: int
    height: int
    tilt: int = 0
    smear: int = 0


@dataclass(frozen=True)
class Paint:
    """A shape's share of each pixel of a window of the canvas: ``ink`` [h, w, 3] in 0…255·whole, ``cover`` [h, w] in
    0…whole.
    """

    window: tuple[slice, slice]
    ink: NDArray[np.int32]
    cover: NDArray[np.int32]
    whole: int

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Pixels of the window that are at least half covered, ``[h, w]``."""
        return 2 * self.cover >= self.whole

    def onto(self, canvas: Canvas) -> None:
        """Lay it over what is there, soft at the rim."""
        under = canvas[self.window]
        canvas[self.window] = (self.ink + (self.whole - self.cover)[..., None] * under) // self.whole


def paint(shape: Shape, size: tuple[int, int]) -> Paint:
    """What ``shape`` covers of a canvas of ``size`` (height, width)."""
    window = _window(shape, size)
    samples = max(2, min(8, -(-SAMPLES // max(shape.width, shape.height))))
    counts = _smeared(_counted(shape, window, samples), shape.smear)
    share = (counts[..., None] >> _SHIFTS) & 1023
    ink = share @ np.array(shape.colours, dtype=np.int32)
    return Paint(window, ink, share.sum(axis=2, dtype=np.int32), samples * samples * (1 + (shape.smear != 0)))


def _turn(tilt: int) -> tuple[int, int, int]:
    """Cosine, sine and the one they are fractions of, for tan(angle/2) = tilt/64."""
    return 4096 - tilt**2, 128 * tilt, 4096 + tilt**2


def _window(shape: Shape, size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns the shape may touch; at least one of each."""
    cos, sin, one = _turn(shape.tilt)
    sides = []
    for place, length, own, other in zip(
        reversed(shape.centre), size, (shape.height, shape.width), (shape.width, shape.height), strict=True
    ):
        reach = (own * cos + other * abs(sin)) // (2 * one) + 2 + abs(shape.smear)
        middle = min(max(place // SUBPIXEL, 0), length - 1)
        sides.append(slice(max(0, middle - reach), min(length, middle + reach + 1)))
    return sides[0], sides[1]


def _counted(shape: Shape, window: tuple[slice, slice], samples: int) -> NDArray[np.int32]:
    """How many of each pixel's ``samples`` x ``samples`` samples each ink has, packed: ``[h, w]``."""
    unit = SAMPLES * samples  # of a pixel: the centre and the middles of all samples are whole
    y, x = (
        np.arange(side.start * samples, side.stop * samples, dtype=np.int32) * SAMPLES
        + (SAMPLES // 2 - place * unit // SUBPIXEL)
        for side, place in zip(window, reversed(shape.centre), strict=True)
    )
    cos, sin, one = _turn(shape.tilt)
    column = ((x * cos)[None, :] + (y * sin)[:, None]) // (one * samples * shape.width) + SAMPLES // 2
    row = ((y * cos)[:, None] - (x * sin)[None, :]) // (one * samples * shape.height) + SAMPLES // 2
    outside = (row | column) & ~(SAMPLES - 1) != 0  # SAMPLES is a power of two
    index = shape.stencil[row & (SAMPLES - 1), column & (SAMPLES - 1)]
    index[outside] = CLEAR
    return _summed(_summed(_PACKED[index], samples).T, samples).T


def _summed(values: NDArray[np.int32], samples: int) -> NDArray[np.int32]:
    """Sums of each ``samples`` rows: ``[h·samples, w]`` → ``[h, w]``."""
    values = np.ascontiguousarray(values)
    return values.reshape(-1, samples, values.shape[1]).sum(axis=1, dtype=np.int32)


def _smeared(counts: NDArray[np.int32], smear: int) -> NDArray[np.int32]:
    """The sum of the counts and themselves ``smear`` pixels further: to the right, or down when negative."""
    if not smear:
        return counts
    moved = np.zeros_like(counts)
    if smear > 0:
        moved[:, smear:] = counts[:, :-smear]
    else:
        moved[-smear:] = counts[:smear]
    return counts + moved
