"""Pool small RoIs from EFPN's extended level: computed densely, or only in tiles around the RoIs, with the same result.

Only small RoIs are pooled from p2x, so most of it is not needed at inference. A tile is computed from a window with a margin of the
extension's receptive radius, so its values equal those of the dense map.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from torchvision.ops import roi_align

from featlift.features import Features, TileSpan, boxes_to_mask, tile_spans

INPUT_SCALES = {"inner3": 1, "inner2": 2, "c1": 4}
"""Inputs of the extension, and their cells per stride-8 cell and side."""
OUTPUT_SCALES = {"p3x": 2, "p2x": 4}
"""Outputs of the extension, likewise."""

POOLED_SIZE = 7
SAMPLING_RATIO = 2
SAMPLING_MARGIN = 4.0
"""Pixels right of and below a RoI that its bilinear samples may read: one cell, and another for RoIs smaller than a cell."""

ExtensionFn = Callable[[Features], Features]


class RoIReader(Protocol):
    """Interface of readers that pool small RoIs from p2x."""

    def __call__(self, features: Features, boxes: Sequence[Tensor]) -> Tensor:
        """Inputs of the extension by name, and boxes ``[N, 4]`` of each image → ``[ΣN, C, 7, 7]``."""
        ...


class DenseReader:
    """Compute the whole p2x: for training, and for images with many small objects.

    Args:
        extend: inner3, inner2, c1 → p2x: :meth:`featlift.detectors.efpn.ExtendedExtractor.extended_levels`.
    """

    def __init__(self, extend: ExtensionFn):
        self.extend = extend

    def __call__(self, features: Features, boxes: Sequence[Tensor]) -> Tensor:
        """See :class:`RoIReader`."""
        return pool_p2x(self.extend(features)["p2x"], boxes)


class SparseReader:
    """Compute p2x only in the tiles that overlap a small RoI, in batches; the rest of the map is zero and not read.

    If all windows together are larger than the map (their margins overlap), the whole map is computed.

    Args:
        extend: inner3, inner2, c1 → p2x.
        tile_size: Side of a tile in stride-8 cells (16 is 128 pixels).
        batch_size: Windows per batch.
    """

    def __init__(self, extend: ExtensionFn, tile_size: int = 16, batch_size: int = 8):
        self.extend, self.tile_size, self.batch_size = extend, tile_size, batch_size
        self._margin: int | None = None

    def __call__(self, features: Features, boxes: Sequence[Tensor]) -> Tensor:
        """See :class:`RoIReader`."""
        return pool_p2x(self.compute_p2x(features, boxes), boxes)

    def tile_margin(self, features: Features) -> int:
        """Return the margin of a window in stride-8 cells: the cached :func:`extension_receptive_radius`."""
        if self._margin is None:
            self._margin = extension_receptive_radius(self.extend, features)
        return self._margin

    def required_tiles(self, features: Features, boxes: Sequence[Tensor]) -> list[list[int]]:
        """Return (image, row, column) of the tiles that overlap ``boxes``."""
        height, width = features["inner3"].shape[-2:]
        grid = (-(-height // self.tile_size), -(-width // self.tile_size))
        padded = [torch.cat((b[:, :2], b[:, 2:] + SAMPLING_MARGIN), dim=1) for b in boxes]
        return boxes_to_mask(padded, 8 * self.tile_size, grid)[:, 0].nonzero().tolist()

    def compute_p2x(self, features: Features, boxes: Sequence[Tensor]) -> Tensor:
        """Compute p2x ``[B, C, H/2, W/2]``, valid in the tiles of :meth:`required_tiles`."""
        num_images, _, height, width = features["inner3"].shape
        rows, columns = (tile_spans(side, self.tile_size, self.tile_margin(features)) for side in (height, width))
        tiles = [(image, rows[y], columns[x]) for image, y, x in self.required_tiles(features, boxes)]
        window_height, window_width = rows[0].window.stop, columns[0].window.stop
        if not tiles or len(tiles) * window_height * window_width >= num_images * height * width:
            return self.extend(features)["p2x"]
        batches = [tiles[i : i + self.batch_size] for i in range(0, len(tiles), self.batch_size)]
        windows = torch.cat([self.extend(crop_windows(features, batch))["p2x"] for batch in batches])
        p2x = windows.new_zeros((num_images, windows.shape[1], 4 * height, 4 * width))
        for (image, y, x), window in zip(tiles, windows, strict=True):
            p2x[image, :, y.scaled_tile(4), x.scaled_tile(4)] = window[:, y.tile_in_window(4), x.tile_in_window(4)]
        return p2x


class TiledExtension:
    """Compute the whole p3x and p2x tile by tile with activation checkpointing; values and gradients equal those of the dense extension.

    Only one window's activations are in memory at a time, for distillation on large images.

    Args:
        extend: inner3, inner2, c1 → p3x, p2x.
        tile_size: Side of a tile in stride-8 cells.
    """

    def __init__(self, extend: ExtensionFn, tile_size: int):
        self.extend, self.tile_size = extend, tile_size
        self._margin: int | None = None

    def __call__(self, features: Features) -> Features:
        """Inputs of the extension → ``{"p3x": [B, C, H/4, W/4], "p2x": [B, C, H/2, W/2]}``."""
        if self._margin is None:
            self._margin = extension_receptive_radius(self.extend, features)
        rows, columns = (tile_spans(side, self.tile_size, self._margin) for side in features["inner3"].shape[-2:])
        tiles = [[self._compute_tile(features, y, x) for x in columns] for y in rows]
        return {
            level: torch.cat([torch.cat([tile[level] for tile in row], dim=3) for row in tiles], dim=2)
            for level in OUTPUT_SCALES
        }

    def _compute_tile(self, features: Features, y: TileSpan, x: TileSpan) -> Features:
        """Compute the tile in the rows ``y`` and columns ``x`` from the window around it."""
        window = {
            name: features[name][:, :, y.scaled_window(k), x.scaled_window(k)] for name, k in INPUT_SCALES.items()
        }
        outputs = checkpoint(self.extend, window, use_reentrant=False)
        return {
            level: outputs[level][:, :, y.tile_in_window(k), x.tile_in_window(k)] for level, k in OUTPUT_SCALES.items()
        }


def pool_p2x(p2x: Tensor, boxes: Sequence[Tensor]) -> Tensor:
    """Apply RoIAlign, as on the other levels: ``[B, C, H/2, W/2]`` and boxes ``[N, 4]`` of each image → ``[ΣN, C, 7, 7]``."""
    return roi_align(p2x, list(boxes), POOLED_SIZE, 1 / 2, SAMPLING_RATIO)


def crop_windows(features: Features, tiles: Sequence[tuple[int, TileSpan, TileSpan]]) -> Features:
    """Crop the windows of ``tiles`` (image, rows, columns), in stride-8 cells, from the extension's inputs as a batch."""
    return {
        name: torch.stack([features[name][b, :, y.scaled_window(k), x.scaled_window(k)] for b, y, x in tiles])
        for name, k in INPUT_SCALES.items()
    }


