"""Large pictures in pieces: every piece is read with a margin, and only what lies inside the margin is kept."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

Tile = tuple[slice, slice]


class Tiled(nn.Module):
    """``network`` run on windows of ``tile + 2·margin`` pixels of the small picture, ``batch`` windows at a time.

    Equal to the whole picture if ``margin`` is not smaller than the network's :func:`reach`, the farthest small pixel that an output
    pixel sees. At 4x: SRCNN 4, VDSR 7, D-DBPN 21, DBPNLL 30, EDSR-baseline 36, EDSR 68. Far pixels matter little, so less will do in
    practice. Channel attention (RCAN) looks at whole maps: its tiles are only close.
    """

    def __init__(self, network: nn.Module, tile: int = 128, margin: int = 16, batch: int = 4) -> None:
        super().__init__()
        if tile < 1 or margin < 0 or batch < 1:
            raise ValueError(
                f"tile is {tile}, margin {margin}, batch {batch}; a tile and a batch need 1 or more, a margin 0 or more."
            )
        self.network = network
        self.scale: int = network.scale  # type: ignore[assignment]
        self.tile, self.margin, self.batch = tile, margin, batch

    def forward(self, low: Tensor) -> Tensor:
        """``[B, 3, H, W]`` in 0…1 → ``[B, 3, scale·H, scale·W]``."""
        window = self.tile + 2 * self.margin
        if max(low.shape[-2:]) <= window:
            return self.network(low)
        return torch.stack([self._picture(image) for image in low])

    def _picture(self, low: Tensor) -> Tensor:
        """One picture ``[3, H, W]`` → ``[3, scale·H, scale·W]``."""
        scale = self.scale
        high = low.new_empty((low.shape[0], low.shape[1] * scale, low.shape[2] * scale))
        for group in _grouped(self._tiles(low), self.batch):
            pieces = self.network(torch.stack([low[:, rows, columns] for (rows, columns), _ in group]))
            for piece, ((rows, columns), (down, right)) in zip(pieces, group, strict=True):
                kept = piece[:, _inside(rows, down, scale), _inside(columns, right, scale)]
                high[:, _times(down, scale), _times(right, scale)] = kept
        return high

    def _tiles(self, low: Tensor) -> Iterator[tuple[Tile, Tile]]:
        """What is read and what of it is kept, row by row; all windows of a picture have one size."""
        for rows, down in _spans(low.shape[-2], self.tile, self.margin):
            for columns, right in _spans(low.shape[-1], self.tile, self.margin):
                yield (rows, columns), (down, right)


def _spans(length: int, tile: int, margin: int) -> Iterator[tuple[slice, slice]]:
    window = min(length, tile + 2 * margin)
    for start in range(0, length, tile):
        first = min(max(0, start - margin), length - window)
        yield slice(first, first + window), slice(start, min(start + tile, length))


def _inside(read: slice, kept: slice, scale: int) -> slice:
    return slice((kept.start - read.start) * scale, (kept.stop - read.start) * scale)


def _times(span: slice, scale: int) -> slice:
    return slice(span.start * scale, span.stop * scale)


def _grouped(tiles: Iterator[tuple[Tile, Tile]], size: int) -> Iterator[list[tuple[Tile, Tile]]]:
    group: list[tuple[Tile, Tile]] = []
    for tile in tiles:
        group.append(tile)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def reach(network: Callable[[Tensor], Tensor], side: int = 65) -> int:
    """The farthest small pixel that ``network``'s output at the centre depends on, in small pixels; ``side`` bounds what can be seen.

    Measured by the gradient at the middle of a random picture ``[1, 3, side, side]``: what never gets one is out of reach.
    """
    low = torch.rand(1, 3, side, side, requires_grad=True)
    high = network(low)
    scale, middle = high.shape[-1] // side, side // 2
    block = slice(middle * scale, (middle + 1) * scale)
    (gradient,) = torch.autograd.grad(high[..., block, block].abs().sum(), low)
    rows = (gradient[0].abs().sum(dim=0) > 0).nonzero()
    return int((rows - middle).abs().max())
