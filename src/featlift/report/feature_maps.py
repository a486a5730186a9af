"""Feature maps as pictures: each level, one interpolator beside the other, on the same color scale (AFI-GAN, Fig. 2
and 7).

Two ways to show 256 channels: the mean of their absolute values as a heat map, and their three principal components as
red, green and blue. Scale and components are computed over all runs together, so that equal colors mean equal
features.
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
    """One level: for each run a heat map and a principal-component picture, as data URIs, with the size in cells."""

    level: str
    heatmaps: dict[str, str]
    pca_images: dict[str, str]
    size: tuple[int, int]
    max_value: float
    """The value of the hottest color; the coldest is 0."""


def build_level_maps(features: Mapping[str, Features]) -> list[LevelMaps]:
    """For each level that all of ``features`` (run → maps ``[1, C, H, W]`` of the same picture) share, fine → coarse.

    ``"image"`` is not a level.

    Raises:
        ValueError: if a level has different shapes in two runs.
    """
    return [_build_level(level, maps) for level, maps in common_levels(features).items()]


def build_heatmaps(features: Mapping[str, Features]) -> dict[str, dict[str, NDArray[np.uint8]]]:
    """Level → run → the heat map ``[H, W, 3]`` of :func:`build_level_maps`; sizes may differ between runs."""
    return {
        level: dict(zip(maps, to_heatmaps(list(maps.values()))[0], strict=True))
        for level, maps in common_levels(features).items()
    }


def common_levels(features: Mapping[str, Features]) -> dict[str, dict[str, FeatureArray]]:
    """Level → run → map ``[C, H, W]``, of the levels that all have, in the order of the first."""
    first = next(iter(features.values()))
    levels = [level for level in first if level != "image" and all(level in one for one in features.values())]
    return {level: {name: _to_array(one, level) for name, one in features.items()} for level in levels}


def _to_array(features: Features, level: str) -> FeatureArray:
    x = features[level].detach().float().cpu().numpy()
    return x[0] if x.ndim == 4 else x


def _build_level(level: str, maps: dict[str, FeatureArray]) -> LevelMaps:
    shapes = {name: one.shape for name, one in maps.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"'{level}' has different shapes [C, H, W]: {shapes}. Give all runs the same picture.")
    heats, top = to_heatmaps(list(maps.values()))
    _, height, width = next(iter(shapes.values()))
    hot = {name: image_data_uri(one) for name, one in zip(maps, heats, strict=True)}
    colored = {name: image_data_uri(one) for name, one in zip(maps, to_pca_images(list(maps.values())), strict=True)}
    return LevelMaps(level, hot, colored, (height, width), top)


def to_heatmaps(maps: Sequence[FeatureArray]) -> tuple[list[NDArray[np.uint8]], float]:
    """Mean of ``|x|`` over the channels of each ``[C, H, W]`` as ``[H, W, 3]``, and the value that has the hottest
    color.

    That is the 99.5th percentile over all maps: a single bright cell does not leave the rest dark.
    """
    from matplotlib import colormaps

    means = [np.abs(one).mean(0) for one in maps]
    top = float(np.percentile(np.concatenate([mean.ravel() for mean in means]), 99.5))
    scaled = [np.clip(mean / max(top, 1e-12), 0, 1) for mean in means]
    return [(colormaps["magma"](one)[..., :3] * 255).round().astype(np.uint8) for one in scaled], top


def to_pca_images(maps: Sequence[FeatureArray]) -> list[NDArray[np.uint8]]:
    """The three largest principal components of all cells of all maps ``[C, H, W]`` as red, green and blue ``[H, W,
    3]``.
    """
    cells = np.concatenate([one.reshape(len(one), -1).T for one in maps]).astype(np.float64)
    cells -= cells.mean(0)
    _, axes = np.linalg.eigh(cells.T @ cells)
    axes = axes[:, ::-1][:, :3]
    axes *= np.where(np.abs(axes.min(0)) > axes.max(0), -1, 1)  # eigenvectors have no sign of their own
    projected = np.pad(cells @ axes, ((0, 0), (0, 3 - axes.shape[1])))
    low, high = np.percentile(projected, [1, 99], axis=0)
    pixels = (np.clip((projected - low) / np.maximum(high - low, 1e-12), 0, 1) * 255).round().astype(np.uint8)
    ends = np.cumsum([one[0].size for one in maps])[:-1]
    return [part.reshape(*one.shape[1:], 3) for part, one in zip(np.split(pixels, ends), maps, strict=True)]
