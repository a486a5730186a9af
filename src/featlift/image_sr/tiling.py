"""Large pictures in pieces: every piece is read with a margin, and only what lies inside the margin is kept."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

TileSlices = tuple[slice, slice]


class TiledSuperResolver(nn.Module):
    """``network`` run on windows of ``tile + 2·margin`` pixels of the small picture, ``batch_size`` windows at a time.

    Equal to the whole picture if ``margin`` is not smaller than the network's :func:`measure_receptive_radius`, the farthest small pixel that an output
    pixel sees. At 4x: SRCNN 4, VDSR 7, D-DBPN 21, DBPNLL 30, EDSR-baseline 36, EDSR 68. Far pixels matter little, so less will do in
    practice. Channel attention (RCAN) looks at whole maps: its tiles are only close.
    """

    def __init__(self, network: nn.Module, tile_size: int = 128, margin: int = 16, batch_size: int = 4) -> None:
        super().__init__()
        if tile_size < 1 or margin < 0 or batch_size < 1:
            raise ValueError(
                f"tile is {tile_size}, margin {margin}, batch {batch_size}; a tile and a batch need 1 or more, a margin 0 or more."
            )
        self.network = network
        self.scale: int = network.scale  # type: ignore[assignment]
        self.tile_size, self.margin, self.batch_size = tile_size, margin, batch_size

    def forward(self, low: Tensor) -> Tensor:
        """``[B, 3, H, W]`` in 0…1 → ``[B, 3, scale·H, scale·W]``."""
        window = self.tile_size + 2 * self.margin
        if max(low.shape[-2:]) <= window:
            return self.network(low)
        return torch.stack([self._upscale_image(image) for image in low])

    def _upscale_image(self, low: Tensor) -> Tensor:
        """One picture ``[3, H, W]`` → ``[3, scale·H, scale·W]``."""
        scale = self.scale
        high = low.new_empty((low.shape[0], low.shape[1] * scale, low.shape[2] * scale))
        for group in _batch_tiles(self._iter_tiles(low), self.batch_size):
            pieces = self.network(torch.stack([low[:, rows, columns] for (rows, columns), _ in group]))
            for piece, ((rows, columns), (down, right)) in zip(pieces, group, strict=True):
                kept = piece[:, _crop_margin(rows, down, scale), _crop_margin(columns, right, scale)]
                high[:, _scale_slice(down, scale), _scale_slice(right, scale)] = kept
        return high

    def _iter_tiles(self, low: Tensor) -> Iterator[tuple[TileSlices, TileSlices]]:
        """What is read and what of it is kept, row by row; all windows of a picture have one size."""
        for rows, down in _tile_spans(low.shape[-2], self.tile_size, self.margin):
            for columns, right in _tile_spans(low.shape[-1], self.tile_size, self.margin):
                yield (rows, columns), (down, right)


def _tile_spans(length: int, tile_size: int, margin: int) -> Iterator[tuple[slice, slice]]:
    window = min(length, tile_size + 2 * margin)
    for start in range(0, length, tile_size):
        first = min(max(0, start - margin), length - window)
        yield slice(first, first + window), slice(start, min(start + tile_size, length))


def _crop_margin(read: slice, kept: slice, scale: int) -> slice:
    return slice((kept.start - read.start) * scale, (kept.stop - read.start) * scale)


def _scale_slice(span: slice, scale: int) -> slice:
    return slice(span.start * scale, span.stop * scale)


def _batch_tiles(
    tiles: Iterator[tuple[TileSlices, TileSlices]], batch_size: int
) -> Iterator[list[tuple[TileSlices, TileSlices]]]:
    group: list[tuple[TileSlices, TileSlices]] = []
    for tile in tiles:
        group.append(tile)
        if len(group) == batch_size:
            yield group
            group = []
    if group:
        yield group


def measure_receptive_radius(network: Callable[[Tensor], Tensor], input_size: int = 65) -> int:
    """The farthest small pixel that ``network``'s output at the center depends on, in small pixels; ``input_size`` bounds what can be seen.

    Measured by the gradient at the middle of a random picture ``[1, 3, side, side]``: what never gets one is out of reach.
    """
    low = torch.rand(1, 3, input_size, input_size, requires_grad=True)
    high = network(low)
    scale, middle = high.shape[-1] // input_size, input_size // 2
    block = slice(middle * scale, (middle + 1) * scale)
    (gradient,) = torch.autograd.grad(high[..., block, block].abs().sum(), low)
    rows = (gradient[0].abs().sum(dim=0) > 0).nonzero()
    return int((rows - middle).abs().max())
