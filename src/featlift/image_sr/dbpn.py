"""D-DBPN (Haris et al., "Deep back-projection networks for super-resolution", CVPR 2018): FDSR's network (Sec. 2.1)."""

import torch
from torch import Tensor, nn

from featlift.checkpoints.init_args import remember
from featlift.image_sr.blocks import through


def _up(width: int, scale: int) -> nn.Sequential:
    """``[B, C, H, W]`` → ``[B, C, scale·H, scale·W]``; the kernel of scale + 4 with padding 2 gives exactly that size."""
    return nn.Sequential(nn.ConvTranspose2d(width, width, scale + 4, scale, 2), nn.PReLU())


def _down(width: int, scale: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, width, scale + 4, scale, 2), nn.PReLU())


def _squeeze(maps: int, width: int) -> nn.Module:
    """Back to ``width`` channels where several maps come in; a single map passes as it is."""
    return nn.Sequential(nn.Conv2d(maps * width, width, 1), nn.PReLU()) if maps > 1 else nn.Identity()


class Projection(nn.Module):
    """To the other resolution, back, and the error of that once more: ``y = there(x) + again(back(there(x)) - x)``."""

    def __init__(self, squeeze: nn.Module, there: nn.Module, back: nn.Module, again: nn.Module) -> None:
        super().__init__()
        self.squeeze, self.there, self.back, self.again = squeeze, there, back, again

    def forward(self, maps: Tensor) -> Tensor:
        """``[B, n·C, H, W]``, all earlier maps of one resolution → ``[B, C, H', W']``, one map of the other."""
        x = self.squeeze(maps)
        first = self.there(x)
        return first + self.again(self.back(first) - x)


@remember()
class DDBPN(nn.Module):
    """``stages`` up- and one less down-projections, each fed by all earlier maps of its side, newest first.

    Parameters at 4x: 10,426,358 with 7 stages (the paper's D-DBPN), 15,348,302 with 10 (DBPNLL); 5,953,526 at 2x and 23,205,878 at 8x.
    Any ``scale`` from 2 works; weights are published for 2, 4 and 8. Set ``recompute = True`` to trade time for memory in training.
    """

    def __init__(self, scale: int = 4, stages: int = 7, initial: int = 256, width: int = 64) -> None:
        super().__init__()
        if scale < 2:
            raise ValueError(f"D-DBPN enlarges by 2 or more; it was asked for {scale}.")
        self.scale = scale
        self.recompute = False
        self.lift = nn.Sequential(nn.Conv2d(3, initial, 3, padding=1), nn.PReLU())
        self.narrow = nn.Sequential(nn.Conv2d(initial, width, 1), nn.PReLU())
        self.ups = nn.ModuleList(
            Projection(_squeeze(maps, width), _up(width, scale), _down(width, scale), _up(width, scale))
            for maps in (1, *range(1, stages))
        )
        self.downs = nn.ModuleList(
            Projection(_squeeze(maps, width), _down(width, scale), _up(width, scale), _down(width, scale))
            for maps in range(1, stages)
        )
        self.paint = nn.Conv2d(stages * width, 3, 3, padding=1)
        self.apply(_initialised)

    def forward(self, low: Tensor) -> Tensor:
        """``[B, 3, H, W]`` in 0…1 → ``[B, 3, scale·H, scale·W]``, not clamped; no mean is taken off, no bicubic added."""
        x = self.narrow(self.lift(low))
        highs = through(self.ups[0], x, self.recompute)
        lows = x[:, :0]
        for down, up in zip(self.downs, self.ups[1:], strict=True):
            lows = torch.cat([through(down, highs, self.recompute), lows], dim=1)
            highs = torch.cat([through(up, lows, self.recompute), highs], dim=1)
        return self.paint(highs)


def _initialised(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
