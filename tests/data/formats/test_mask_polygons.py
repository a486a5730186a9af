import numpy as np
import pytest

from featlift.data.formats.mask_polygons import mask_to_polygon
from featlift.data.masks import rle_to_mask, segmentation_to_rle


def rasterize(polygon, shape):
    return rle_to_mask(segmentation_to_rle([polygon], shape))


def test_a_rectangle():
    mask = np.zeros((10, 12), np.uint8)
    mask[2:5, 3:9] = 1
    assert sorted(zip(*[iter(mask_to_polygon(mask))] * 2, strict=True)) == [(3, 2), (3, 5), (9, 2), (9, 5)]


@pytest.mark.parametrize("seed", range(20))
def test_the_polygon_is_the_mask_again(seed):
    """Random blobs with parts and holes, rasterized by COCO's own rules."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((6, 7)) < 0.5
    mask = np.kron(coarse, np.ones((5, 4))) if seed % 2 else rng.random((17, 23)) < 0.6
    mask = mask.astype(np.uint8)
    assert (rasterize(mask_to_polygon(mask), mask.shape) == mask).all()


def test_other_rasterizers_agree():
    cv2 = pytest.importorskip("cv2")
    mask = np.zeros((40, 40), np.uint8)
    mask[5:15, 5:20], mask[8:12, 10:15], mask[25:35, 22:30] = 1, 0, 1
    scale = 8  # cv2 draws the edges themselves: on a finer grid they are thin
    points = np.array(mask_to_polygon(mask)).reshape(-1, 2)
    fine = cv2.fillPoly(np.zeros((40 * scale, 40 * scale), np.uint8), [np.round(points * scale).astype(np.int32)], 1)
    centers = fine[scale // 2 :: scale, scale // 2 :: scale]
    assert (centers != mask).sum() <= 12  # pixels on the joining lines


def test_an_empty_mask_is_refused():
    with pytest.raises(ValueError, match="empty"):
        mask_to_polygon(np.zeros((3, 3)))
