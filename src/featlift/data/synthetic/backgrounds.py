"""What stands behind the objects of a procedural scene, in whole numbers: gradients, blocks with edges, noise at
several scales, blur.
"""

import numpy as np
from numpy.typing import NDArray

from featlift.data.synthetic.rng import Dice

Canvas = NDArray[np.int32]
"""A picture under way: ``[H, W, 3]`` in about 0…255; clipped at the very end."""

Colour = tuple[int, int, int]


def background(size: tuple[int, int], dice: Dice) -> Canvas:
    """A gradient between two muted colours, two to six blocks with sharp edges, and texture at up to three scales:
    ``[H, W, 3]``.
    """
    canvas = _gradient(size, _muted(dice), _muted(dice), dice)
    for _ in range(dice.between(2, 6)):
        _block(canvas, dice)
    return canvas + _texture(size, dice)[..., None]


def finished(canvas: Canvas, dice: Dice) -> NDArray[np.uint8]:
    """The canvas as a camera would give it: a light that varies, in one scene of three out of focus, and with noise."""
    canvas = canvas * dice.between(80, 110) // 100
    if dice.chance(33):
        canvas = _blurred(_blurred(canvas, 0), 1)
    noise = dice.between(0, 8)
    return np.clip(canvas + dice.grid(-noise, noise, *canvas.shape), 0, 255).astype(np.uint8)


def _muted(dice: Dice) -> Colour:
    grey = dice.between(60, 190)
    return grey + dice.between(-30, 30), grey + dice.between(-25, 25), grey + dice.between(-30, 30)


def _gradient(size: tuple[int, int], start: Colour, end: Colour, dice: Dice) -> Canvas:
    height, width = size
    down, right = dice.between(1, 4), dice.between(-2, 2)
    ramp = down * np.arange(height)[:, None] * 256 // height + right * np.arange(width)[None, :] * 256 // width
    ramp = ((ramp - ramp.min()) * 256 // max(1, int(ramp.max() - ramp.min()))).astype(np.int32)
    first, last = np.array((start, end), dtype=np.int32)
    return first + (((last - first) * ramp[..., None]) >> 8)


def _block(canvas: Canvas, dice: Dice) -> None:
    """One half-plane-like block: what lies between two slanted lines and below a horizon."""
    height, width = canvas.shape[:2]
    slant = dice.between(-8, 8)
    place = np.arange(width, dtype=np.int32)[None, :] * 16 + slant * np.arange(height, dtype=np.int32)[:, None]
    left, broad = dice.between(-width * 4, width * 16), dice.between(width, width * 8)
    inside = (place >= left) & (place < left + broad)
    horizon = dice.between(0, height * 3 // 4)
    below, inside = canvas[horizon:], inside[horizon:, :, None]
    np.copyto(below, (below + 2 * np.array(_muted(dice), dtype=np.int32)) // 3, where=inside)


def _texture(size: tuple[int, int], dice: Dice) -> NDArray[np.int32]:
    """Smooth noise at up to three of the scales 2 … 32 px, ``[H, W]``."""
    sheet = np.zeros(size, dtype=np.int32)
    for _ in range(3):
        strength = dice.between(0, 26)
        sheet += _smooth(size, dice.choice((2, 4, 8, 16, 32)), strength, dice)
    return sheet


def _smooth(size: tuple[int, int], cell: int, strength: int, dice: Dice) -> NDArray[np.int32]:
    """A lattice of noise with ``cell`` pixels between its nodes, bilinear in between."""
    height, width = size
    lattice = dice.grid(-strength, strength, height // cell + 2, width // cell + 2)
    row, column = np.arange(height), np.arange(width)
    below, after = (row % cell)[:, None].astype(np.int32), (column % cell).astype(np.int32)
    bands = lattice[row // cell] * (cell - below) + lattice[row // cell + 1] * below
    return (bands[:, column // cell] * (cell - after) + bands[:, column // cell + 1] * after) // (cell * cell)


def _blurred(canvas: Canvas, axis: int) -> Canvas:
    """(1, 2, 1)/4 along ``axis``, the last row or column repeated."""
    padded = np.pad(canvas, [(1, 1) if a == axis else (0, 0) for a in range(3)], mode="edge")
    length = canvas.shape[axis]
    before, middle, after = (padded.take(range(k, k + length), axis) for k in range(3))
    return (before + 2 * middle + after) // 4
