import numpy as np
import pytest
import torch

from featlift.report.feature_maps import build_level_maps, to_heatmaps, to_pca_images


def test_heat_is_the_mean_absolute_value_on_one_scale():
    quiet, loud = np.full((2, 3, 4), -1.0, np.float32), np.full((2, 3, 4), 2.0, np.float32)
    loud[0] *= -1
    (dark, bright), top = to_heatmaps([quiet, loud])
    assert top == pytest.approx(2)
    assert dark.shape == (3, 4, 3)
    assert (dark.astype(int) < bright).all()
    (alone,), _ = to_heatmaps([quiet])
    assert not np.array_equal(alone, dark), "the scale is shared, not each map's own"


def test_equal_cells_have_equal_colors_in_both_runs():
    random = np.random.default_rng(0)
    first = random.normal(size=(8, 5, 6)).astype(np.float32)
    second = first[:, ::-1].copy()
    a, b = to_pca_images([first, second])
    assert a.shape == (5, 6, 3)
    assert np.array_equal(a[::-1], b)


def test_the_first_component_is_red():
    """One channel varies much, one little: red follows the first."""
    x = np.zeros((2, 1, 50), np.float32)
    x[0, 0] = np.linspace(-5, 5, 50)
    x[1, 0] = np.tile([-0.1, 0.1], 25)
    (pixels,) = to_pca_images([x])
    assert abs(np.corrcoef(pixels[0, :, 0], x[0, 0])[0, 1]) > 0.99
    assert abs(np.corrcoef(pixels[0, :, 1], x[1, 0])[0, 1]) > 0.9
    assert (pixels[..., 2] == pixels[0, 0, 2]).all()


def test_levels_in_their_order_without_the_image(features):
    levels = build_level_maps(features)
    assert [(level.level, level.size) for level in levels] == [("p2", (16, 16)), ("p3", (8, 8))]
    assert list(levels[0].heatmaps) == list(levels[0].pca_images) == ["nearest", "afi"]


def test_different_images_are_an_error(features):
    features["afi"]["p3"] = torch.zeros(1, 6, 9, 8)
    with pytest.raises(ValueError, match="Give all runs the same image"):
        build_level_maps(features)
