"""Backgrounds and camera effects of procedural scenes in integer arithmetic: gradients, blocks, multi-scale noise, blur."""

import numpy as np
from numpy.typing import NDArray

from featlift.data.synthetic.rng import PortableRNG

Canvas = NDArray[np.int32]
"""Image in progress: ``[H, W, 3]`` in about 0…255; clipped by `apply_camera_effects`."""

RGB = tuple[int, int, int]


def draw_background(image_size: tuple[int, int], rng: PortableRNG) -> Canvas:
    """Background ``[H, W, 3]``: a gradient between two muted colors, two to six sharp-edged blocks, and texture at up to
    three scales.
    """
    canvas = _gradient(image_size, _muted_color(rng), _muted_color(rng), rng)
    for _ in range(rng.randint(2, 6)):
        _draw_block(canvas, rng)
    return canvas + _texture(image_size, rng)[..., None]


def apply_camera_effects(canvas: Canvas, rng: PortableRNG) -> NDArray[np.uint8]:
    """Apply random brightness, blur (in one of three scenes) and noise; returns ``[H, W, 3]`` in 0…255."""
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
    slope_y, slope_x = rng.randint(1, 4), rng.randint(-2, 2)
    ramp = slope_y * np.arange(height)[:, None] * 256 // height + slope_x * np.arange(width)[None, :] * 256 // width
    ramp = ((ramp - ramp.min()) * 256 // max(1, int(ramp.max() - ramp.min()))).astype(np.int32)
    first, last = np.array((start, end), dtype=np.int32)
    return first + (((last - first) * ramp[..., None]) >> 8)


def _draw_block(canvas: Canvas, rng: PortableRNG) -> None:
    """Blend a block between two slanted lines and below a horizon into ``canvas``."""
    height, width = canvas.shape[:2]
    slant = rng.randint(-8, 8)
    position = np.arange(width, dtype=np.int32)[None, :] * 16 + slant * np.arange(height, dtype=np.int32)[:, None]
    left, block_width = rng.randint(-width * 4, width * 16), rng.randint(width, width * 8)
    inside = (position >= left) & (position < left + block_width)
    horizon = rng.randint(0, height * 3 // 4)
    below, inside = canvas[horizon:], inside[horizon:, :, None]
    np.copyto(below, (below + 2 * np.array(_muted_color(rng), dtype=np.int32)) // 3, where=inside)


def _texture(size: tuple[int, int], rng: PortableRNG) -> NDArray[np.int32]:
    """Sum of smooth noise at three random scales of 2 … 32 px, ``[H, W]``."""
    texture = np.zeros(size, dtype=np.int32)
    for _ in range(3):
        strength = rng.randint(0, 26)
        texture += _smooth_noise(size, rng.choice((2, 4, 8, 16, 32)), strength, rng)
    return texture


def _smooth_noise(size: tuple[int, int], cell: int, strength: int, rng: PortableRNG) -> NDArray[np.int32]:
    """Noise on a lattice with a spacing of ``cell`` pixels, bilinearly interpolated, ``[H, W]``."""
    height, width = size
    lattice = rng.randint_array(-strength, strength, height // cell + 2, width // cell + 2)
    row, column = np.arange(height), np.arange(width)
    dy, dx = (row % cell)[:, None].astype(np.int32), (column % cell).astype(np.int32)
    rows = lattice[row // cell] * (cell - dy) + lattice[row // cell + 1] * dy
    return (rows[:, column // cell] * (cell - dx) + rows[:, column // cell + 1] * dx) // (cell * cell)


def _blur_axis(canvas: Canvas, axis: int) -> Canvas:
    """Filter with (1, 2, 1)/4 along ``axis``, with edge padding."""
    padded = np.pad(canvas, [(1, 1) if a == axis else (0, 0) for a in range(3)], mode="edge")
    length = canvas.shape[axis]
    previous, center, following = (padded.take(range(k, k + length), axis) for k in range(3))
    return (previous + 2 * center + following) // 4
