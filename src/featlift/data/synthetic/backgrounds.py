"""What stands behind the objects of a procedural scene, in whole numbers: gradients, blocks with edges, noise at
several scales, blur.
"""

import numpy as np
from numpy.typing import NDArray

from featlift.data.synthetic.rng import PortableRNG

Canvas = NDArray[np.int32]
"""A picture under way: ``[H, W, 3]`` in about 0…255; clipped at the very end."""

RGB = tuple[int, int, int]


def draw_background(image_size: tuple[int, int], rng: PortableRNG) -> Canvas:
    """A gradient between two muted colors, two to six blocks with sharp edges, and texture at up to three scales:
    ``[H, W, 3]``.
    """
    canvas = _gradient(image_size, _muted_color(rng), _muted_color(rng), rng)
    for _ in range(rng.randint(2, 6)):
        _draw_block(canvas, rng)
    return canvas + _texture(image_size, rng)[..., None]


def apply_camera_effects(canvas: Canvas, rng: PortableRNG) -> NDArray[np.uint8]:
    """The canvas as a camera would give it: a light that varies, in one scene of three out of focus, and with noise."""
    canvas = canvas * rng.randint(80, 110) // 100
    if rng.chance(33):
        canvas = _blur_axis(_blur_axis(canvas, 0), 1)
    noise = rng.randint(0, 8)
    return np.clip(canvas + rng.randint_array(-noise, noise, *canvas.shape), 0, 255).astype(np.uint8)


def _muted_color(rng: PortableRNG) -> RGB:
    gray = rng.randint(60, 190)
    return gray + rng.randint(-30, 30), gray + rng.randint(-25, 25), gray + rng.randint(-30, 30)


def _gradient(size: tuple[int, int], start: RGB, end: RGB, rng: PortableRNG) -> Canvas:
    height, width = size
    down, right = rng.randint(1, 4), rng.randint(-2, 2)
    ramp = down * np.arange(height)[:, None] * 256 // height + right * np.arange(width)[None, :] * 256 // width
    ramp = ((ramp - ramp.min()) * 256 // max(1, int(ramp.max() - ramp.min()))).astype(np.int32)
    first, last = np.array((start, end), dtype=np.int32)
    return first + (((last - first) * ramp[..., None]) >> 8)


def _draw_block(canvas: Canvas, rng: PortableRNG) -> None:
    """One half-plane-like block: what lies between two slanted lines and below a horizon."""
    height, width = canvas.shape[:2]
    slant = rng.randint(-8, 8)
    place = np.arange(width, dtype=np.int32)[None, :] * 16 + slant * np.arange(height, dtype=np.int32)[:, None]
    left, broad = rng.randint(-width * 4, width * 16), rng.randint(width, width * 8)
    inside = (place >= left) & (place < left + broad)
    horizon = rng.randint(0, height * 3 // 4)
    below, inside = canvas[horizon:], inside[horizon:, :, None]
    np.copyto(below, (below + 2 * np.array(_muted_color(rng), dtype=np.int32)) // 3, where=inside)


def _texture(size: tuple[int, int], rng: PortableRNG) -> NDArray[np.int32]:
    """Smooth noise at up to three of the scales 2 … 32 px, ``[H, W]``."""
    sheet = np.zeros(size, dtype=np.int32)
    for _ in range(3):
        strength = rng.randint(0, 26)
        sheet += _smooth_noise(size, rng.choice((2, 4, 8, 16, 32)), strength, rng)
    return sheet


def _smooth_noise(size: tuple[int, int], cell: int, strength: int, rng: PortableRNG) -> NDArray[np.int32]:
    """A lattice of noise with ``cell`` pixels between its nodes, bilinear in between."""
    height, width = size
    lattice = rng.randint_array(-strength, strength, height // cell + 2, width // cell + 2)
    row, column = np.arange(height), np.arange(width)
    below, after = (row % cell)[:, None].astype(np.int32), (column % cell).astype(np.int32)
    bands = lattice[row // cell] * (cell - below) + lattice[row // cell + 1] * below
    return (bands[:, column // cell] * (cell - after) + bands[:, column // cell + 1] * after) // (cell * cell)


def _blur_axis(canvas: Canvas, axis: int) -> Canvas:
    """(1, 2, 1)/4 along ``axis``, the last row or column repeated."""
    padded = np.pad(canvas, [(1, 1) if a == axis else (0, 0) for a in range(3)], mode="edge")
    length = canvas.shape[axis]
    before, middle, after = (padded.take(range(k, k + length), axis) for k in range(3))
    return (before + 2 * middle + after) // 4
