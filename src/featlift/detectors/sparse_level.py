"""Reading EFPN's finer level at small RoIs: from the whole map, or from windows around them, with the same result.

Only small RoIs ever read p2x, and the RPN never does, so at detection most of it need not exist. A window is a square of the picture with
a margin as wide as the extension's reach, so what it gives inside is what the whole map would have there.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from torchvision.ops import roi_align

from featlift.features import Features
from featlift.losses import boxes_to_mask

INPUT_SCALES = {"inner3": 1, "inner2": 2, "c1": 4}
"""What p2x is made from, with its cells for each cell of stride 8."""

POOLED_SIZE = 7
SAMPLING_RATIO = 2
SAMPLING_MARGIN = 4.0
"""Pixels to the right of and below a RoI's last sample that its interpolation may read: one cell, and one more for RoIs under a cell."""

ExtensionFn = Callable[[Features], Features]


class RoIReader(Protocol):
    """Small RoIs on p2x."""

    def __call__(self, features: Features, boxes: Sequence[Tensor]) -> Tensor:
        """What p2x is made from, and boxes ``[N, 4]`` of each picture → ``[ΣN, C, 7, 7]``."""
        ...


class DenseReader:
    """Computes p2x everywhere: for training, and where small objects are everywhere.

    Args:
        extend: inner3, inner2, c1 → p2x: :meth:`featlift.detectors.efpn.ExtendedExtractor.extended`.
    """

    def __init__(self, extend: ExtensionFn):
        self.extend = extend

    def __call__(self, features: Features, boxes: Sequence[Tensor]) -> Tensor:
        """See :class:`RoIReader`."""
        return pool_p2x(self.extend(features)["p2x"], boxes)


