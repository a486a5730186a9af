import math

import numpy as np
import pytest

from featlift.data.synthetic.glyphs import (
    FIELD,
    GLYPHS,
    SIGN_OUTLINES,
    STENCIL_SIZE,
    TRANSPARENT,
    filled_stencil,
    sign_stencil,
)
from featlift.data.synthetic.painting import SUBPIXEL, Sprite, rasterize_sprite

COLORS = ((200, 0, 0), (250, 250, 250), (0, 0, 0))


def sprite_of(stencil, side=20, center=(30.0, 30.0), height=None, tilt=0, motion_blur=0):
    at = (int(center[0] * SUBPIXEL), int(center[1] * SUBPIXEL))
    return Sprite(stencil, COLORS, at, side, height or side, tilt, motion_blur)


def coverage(raster, size):
    """Coverage in 0…1 of the whole canvas."""
    canvas = np.zeros(size)
    canvas[raster.region] = raster.coverage / raster.full_coverage
    return canvas


@pytest.mark.parametrize(("width", "height", "tilt"), [(20, 20, 0), (9, 31, 20), (40, 13, -30), (6, 6, 7)])
def test_cover_is_that_of_a_turned_rectangle(width, height, tilt):
    """Against a literal loop over points of the plane, with cosine and sine from the C library."""
    size, center, angle = (64, 64), (30.25, 33.5), 2 * math.atan(tilt / 64)
    cover = coverage(rasterize_sprite(sprite_of(filled_stencil("bar"), width, center, height, tilt), size), size)
    expected = np.zeros(size)
    for y in range(64):
        for x in range(64):
            for k in range(16):
                right, down = x + (k % 4 + 0.5) / 4 - center[0], y + (k // 4 + 0.5) / 4 - center[1]
                u = right * math.cos(angle) + down * math.sin(angle)
                v = down * math.cos(angle) - right * math.sin(angle)
                expected[y, x] += (abs(u) < width / 2 and abs(v) < height / 2) / 16
    assert np.abs(cover - expected).mean() < 0.004
    assert cover.sum() == pytest.approx(width * height, rel=0.04)


def test_an_upright_rectangle_on_the_grid_is_exact():
    canvas = np.zeros((16, 16, 3), dtype=np.int32)
    rasterize_sprite(sprite_of(filled_stencil("bar"), 4, (6, 8), height=6), (16, 16)).composite_onto(canvas)
    expected = np.zeros((16, 16), dtype=np.int32)
    expected[5:11, 4:8] = 250
    np.testing.assert_array_equal(canvas[..., 1], expected)


def test_colors_of_a_large_sign_are_those_of_its_stencil():
    stencil = sign_stencil("square", "rows")
    canvas = np.full((STENCIL_SIZE, STENCIL_SIZE, 3), 77, dtype=np.int32)
    rasterize_sprite(sprite_of(stencil, STENCIL_SIZE, (32, 32)), (STENCIL_SIZE, STENCIL_SIZE)).composite_onto(canvas)
    np.testing.assert_array_equal(canvas, np.array([(77, 77, 77), *COLORS])[stencil])


@pytest.mark.parametrize("center", [(0, 0), (-15, 40), (63.9, 20), (30, 90)])
def test_shapes_may_leave_the_canvas(center):
    raster = rasterize_sprite(sprite_of(filled_stencil("round"), 20, center, tilt=5), (64, 64))
    free = coverage(
        rasterize_sprite(
            sprite_of(filled_stencil("round"), 20, (center[0] + 100, center[1] + 100), tilt=5), (264, 264)
        ),
        (264, 264),
    )
    np.testing.assert_allclose(coverage(raster, (64, 64)), free[100:164, 100:164])


@pytest.mark.parametrize("motion_blur", [3, -2])
def test_motion_blur_is_the_mean_of_two_places(motion_blur):
    still = coverage(rasterize_sprite(sprite_of(filled_stencil("round"), 12), (64, 64)), (64, 64))
    moved = np.roll(still, abs(motion_blur), axis=1 if motion_blur > 0 else 0)
    both = coverage(
        rasterize_sprite(sprite_of(filled_stencil("round"), 12, motion_blur=motion_blur), (64, 64)), (64, 64)
    )
    np.testing.assert_allclose(both, (still + moved) / 2)


def test_ink_never_exceeds_its_color():
    raster = rasterize_sprite(
        sprite_of(np.where(filled_stencil("round") == TRANSPARENT, TRANSPARENT, FIELD).astype(np.uint8), 11, tilt=6),
        (64, 64),
    )
    np.testing.assert_array_equal(raster.premultiplied_color[..., 0], raster.coverage * 250)
    assert raster.mask.sum() == pytest.approx(np.pi * 5.5**2, rel=0.1)


@pytest.mark.parametrize("pair", [("three", "eight"), ("rows", "columns"), ("up", "down")])
@pytest.mark.parametrize("outline", SIGN_OUTLINES)
def test_twice_the_size_tells_look_alikes_apart(outline, pair):
    """The power of what two classes differ by, per pixel of the sign, fades as the sign gets smaller: the difficulty
    is one of resolution.
    """
    assert set(pair) <= set(GLYPHS)
    contrast = {}
    for side in (6, 24):
        shots = []
        for glyph in pair:
            canvas = np.full((64, 64, 3), 128, dtype=np.int32)
            rasterize_sprite(sprite_of(sign_stencil(outline, glyph), side, (30.5, 30.5)), (64, 64)).composite_onto(
                canvas
            )
            shots.append(canvas.mean(axis=2))
        contrast[side] = ((shots[0] - shots[1]) ** 2).sum() / side**2
    assert contrast[24] > 1.5 * contrast[6]
