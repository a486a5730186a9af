"""Visualization of feature maps: each pyramid level of several runs on the same color scale (AFI-GAN, Figs. 2 and 7).

The channels are shown as a heat map of their mean absolute value, and as their three principal components in red, green
and blue. Scale and components are computed over all runs together, so that equal colors mean equal features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featlift.features import Features
from featlift.report.data_uris import image_data_uri

FeatureArray = NDArray[np.float32]


@dataclass(frozen=True)
class LevelMaps:
    """Heat map and PCA image of one level for each run, as data URIs; ``size`` is (height, width) in cells."""

    level: str
    heatmaps: dict[str, str]
    pca_images: dict[str, str]
    size: tuple[int, int]
    max_value: float
    """Value of the brightest color; the darkest is 0."""


def build_level_maps(features: Mapping[str, Features]) -> list[LevelMaps]:
    """Return the maps of each level that all runs have, fine to coarse; ``"image"`` is not a level.

    Args:
        features: Run name → maps ``[1, C, H, W]`` of the same image.

    Raises:
        ValueError: If a level has different shapes in two runs.
    """
    return [_build_level(level, maps) for level, maps in common_levels(features).items()]


def build_heatmaps(features: Mapping[str, Features]) -> dict[str, dict[str, NDArray[np.uint8]]]:
    """Return level → run → heat map ``[H, W, 3]``, as in :func:`build_level_maps`; sizes may differ between runs."""
    return {
        level: dict(zip(maps, to_heatmaps(list(maps.values()))[0], strict=True))
        for level, maps in common_levels(features).items()
    }


def common_levels(features: Mapping[str, Features]) -> dict[str, dict[str, FeatureArray]]:
    """Return level → run → map ``[C, H, W]`` of the levels that all runs have, in the order of the first run."""
    first = next(iter(features.values()))
    levels = [level for level in first if level != "image" and all(level in maps for maps in features.values())]
    return {level: {name: _to_array(maps, level) for name, maps in features.items()} for level in levels}


def _to_array(features: Features, level: str) -> FeatureArray:
    x = features[level].detach().float().cpu().numpy()
    return x[0] if x.ndim == 4 else x


def _build_level(level: str, maps: dict[str, FeatureArray]) -> LevelMaps:
    shapes = {name: array.shape for name, array in maps.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"'{level}' has different shapes [C, H, W]: {shapes}. Give all runs the same image.")
    arrays = list(maps.values())
    heatmaps, max_value = to_heatmaps(arrays)
    _, height, width = next(iter(shapes.values()))
    heatmap_uris = {name: image_data_uri(pixels) for name, pixels in zip(maps, heatmaps, strict=True)}
    pca_uris = {name: image_data_uri(pixels) for name, pixels in zip(maps, to_pca_images(arrays), strict=True)}
    return LevelMaps(level, heatmap_uris, pca_uris, (height, width), max_value)


def to_heatmaps(maps: Sequence[FeatureArray]) -> tuple[list[NDArray[np.uint8]], float]:
    """Return the mean of ``|x|`` over the channels of each ``[C, H, W]`` as ``[H, W, 3]``, and the value of the brightest color.

    This value is the 99.5th percentile over all maps, so that a single outlier does not darken the rest.
    """
    from matplotlib import colormaps

    means = [np.abs(x).mean(0) for x in maps]
    max_value = float(np.percentile(np.concatenate([mean.ravel() for mean in means]), 99.5))
    scaled = [np.clip(mean / max(max_value, 1e-12), 0, 1) for mean in means]
    return [(colormaps["magma"](x)[..., :3] * 255).round().astype(np.uint8) for x in scaled], max_value


def to_pca_images(maps: Sequence[FeatureArray]) -> list[NDArray[np.uint8]]:
    """Return the three largest principal components over the cells of all maps ``[C, H, W]`` as RGB ``[H, W, 3]``."""
    cells = np.concatenate([x.reshape(len(x), -1).T for x in maps]).astype(np.float64)
    cells -= cells.mean(0)
    _, axes = np.linalg.eigh(cells.T @ cells)
    axes = axes[:, ::-1][:, :3]
    axes *= np.where(np.abs(axes.min(0)) > axes.max(0), -1, 1)  # the sign of an eigenvector is arbitrary
    projected = np.pad(cells @ axes, ((0, 0), (0, 3 - axes.shape[1])))
    low, high = np.percentile(projected, [1, 99], axis=0)
    pixels = (np.clip((projected - low) / np.maximum(high - low, 1e-12), 0, 1) * 255).round().astype(np.uint8)
    ends = np.cumsum([x[0].size for x in maps])[:-1]
    return [part.reshape(*x.shape[1:], 3) for part, x in zip(np.split(pixels, ends), maps, strict=True)]
