"""The extended level only where the detector itself suspects small objects: in windows around its own small boxes.

The image is divided into cells of the coarsest map (32 px). Cells with the center of a small box of the plain pass, and their neighbors,
are covered by few windows of 5x5 cells. A window's outer ring is context only, because convolutions see zeros beyond its border: its
predictions count in the inner cells that no earlier window owns.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as nnf
from numpy.typing import NDArray
from torch import Tensor

from featlift.features import spatial_size
from featlift.upgrading.extended_family import PlainMaps, box_sizes

WINDOW_CELLS = 5
"""Side of a window in cells, the ring of context included."""
CANDIDATE_SIZE_FACTOR = 1.5
"""Plain boxes below this multiple of the level's size limit select cells."""
LEVEL_STRIDE = 4
NEVER = -1e4
"""Logit of a prediction that does not count."""
COORDINATES = ("boxes", "anchors")
"""Names of predictions that are positions, xyxy in px."""
Corner = tuple[int, int]
"""First row and column of a window, cells."""
Cells = NDArray[np.bool_]


@dataclass(frozen=True)
class WindowGroup:
    """Windows of one shape in the images of a batch.

    Attributes:
        shape: Height and width of every window, cells.
        images: Index of the image of each of the n windows.
        corners: First row and column of each window.
        owned: ``[n, *shape]``, cells in which the window's predictions count.
    """

    shape: tuple[int, int]
    images: tuple[int, ...]
    corners: tuple[Corner, ...]
    owned: Tensor

    def crop(self, maps: PlainMaps) -> PlainMaps:
        """Crop all maps ``[B, C, h, w]``; the windows are a batch of n."""
        rows = spatial_size(maps.coarse)[0]
        image, coarse, *guides = (
            self._crop(x, spatial_size(x)[0] // rows) for x in (maps.image, maps.coarse, *maps.guides)
        )
        return PlainMaps(image, coarse, tuple(guides))

    def _crop(self, x: Tensor, scale: int) -> Tensor:
        height, width = (scale * side for side in self.shape)
        parts = [
            x[image, :, scale * row : scale * row + height, scale * column : scale * column + width]
            for image, (row, column) in zip(self.images, self.corners, strict=True)
        ]
        return torch.stack(parts)

    def place(self, values: Mapping[str, Tensor], cell_size: int, num_images: int) -> dict[str, Tensor]:
        """Bring predictions of the windows, ``[n, N, ...]`` by name, into their images: ``[num_images, M, ...]``.

        Boxes and anchors are moved by the position of the window; logits are `NEVER` where the window does not own the cell.
        """
        placed = {}
        for name, x in values.items():
            is_logit = name.endswith("logits")
            if is_logit:
                is_owned = self._owned_predictions(x.shape[1], cell_size)
                x = torch.where(is_owned.view(*is_owned.shape, *(1,) * (x.ndim - 2)), x, NEVER)
            elif name in COORDINATES:
                corners = x.new_tensor([[column, row, column, row] for row, column in self.corners])
                x = x + corners[:, None] * cell_size
            placed[name] = self._join(x, num_images, NEVER if is_logit else 0.0)
        return placed

    def _owned_predictions(self, number: int, cell_size: int) -> Tensor:
        """``[n, number]``: which of a window's predictions, row by row and with the same number at each position, count."""
        side = cell_size // LEVEL_STRIDE
        positions = self.owned.repeat_interleave(side, 1).repeat_interleave(side, 2).flatten(1)
        return positions.repeat_interleave(number // positions.shape[1], 1)

    def _join(self, values: Tensor, num_images: int, fill: float) -> Tensor:
        """Join the windows ``[n, N, ...]`` of each image: ``[num_images, M, ...]``, with ``fill`` where an image has fewer windows."""
        per_image = [[i for i, image in enumerate(self.images) if image == index] for index in range(num_images)]
        joined = values.new_full((num_images, max(map(len, per_image)), *values.shape[1:]), fill)
        for index, numbers in enumerate(per_image):
            joined[index, : len(numbers)] = values[numbers]
        return joined.flatten(1, 2)


def whole_images(maps: PlainMaps) -> WindowGroup:
    """One window per image, which is the image."""
    number, shape = len(maps.image), spatial_size(maps.coarse)
    owned = torch.ones(number, *shape, dtype=torch.bool, device=maps.image.device)
    return WindowGroup(shape, tuple(range(number)), ((0, 0),) * number, owned)


def select_windows(
    maps: PlainMaps, boxes: Tensor, scores: Tensor, max_size: float, min_score: float
) -> list[WindowGroup]:
    """Select windows around the small boxes of the plain pass.

    Args:
        maps: Maps of the plain pass; where sides of the image are no multiples of the cells, whole images are selected.
        boxes: ``[B, N, 4]`` xyxy, px of the network's input.
        scores: ``[B, N]``
        max_size: Size limit of the level.
        min_score: Minimum score of a box that selects cells.

    Returns:
        Windows, and, in another group, whole images whose windows would have at least as many cells.
    """
    shape, cell_size = spatial_size(maps.coarse), find_cell_size(maps)
    if cell_size == 0:
        return [whole_images(maps)]
    is_candidate = (scores > min_score) & (box_sizes(boxes) < CANDIDATE_SIZE_FACTOR * max_size)
    selected = mark_cells(boxes, is_candidate, shape, cell_size).cpu().numpy()
    window = (min(WINDOW_CELLS, shape[0]), min(WINDOW_CELLS, shape[1]))
    small: list[tuple[int, Corner, Cells]] = []
    whole = []
    for image, cells in enumerate(selected):
        covering = cover_cells(cells, window)
        if len(covering) * window[0] * window[1] >= shape[0] * shape[1]:
            whole.append((image, (0, 0), np.ones(shape, bool)))
        else:
            small += [(image, corner, owned) for corner, owned in covering]
    return [_build_group(part, side, boxes.device) for part, side in ((small, window), (whole, shape)) if part]


def _build_group(parts: list[tuple[int, Corner, Cells]], shape: tuple[int, int], device: torch.device) -> WindowGroup:
    images, corners, owned = zip(*parts, strict=True)
    return WindowGroup(shape, images, corners, torch.from_numpy(np.stack(owned)).to(device))


def find_cell_size(maps: PlainMaps) -> int:
    """Stride of the coarsest map in px, or 0 if any map has a side that is not the exact multiple of its own."""
    (height, width), (rows, columns) = spatial_size(maps.image), spatial_size(maps.coarse)
    size = height // rows
    guides_fit = all(spatial_size(guide) == (2 * rows, 2 * columns) for guide in maps.guides)
    return size if (size * rows, size * columns) == (height, width) and guides_fit else 0


def mark_cells(boxes: Tensor, is_selected: Tensor, shape: tuple[int, int], cell_size: int) -> Tensor:
    """``[B, *shape]``: cells with the center of a selected box, and their neighbors."""
    centers = ((boxes[..., :2] + boxes[..., 2:]) / (2 * cell_size)).long()
    columns, rows = (centers[..., axis].clamp(0, shape[1 - axis] - 1) for axis in (0, 1))
    counts = boxes.new_zeros(len(boxes), shape[0] * shape[1], dtype=torch.float32)
    counts.scatter_add_(1, rows * shape[1] + columns, is_selected.float())
    return nnf.max_pool2d(counts.view(-1, 1, *shape), 3, 1, 1)[:, 0] > 0


def cover_cells(cells: Cells, window: tuple[int, int]) -> list[tuple[Corner, Cells]]:
    """Cover ``cells [h, w]`` by windows, greedily; returns each window's corner and the cells ``[*window]`` that it owns.

    A window covers its cells without the outer ring, where that is not the border of the image.
    """
    rest, windows = cells.copy(), []
    rows, columns = (_inner_ranges(side, part) for side, part in zip(cells.shape, window, strict=True))
    while rest.any():
        sums = np.pad(rest.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        bands = sums[rows[:, 1]] - sums[rows[:, 0]]
        counts = bands[:, columns[:, 1]] - bands[:, columns[:, 0]]
        row, column = (int(index) for index in np.unravel_index(counts.argmax(), counts.shape))
        inner = np.zeros_like(rest)
        inner[slice(*rows[row]), slice(*columns[column])] = True
        part = (slice(row, row + window[0]), slice(column, column + window[1]))
        windows.append(((row, column), (rest & inner)[part]))
        rest &= ~inner
    return windows


def _inner_ranges(side: int, window: int) -> NDArray[np.int64]:
    """``[side - window + 1, 2]``: first and last + 1 cell that a window at each start covers."""
    starts = range(side - window + 1)
    return np.array([(s + (s > 0), s + window - (s + window < side)) for s in starts], np.int64)