class SparseReader:
    """Computes p2x only in the tiles that a small RoI touches, several at a time; the rest of the map stays zero and is not read.

    Where the windows together would be larger than the map (their margins overlap), the whole map is computed.

    Args:
        extend: inner3, inner2, c1 → p2x.
        tile_size: side of a tile in cells of stride 8 (16 is 128 px).
        batch_size: windows that are computed together.
    """

    def __init__(self, extend: ExtensionFn, tile_size: int = 16, batch_size: int = 8):
        self.extend, self.tile_size, self.batch_size = extend, tile_size, batch_size
        self._margin: int | None = None

    def __call__(self, features: Features, boxes: Sequence[Tensor]) -> Tensor:
        """See :class:`RoIReader`."""
        return pool_p2x(self.compute_p2x(features, boxes), boxes)

    def tile_margin(self, features: Features) -> int:
        """Cells of stride 8 around a tile that it depends on: the extension's :func:`extension_receptive_radius`, measured once."""
        if self._margin is None:
            self._margin = extension_receptive_radius(self.extend, features)
        return self._margin

    def required_tiles(self, features: Features, boxes: Sequence[Tensor]) -> list[list[int]]:
        """(picture, row, column) of the tiles that are needed."""
        height, width = features["inner3"].shape[-2:]
        grid = (-(-height // self.tile_size), -(-width // self.tile_size))
        grown = [torch.cat((b[:, :2], b[:, 2:] + SAMPLING_MARGIN), dim=1) for b in boxes]
        return boxes_to_mask(grown, 8 * self.tile_size, grid)[:, 0].nonzero().tolist()

    def compute_p2x(self, features: Features, boxes: Sequence[Tensor]) -> Tensor:
        """``[B, C, H/2, W/2]``, right wherever ``boxes`` read it."""
        tiles, (pictures, _, height, width) = self.required_tiles(features, boxes), features["inner3"].shape
        sides = [min(self.tile_size + 2 * self.tile_margin(features), side) for side in (height, width)]
        if not tiles or len(tiles) * sides[0] * sides[1] >= pictures * height * width:
            return self.extend(features)["p2x"]
        starts = [
            [b, self._window_start(y, sides[0], height), self._window_start(x, sides[1], width)] for b, y, x in tiles
        ]
        computed = [
            self.extend(crop_windows(features, starts[i : i + self.batch_size], sides))["p2x"]
            for i in range(0, len(starts), self.batch_size)
        ]
        found = computed[0].new_zeros((pictures, computed[0].shape[1], 4 * height, 4 * width))
        for (b, y, x), (_, top, left), window in zip(tiles, starts, torch.cat(computed), strict=True):
            rows, columns = self._tile_span(y, height), self._tile_span(x, width)
            found[b, :, rows, columns] = window[:, _shift_slice(rows, 4 * top), _shift_slice(columns, 4 * left)]
        return found

    def _window_start(self, index: int, window_size: int, map_size: int) -> int:
        """Where the window of the tile at ``index`` begins: its margin before it, but inside the map."""
        assert self._margin is not None
        return max(0, min(index * self.tile_size - self._margin, map_size - window_size))

    def _tile_span(self, index: int, map_size: int) -> slice:
        """The tile at ``index`` in cells of stride 2."""
        return slice(4 * index * self.tile_size, 4 * min((index + 1) * self.tile_size, map_size))


class TiledExtension:
    """p3x and p2x of the whole map, computed tile by tile, and each tile again for the backward pass; values and gradients are the same.

    Of what the extension needs in between no more than one window is in memory: for distillation on large pictures.

    Args:
        extend: inner3, inner2, c1 → p3x, p2x.
        tile_size: side of a tile in cells of stride 8.
    """

    def __init__(self, extend: ExtensionFn, tile_size: int):
        self.extend, self.tile_size = extend, tile_size
        self._margin: int | None = None

    def __call__(self, features: Features) -> Features:
        """What the level is made from → ``{"p3x": [B, C, H/4, W/4], "p2x": [B, C, H/2, W/2]}``."""
        if self._margin is None:
            self._margin = extension_receptive_radius(self.extend, features)
        height, width = features["inner3"].shape[-2:]
        rows = [
            [self._compute_tile(features, y, x) for x in range(0, width, self.tile_size)]
            for y in range(0, height, self.tile_size)
        ]
        return {
            level: torch.cat([torch.cat([part[level] for part in row], dim=3) for row in rows], dim=2)
            for level in rows[0][0]
        }

    def _compute_tile(self, features: Features, top: int, left: int) -> Features:
        """What the tile at (``top``, ``left``) gives, out of the window around it."""
        (y, down), (x, right) = (
            self._padded_span(start, features["inner3"].shape[axis]) for start, axis in ((top, 2), (left, 3))
        )
        window = {name: features[name][:, :, k * y : k * down, k * x : k * right] for name, k in INPUT_SCALES.items()}
        made = checkpoint(self.extend, window, use_reentrant=False)
        return {
            level: made[level][
                :, :, k * (top - y) : k * (top - y + self.tile_size), k * (left - x) : k * (left - x + self.tile_size)
            ]
            for level, k in (("p3x", 2), ("p2x", 4))
        }

    def _padded_span(self, start: int, map_size: int) -> tuple[int, int]:
        """From and to, in cells of stride 8: the tile and its margin, as far as there is a map."""
        assert self._margin is not None
        return max(0, start - self._margin), min(start + self.tile_size + self._margin, map_size)


def pool_p2x(p2x: Tensor, boxes: Sequence[Tensor]) -> Tensor:
    """RoIAlign as on the other levels: ``[B, C, H/2, W/2]`` and boxes ``[N, 4]`` of each picture → ``[ΣN, C, 7, 7]``."""
    return roi_align(p2x, list(boxes), POOLED_SIZE, 1 / 2, SAMPLING_RATIO)


def crop_windows(features: Features, corners: Sequence[Sequence[int]], window_size: Sequence[int]) -> Features:
    """Windows of what p2x is made from, as a batch: (picture, top, left) and (height, width) in cells of stride 8."""
    return {
        name: torch.stack([
            features[name][b, :, k * y : k * (y + window_size[0]), k * x : k * (x + window_size[1])] for b, y, x in corners
        ])
        for name, k in INPUT_SCALES.items()
    }  # fmt: skip


def extension_receptive_radius(extend: ExtensionFn, features: Features, map_size: int = 64) -> int:
    """How many cells of stride 8 away something can still change p2x.

    Measured: a map whose first and last cells are not-a-number is extended, and what of p2x is a number tells how far they reach. Plain
    convolutions are used for it, for fast ones (Winograd's) let not-a-number leak further.

    Raises:
        ValueError: if no cell of a map of ``map_size`` is free of them: something in the extension looks at the whole map.
    """
    band = {
        name: features[name].new_zeros(1, features[name].shape[1], k * map_size, k) for name, k in INPUT_SCALES.items()
    }
    for name, k in INPUT_SCALES.items():
        band[name][:, :, :k], band[name][:, :, -k:] = torch.nan, torch.nan
    slowly = torch.backends.mkldnn.flags(enabled=False, allow_tf32=None)  # type: ignore[arg-type]  # None: as it is
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=False), slowly:
        clean = ~extend(band)["p2x"].isnan().any(dim=1).any(dim=2)[0]
    if not clean.any():
        raise ValueError(
            "This extension has no finite reach: a layer of it sees the whole map (batch norm in training mode, group norm, or the "
            "squeeze-and-excitation of a MobileNetV3). Put the detector in evaluation mode, or read p2x with WholeMap."
        )
    rows = clean.nonzero().flatten()
    dirty = max(int(rows[0]), len(clean) - 1 - int(rows[-1]))
    return -(-dirty // 4) - 1


def _shift_slice(span: slice, offset: int) -> slice:
    return slice(span.start - offset, span.stop - offset)
