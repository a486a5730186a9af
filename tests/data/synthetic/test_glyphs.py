import itertools

import numpy as np
import pytest

from featlift.data.synthetic.glyphs import (
    FIELD,
    GLYPHS,
    RIM,
    SIGN_OUTLINES,
    STENCIL_SIZE,
    SYMBOL,
    TRANSPARENT,
    filled_stencil,
    sign_stencil,
)


@pytest.mark.parametrize("outline", SIGN_OUTLINES)
def test_only_the_glyph_tells_classes_apart(outline):
    blank = sign_stencil(outline)
    assert set(np.unique(blank)) == {TRANSPARENT, RIM, FIELD}
    for glyph in GLYPHS:
        sign = sign_stencil(outline, glyph)
        changed = sign != blank
        assert (sign[changed] == SYMBOL).all()
        assert (blank[changed] == FIELD).mean() > 0.97  # the corners of a glyph may touch the rim


@pytest.mark.parametrize("outline", SIGN_OUTLINES)
def test_no_class_is_another_ones_mirror_image(outline):
    for a, b in itertools.permutations(GLYPHS, 2):
        assert (sign_stencil(outline, a)[:, ::-1] != sign_stencil(outline, b)).any()


@pytest.mark.parametrize("outline", SIGN_OUTLINES)
def test_outlines_are_symmetric_and_touch_their_frame(outline):
    shape = filled_stencil(outline) != TRANSPARENT
    np.testing.assert_array_equal(shape, shape[:, ::-1])
    rows, columns = np.flatnonzero(shape.any(1)), np.flatnonzero(shape.any(0))
    assert columns[0] <= 1
    assert columns[-1] >= STENCIL_SIZE - 2
    assert rows[-1] - rows[0] > 0.8 * STENCIL_SIZE


def test_a_disc_has_the_area_of_a_disc():
    assert (filled_stencil("round") != TRANSPARENT).sum() == pytest.approx(np.pi * 31.5**2, rel=0.01)


def test_a_bar_is_full():
    assert (filled_stencil("bar") == FIELD).all()
