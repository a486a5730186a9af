"""D-DBPN (Haris et al., "Deep back-projection networks for super-resolution", CVPR 2018): FDSR's network (Sec. 2.1)."""

import torch
from torch import Tensor, nn

from featlift.checkpoints.init_args import store_init_args
from featlift.image_sr.blocks import run_block


def _up_block(width: int, scale: int) -> nn.Sequential:
    """``[B, C, H, W]`` → ``[B, C, scale·H, scale·W]``; the kernel of scale + 4 with padding 2 gives exactly that size."""
    return nn.Sequential(nn.ConvTranspose2d(width, width, scale + 4, scale, 2), nn.PReLU())


def _down_block(width: int, scale: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, width, scale + 4, scale, 2), nn.PReLU())


def _squeeze_block(num_maps: int, width: int) -> nn.Module:
    """Back to ``width`` channels where several maps come in; a single map passes as it is."""
    return nn.Sequential(nn.Conv2d(num_maps * width, width, 1), nn.PReLU()) if num_maps > 1 else nn.Identity()


class BackProjection(nn.Module):
    """To the other resolution, back, and the error of that once more: ``y = there(x) + again(back(there(x)) - x)``."""

    def __init__(
        self, squeeze: nn.Module, project: nn.Module, back_project: nn.Module, project_residual: nn.Module
    ) -> None:
        super().__init__()
        self.squeeze, self.project, self.back_project, self.project_residual = (
            squeeze,
            project,
            back_project,
            project_residual,
        )

    def forward(self, maps: Tensor) -> Tensor:
        """``[B, n·C, H, W]``, all earlier maps of one resolution → ``[B, C, H', W']``, one map of the other."""
        x = self.squeeze(maps)
        first = self.project(x)
        return first + self.project_residual(self.back_project(first) - x)


@store_init_args()
class DDBPN(nn.Module):
    """``stages`` up- and one less down-projections, each fed by all earlier maps of its side, newest first.

    Parameters at 4x: 10,426,358 with 7 stages (the paper's D-DBPN), 15,348,302 with 10 (DBPNLL); 5,953,526 at 2x and 23,205,878 at 8x.
    Any ``scale`` from 2 works; weights are published for 2, 4 and 8. Set ``recompute = True`` to trade time for memory in training.
    """

    def __init__(self, scale: int = 4, stages: int = 7, initial_channels: int = 256, width: int = 64) -> None:
        super().__init__()
        if scale < 2:
            raise ValueError(f"D-DBPN enlarges by 2 or more; it was asked for {scale}.")
        self.scale = scale
        self.gradient_checkpointing = False
        self.feat0 = nn.Sequential(nn.Conv2d(3, initial_channels, 3, padding=1), nn.PReLU())
        self.feat1 = nn.Sequential(nn.Conv2d(initial_channels, width, 1), nn.PReLU())
        self.ups = nn.ModuleList(
            BackProjection(
                _squeeze_block(maps, width), _up_block(width, scale), _down_block(width, scale), _up_block(width, scale)
            )
            for maps in (1, *range(1, stages))
        )
        self.downs = nn.ModuleList(
            BackProjection(
                _squeeze_block(maps, width),
                _down_block(width, scale),
                _up_block(width, scale),
                _down_block(width, scale),
            )
            for maps in range(1, stages)
        )
        self.output_conv = nn.Conv2d(stages * width, 3, 3, padding=1)
        self.apply(_init_weights)

    def forward(self, low: Tensor) -> Tensor:
        """``[B, 3, H, W]`` in 0…1 → ``[B, 3, scale·H, scale·W]``, not clamped; no mean is taken off, no bicubic added."""
        x = self.feat1(self.feat0(low))
        highs = run_block(self.ups[0], x, self.gradient_checkpointing)
        lows = x[:, :0]
        for down, up in zip(self.downs, self.ups[1:], strict=True):
            lows = torch.cat([run_block(down, highs, self.gradient_checkpointing), lows], dim=1)
            highs = torch.cat([run_block(up, lows, self.gradient_checkpointing), highs], dim=1)
        return self.output_conv(highs)


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
