"""Sign stencils of the procedural scenes: 64x64 samples of three inks, which are colored by `painting`.

Every class occurs with every outline and color, so only the glyph in the center identifies it. Glyphs come in similar
pairs that differ in one detail. No glyph is the mirror image of another, so labels stay valid under horizontal flips.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

STENCIL_SIZE = 64
TRANSPARENT, RIM, FIELD, SYMBOL = range(4)

GLYPHS: dict[str, tuple[str, ...]] = {
    "three": (".#####.", "##...##", ".....##", "..####.", ".....##", "##...##", ".#####."),
    "eight": (".#####.", "##...##", "##...##", ".#####.", "##...##", "##...##", ".#####."),
    "rows": ("#####", ".....", "#####", ".....", "#####"),
    "columns": ("#.#.#", "#.#.#", "#.#.#", "#.#.#", "#.#.#"),
    "up": ("...#...", "..###..", ".#####.", "#######", "..###..", "..###..", "..###.."),
    "down": ("..###..", "..###..", "..###..", "#######", ".#####.", "..###..", "...#..."),
}

InsideTest = Callable[[NDArray[np.int64], NDArray[np.int64], int], NDArray[np.bool_]]


def _inside_circle(x: NDArray[np.int64], y: NDArray[np.int64], r: int) -> NDArray[np.bool_]:
    return x * x + y * y <= r * r


def _inside_square(x: NDArray[np.int64], y: NDArray[np.int64], r: int) -> NDArray[np.bool_]:
    corner = np.maximum(abs(x) - r + 14, 0) ** 2 + np.maximum(abs(y) - r + 14, 0) ** 2
    return corner <= 14 * 14


def _inside_octagon(x: NDArray[np.int64], y: NDArray[np.int64], r: int) -> NDArray[np.bool_]:
    return (np.maximum(abs(x), abs(y)) <= r) & (abs(x) + abs(y) <= r * 17 // 12)


def _inside_triangle(x: NDArray[np.int64], y: NDArray[np.int64], r: int) -> NDArray[np.bool_]:
    return (y - 10 <= r) & (26 * abs(x) <= 15 * (y - 10 + 2 * r))


@dataclass(frozen=True)
class SignOutline:
    """Outline shape: outer and inner radius in half samples; glyph side and downward glyph offset in samples."""

    inside: InsideTest
    outer_radius: int
    inner_radius: int
    glyph_size: int
    glyph_offset: int = 0


SIGN_OUTLINES = {
    "round": SignOutline(_inside_circle, outer_radius=63, inner_radius=50, glyph_size=34),
    "square": SignOutline(_inside_square, outer_radius=61, inner_radius=51, glyph_size=42),
    "octagon": SignOutline(_inside_octagon, outer_radius=63, inner_radius=52, glyph_size=36),
    "triangle": SignOutline(_inside_triangle, outer_radius=36, inner_radius=29, glyph_size=22, glyph_offset=8),
}


@cache
def sign_stencil(outline: str, glyph: str | None = None) -> NDArray[np.uint8]:
    """Stencil ``[64, 64]`` of `TRANSPARENT`, `RIM`, `FIELD` and `SYMBOL`; without a glyph a blank sign of no class."""
    shape = SIGN_OUTLINES[outline]
    coordinates = 2 * np.arange(STENCIL_SIZE, dtype=np.int64) - STENCIL_SIZE + 1
    x, y = coordinates[None, :], coordinates[:, None]
    stencil = np.where(
        shape.inside(x, y, shape.inner_radius),
        FIELD,
        np.where(shape.inside(x, y, shape.outer_radius), RIM, TRANSPARENT),
    ).astype(np.uint8)
    if glyph is not None:
        left = (STENCIL_SIZE - shape.glyph_size) // 2
        top = left + shape.glyph_offset
        region = np.s_[top : top + shape.glyph_size, left : left + shape.glyph_size]
        stencil[region][_glyph_bitmap(glyph, shape.glyph_size)] = SYMBOL
    return stencil


def _glyph_bitmap(glyph: str, size: int) -> NDArray[np.bool_]:
    """Glyph ``[size, size]``, upsampled by nearest neighbor."""
    dots = np.array([[dot == "#" for dot in row] for row in GLYPHS[glyph]])
    rows = np.arange(size) * len(dots) // size
    return dots[rows][:, rows]


@cache
def filled_stencil(outline: str) -> NDArray[np.uint8]:
    """Stencil ``[64, 64]`` of an outline filled with `FIELD`; "bar" is a full rectangle."""
    if outline == "bar":
        return np.full((STENCIL_SIZE, STENCIL_SIZE), FIELD, dtype=np.uint8)
    return np.where(sign_stencil(outline) == TRANSPARENT, TRANSPARENT, FIELD).astype(np.uint8)
