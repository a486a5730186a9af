"""Tiled super-resolution of large images: tiles are processed with a margin, which is cropped from the output."""

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor, nn

from featlift.features import tile_spans


class TiledSuperResolver(nn.Module):
    """Runs ``network`` on tiles of ``tile_size + 2·margin`` px of the low-resolution image, ``batch_size`` tiles at a time.

    Equal to untiled inference if ``margin`` is at least the network's receptive radius (:func:`measure_receptive_radius`, in
    low-resolution px). At 4x: SRCNN 4, VDSR 7, D-DBPN 21, DBPNLL 30, EDSR-baseline 36, EDSR 68. Distant pixels have little influence, so a
    smaller margin suffices in practice. With channel attention (RCAN), which uses whole maps, tiling is approximate.
    """

    def __init__(self, network: nn.Module, tile_size: int = 128, margin: int = 16, batch_size: int = 4) -> None:
        super().__init__()
        if tile_size < 1 or margin < 0 or batch_size < 1:
            raise ValueError(
                f"tile_size is {tile_size}, margin {margin}, batch_size {batch_size}; "
                "tile_size and batch_size must be at least 1, margin at least 0."
            )
        self.network = network
        self.scale: int = network.scale  # type: ignore[assignment]
        self.tile_size, self.margin, self.batch_size = tile_size, margin, batch_size

    def forward(self, low: Tensor) -> Tensor:
        """``[B, 3, H, W]`` in 0…1 → ``[B, 3, scale·H, scale·W]``."""
        if max(low.shape[-2:]) <= self.tile_size + 2 * self.margin:
            return self.network(low)
        return torch.stack([self._upscale_image(image) for image in low])

    def _upscale_image(self, low: Tensor) -> Tensor:
        """Upscale an image ``[3, H, W]`` to ``[3, scale·H, scale·W]``."""
        scale = self.scale
        rows, columns = (tile_spans(length, self.tile_size, self.margin) for length in low.shape[-2:])
        tiles = list(product(rows, columns))
        high = low.new_empty((low.shape[0], low.shape[1] * scale, low.shape[2] * scale))
        for start in range(0, len(tiles), self.batch_size):
            batch = tiles[start : start + self.batch_size]
            outputs = self.network(torch.stack([low[:, y.window, x.window] for y, x in batch]))
            for output, (y, x) in zip(outputs, batch, strict=True):
                cropped = output[:, y.tile_in_window(scale), x.tile_in_window(scale)]
                high[:, y.scaled_tile(scale), x.scaled_tile(scale)] = cropped
        return high


def measure_receptive_radius(network: Callable[[Tensor], Tensor], input_size: int = 65) -> int:
    """Measure the radius of the receptive field of ``network`` in low-resolution px, at most ``input_size // 2``.

    It is the largest distance of a non-zero gradient of the central output pixels, for a random image
    ``[1, 3, input_size, input_size]``.
    """
    low = torch.rand(1, 3, input_size, input_size, requires_grad=True)
    high = network(low)
    scale, center = high.shape[-1] // input_size, input_size // 2
    block = slice(center * scale, (center + 1) * scale)
    (gradient,) = torch.autograd.grad(high[..., block, block].abs().sum(), low)
    positions = (gradient[0].abs().sum(dim=0) > 0).nonzero()
    return int((positions - center).abs().max())