def extension_receptive_radius(extend: ExtensionFn, features: Features, map_size: int = 64) -> int:
    """Measure the receptive radius of the extension: the distance in stride-8 cells at which an input cell still changes p2x.

    The first and last cells of a map are set to NaN, and the NaN cells of p2x are counted. Fast convolutions (Winograd) are disabled,
    since they spread NaN further.

    Args:
        extend: inner3, inner2, c1 → p2x.
        features: Inputs of the extension, for channels, dtype and device.
        map_size: Height of the test map in stride-8 cells.

    Raises:
        ValueError: If all cells of p2x are NaN, i.e. a layer reads the whole map.
    """
    band = {
        name: features[name].new_zeros(1, features[name].shape[1], k * map_size, k) for name, k in INPUT_SCALES.items()
    }
    for name, k in INPUT_SCALES.items():
        band[name][:, :, :k], band[name][:, :, -k:] = torch.nan, torch.nan
    no_mkldnn = torch.backends.mkldnn.flags(enabled=False, allow_tf32=None)  # type: ignore[arg-type]  # None: no change
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=False), no_mkldnn:
        is_valid = ~extend(band)["p2x"].isnan().any(dim=1).any(dim=2)[0]
    if not is_valid.any():
        raise ValueError(
            "This extension has no finite receptive field: a layer reads the whole map (batch norm in training mode, group norm, or the "
            "squeeze-and-excitation of a MobileNetV3). Put the detector in evaluation mode, or read p2x with DenseReader."
        )
    rows = is_valid.nonzero().flatten()
    num_invalid = max(int(rows[0]), len(is_valid) - 1 - int(rows[-1]))
    return -(-num_invalid // 4) - 1
