"""The signs of the procedural scenes: stencils of 64x64 samples whose three inks are coloured when they are painted.

Every class comes in every outline and every colour, so only the glyph in the middle tells one from another. The
glyphs are pairs of look-alikes that differ in one detail, and none is another one's mirror image, so flipped pictures
stay true.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

SAMPLES = 64
CLEAR, RIM, FIELD, INK = range(4)

GLYPHS: dict[str, tuple[str, ...]] = {
    "three": (".#####.", "##...##", ".....##", "..####.", ".....##", "##...##", ".#####."),
    "eight": (".#####.", "##...##", "##...##", ".#####.", "##...##", "##...##", ".#####."),
    "rows": ("#####", ".....", "#####", ".....", "#####"),
    "columns": ("#.#.#", "#.#.#", "#.#.#", "#.#.#", "#.#.#"),
    "up": ("...#...", "..###..", ".#####.", "#######", "..###..", "..###..", "..###.."),
    "down": ("..###..", "..###..", "..###..", "#######", ".#####.", "..###..", "...#..."),
}

Inside = Callable[[NDArray[np.int64], NDArray[np.int64], int], NDArray[np.bool_]]


def _round(x: NDArray[np.int64], y: NDArray[np.int64], r: int) -> NDArray[np.bool_]:
    return x * x + y * y <= r * r


def _square(x: NDArray[np.int64], y: NDArray[np.int64], r: int) -> NDArray[np.bool_]:
    corner = np.maximum(abs(x) - r + 14, 0) ** 2 + np.maximum(abs(y) - r + 14, 0) ** 2
    return corner <= 14 * 14


def _octagon(x: NDArray[np.int64], y: NDArray[np.int64], r: int) -> NDArray[np.bool_]:
    return (np.maximum(abs(x), abs(y)) <= r) & (abs(x) + abs(y) <= r * 17 // 12)


def _triangle(x: NDArray[np.int64], y: NDArray[np.int64], r: int) -> NDArray[np.bool_]:
    return (y - 10 <= r) & (26 * abs(x) <= 15 * (y - 10 + 2 * r))


@dataclass(frozen=True)
class Outline:
    """A shape and its measures: outer and inner radius in half samples; the glyph's side, and how far it sits below
    the middle, in samples.
    """

    inside: Inside
    outer: int
    inner: int
    glyph: int
    drop: int = 0


OUTLINES = {
    "round": Outline(_round, outer=63, inner=50, glyph=34),
    "square": Outline(_square, outer=61, inner=51, glyph=42),
    "octagon": Outline(_octagon, outer=63, inner=52, glyph=36),
    "triangle": Outline(_triangle, outer=36, inner=29, glyph=22, drop=8),
}


@cache
def stencil(outline: str, glyph: str | None = None) -> NDArray[np.uint8]:
    """``[64, 64]`` of CLEAR, RIM, FIELD and INK. Without a glyph it is a blank sign, which belongs to no class."""
    shape = OUTLINES[outline]
    half = 2 * np.arange(SAMPLES, dtype=np.int64) - SAMPLES + 1
    x, y = half[None, :], half[:, None]
    sign = np.where(
        shape.inside(x, y, shape.inner), FIELD, np.where(shape.inside(x, y, shape.outer), RIM, CLEAR)
    ).astype(np.uint8)
    if glyph is not None:
        left = (SAMPLES - shape.glyph) // 2
        place = np.s_[left + shape.drop : left + shape.drop + shape.glyph, left : left + shape.glyph]
        sign[place][_bitmap(glyph, shape.glyph)] = INK
    return sign


def _bitmap(glyph: str, side: int) -> NDArray[np.bool_]:
    """The glyph ``[side, side]``, each of its dots repeated."""
    dots = np.array([[dot == "#" for dot in row] for row in GLYPHS[glyph]])
    rows = np.arange(side) * len(dots) // side
    return dots[rows][:, rows]


@cache
def plain(outline: str) -> NDArray[np.uint8]:
    """``[64, 64]``: an outline filled with one colour; "bar" is a full rectangle."""
    if outline == "bar":
        return np.full((SAMPLES, SAMPLES), FIELD, dtype=np.uint8)
    return np.where(stencil(outline) == CLEAR, CLEAR, FIELD).astype(np.uint8)
