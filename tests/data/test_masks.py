import numpy as np
import pytest
from pycocotools import mask as reference

from featlift.data.masks import mask_to_rle, rle_to_mask, segmentation_to_rle

SIZE = (11, 17)
MASK = (np.random.default_rng(0).random(SIZE) > 0.6).astype(np.uint8)
POLYGONS = [[1.5, 1, 9, 2, 8, 8.5, 2, 7], [10, 1, 15, 1, 15, 9]]


def test_a_mask_survives():
    rle = mask_to_rle(MASK)
    assert rle["size"] == list(SIZE)
    np.testing.assert_array_equal(rle_to_mask(rle), MASK)
    np.testing.assert_array_equal(reference.decode({**rle, "counts": rle["counts"].encode()}), MASK)


def uncompressed(mask):
    """Lengths of rle down the columns, zeros first, by a literal loop."""
    counts, value = [0], 0
    for pixel in mask.T.flatten().tolist():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


@pytest.mark.parametrize(
    ("segmentation", "expected"),
    [
        (mask_to_rle(MASK), MASK),
        (uncompressed(MASK), MASK),
        ([[2, 1, 6, 1, 6, 4, 2, 4]], np.pad(np.ones((3, 4), np.uint8), ((1, 7), (2, 11)))),
        (POLYGONS, reference.decode(reference.merge(reference.frPyObjects(POLYGONS, *SIZE)))),
    ],
)
def test_every_form_is_read(segmentation, expected):
    np.testing.assert_array_equal(rle_to_mask(segmentation_to_rle(segmentation, SIZE)), expected)


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [
        ([[1, 1, 4, 1]], "polygon 0 has 4 numbers"),
        ([[1, 1, 4, 1, 4, 4], [1, 1, 4, 1, 4, 4, 2]], "polygon 1 has 7 numbers"),
        ([[1, 1, 4, float("nan"), 4, 4]], "not a finite number"),
        ([[1, 1, 4, "x", 4, 4]], "not a finite number"),
        ([1, 1, 4, 1, 4, 4], "neither a list of polygons"),
        ("polygon", "neither a list of polygons"),
        ({"size": [17, 11], "counts": "abc"}, r"for size \[17, 11\], the image has \[11, 17\]"),
        ({"size": [11, 17], "counts": [5, 5]}, "add up to 10"),
        ({"size": [11, 17], "counts": [-5, 192]}, "cannot be read"),
        ({"size": [11, 17], "counts": [5, "x"]}, "cannot be read"),
        ({"size": [11, 17], "counts": "@@@@zz"}, "cannot be read"),
        ({"size": [11, 17]}, "cannot be read"),
        ({"counts": "abc"}, "for size None"),
    ],
)
def test_broken_forms_are_explained(segmentation, words):
    with pytest.raises(ValueError, match=words):
        segmentation_to_rle(segmentation, SIZE)
