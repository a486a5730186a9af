"""`Features`, the library's common type for the named feature maps of a batch of images.

Names follow the papers: ``c2 … c5`` from a backbone, ``p2 … p7`` from a pyramid, ``"image"``, ``"fc7"``. The number is the base-2
logarithm of the stride: a cell of ``p3`` covers 8x8 pixels. The suffix ``x`` marks EFPN's extended levels, which have half that stride:
``p2x`` has stride 2.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor

Features = dict[str, Tensor]
"""Named maps, fine → coarse: ``"p3"`` → ``[B, C, H/8, W/8]``."""

Target = dict[str, Tensor]
"""Annotations of one image, as in torchvision: ``boxes [N, 4]`` xyxy in pixels, ``labels [N]`` int64 from 1, ``masks``, …"""


IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of RGB in 0…1 that torchvision's pretrained networks expect."""


@dataclass(frozen=True)
class TileSpan:
    """A tile along one axis of a map: the cells ``tile``, computed from ``window``, the tile with its margin.

    ``scale`` is the number of cells of another map of the same network per cell, such as the scale of a super-resolver.
    """

    window: slice
    tile: slice

    def scaled_window(self, scale: int) -> slice:
        """Return the window in a map with ``scale`` times the cells."""
        return slice(scale * self.window.start, scale * self.window.stop)

    def scaled_tile(self, scale: int) -> slice:
        """Return the tile in a map with ``scale`` times the cells."""
        return slice(scale * self.tile.start, scale * self.tile.stop)

    def tile_in_window(self, scale: int = 1) -> slice:
        """Return the tile in the output computed from the window, with ``scale`` times the cells."""
        offset = self.window.start
        return slice(scale * (self.tile.start - offset), scale * (self.tile.stop - offset))


def tile_spans(length: int, tile_size: int, margin: int) -> list[TileSpan]:
    """Divide ``length`` cells into tiles of ``tile_size`` (the last may be shorter) with ``margin`` cells at both sides.

    All windows have the same size: at the ends of the map, and for a shorter tile, they are moved inward.
    """
    window_size = min(length, tile_size + 2 * margin)
    spans = []
    for start in range(0, length, tile_size):
        first = min(max(0, start - margin), length - window_size)
        spans.append(TileSpan(slice(first, first + window_size), slice(start, min(start + tile_size, length))))
    return spans


_LEVEL_NAME = re.compile(r"^[cp](\d+)(x?)$")


def level_stride(level: str) -> int:
    """Return the stride of ``level`` in pixels (``"p3"`` → 8, ``"p2x"`` → 2).

    Raises:
        ValueError: If ``level`` is not ``c`` or ``p`` followed by a number and an optional ``x``.
    """
    match = _LEVEL_NAME.match(level)
    if not match:
        raise ValueError(
            f"'{level}' is not the name of a level: expected c2 … c5, p2 … p7 or, for an extended level, p2x."
        )
    return 2 ** int(match[1]) // (2 if match[2] else 1)


def spatial_size(x: Tensor) -> tuple[int, int]:
    """Return the height and width of ``x [B, C, H, W]`` in cells."""
    return x.shape[-2], x.shape[-1]


def crop_or_pad(x: Tensor, size: tuple[int, int], max_cells: int = 1) -> Tensor:
    """Crop or pad ``x [B, C, H, W]`` to ``[B, C, *size]``, aligned at the top left; never resizes.

    An upsampled map that is one row or column too large (odd sizes) is cropped. A map that is too small (backbones that round odd sizes
    down) is padded by repeating its last row or column. All padding in this library is at the bottom and right, so cells keep their
    position in the image.

    Raises:
        ValueError: If the sizes differ by more than ``max_cells``; for one cell, the levels are then not a factor of 2 apart.
    """
    height, width = size
    if abs(height - x.shape[-2]) > max_cells or abs(width - x.shape[-1]) > max_cells:
        allowed = "one cell is" if max_cells == 1 else f"{max_cells} cells are"
        raise ValueError(
            f"A map of {x.shape[-2]}x{x.shape[-1]} cells cannot be cropped or padded to {height}x{width}; at most {allowed} allowed. "
            "Adjacent levels of a pyramid must be a factor of 2 apart (strides 4, 8, 16, 32)."
        )
    x = x[..., :height, :width]
    missing = (0, width - x.shape[-1], 0, height - x.shape[-2])
    return nnf.pad(x, missing, mode="replicate") if any(missing) else x


def crop_to_match(a: Features, b: Features) -> tuple[Features, Features]:
    """Crop the common levels of ``a`` and ``b`` to the smaller height and width of both, aligned at the top left.

    The maps of two separately padded views of an image differ by a few cells at the bottom and right (AFI-GAN, Sec. 4.1; sides of
    800 px give 200 and 208 cells at p2).

    Raises:
        ValueError: If there is no common level.
    """
    levels = [name for name in a if name in b]
    if not levels:
        raise ValueError(f"No common level: the first has {sorted(a)}, the second {sorted(b)}.")
    cropped_a, cropped_b = {}, {}
    for name in levels:
        height = min(a[name].shape[-2], b[name].shape[-2])
        width = min(a[name].shape[-1], b[name].shape[-1])
        cropped_a[name], cropped_b[name] = a[name][..., :height, :width], b[name][..., :height, :width]
    return cropped_a, cropped_b


def boxes_to_mask(boxes: Sequence[Tensor], stride: int, size: tuple[int, int]) -> Tensor:
    """Return the mask ``[B, 1, *size]`` of the cells that intersect a box (1, else 0): EFPN's positive pixels (Sec. III-C).

    ``boxes`` are ``[N, 4]`` xyxy for each image, in pixels; ``stride`` is that of the map in pixels, ``size`` its (height, width) in cells.
    Left and top edges are rounded down, right and bottom edges up. Boxes are clipped to the map; overlapping boxes count once.
    """
    height, width = size
    mask = torch.zeros(len(boxes), 1, height, width, device=boxes[0].device)
    for image_mask, image_boxes in zip(mask, boxes, strict=True):
        starts = (image_boxes[:, :2] / stride).floor().clamp(min=0)
        ends = (image_boxes[:, 2:] / stride).ceil().clamp(min=0)
        for (left, top), (right, bottom) in zip(starts.int().tolist(), ends.int().tolist(), strict=True):
            image_mask[:, top:bottom, left:right] = 1
    return mask


def flatten_tensors(value: Any) -> list[Tensor]:
    """Return the tensors in ``value``: a tensor, or nested lists, tuples and mappings, in order; other values are left out."""
    if isinstance(value, Tensor):
        return [value]
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [tensor for item in items for tensor in flatten_tensors(item)]
