"""D-DBPN (Haris et al., "Deep back-projection networks for super-resolution", CVPR 2018): FDSR's network (Sec. 2.1)."""

import torch
from torch import Tensor, nn

from featlift.checkpoints.init_args import store_init_args
from featlift.image_sr.blocks import run_block


def _up_block(width: int, scale: int) -> nn.Sequential:
    """``[B, C, H, W]`` → ``[B, C, scale·H, scale·W]``; a kernel of scale + 4 with padding 2 gives exactly this size."""
    return nn.Sequential(nn.ConvTranspose2d(width, width, scale + 4, scale, 2), nn.PReLU())


def _down_block(width: int, scale: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, width, scale + 4, scale, 2), nn.PReLU())


def _squeeze_block(num_maps: int, width: int) -> nn.Module:
    """Reduce several concatenated maps to ``width`` channels; identity for a single map."""
    return nn.Sequential(nn.Conv2d(num_maps * width, width, 1), nn.PReLU()) if num_maps > 1 else nn.Identity()


class BackProjection(nn.Module):
    """Projection to the other resolution, corrected by the projected back-projection error:
    ``y = project(x) + project_residual(back_project(project(x)) - x)``.
    """

    def __init__(
        self, squeeze: nn.Module, project: nn.Module, back_project: nn.Module, project_residual: nn.Module
    ) -> None:
        super().__init__()
        self.squeeze, self.project = squeeze, project
        self.back_project, self.project_residual = back_project, project_residual

    def forward(self, maps: Tensor) -> Tensor:
        """``[B, n·C, H, W]``, all previous maps of this resolution → ``[B, C, H', W']``, a map of the other resolution."""
        x = self.squeeze(maps)
        projected = self.project(x)
        return projected + self.project_residual(self.back_project(projected) - x)


@store_init_args()
class DDBPN(nn.Module):
    """``stages`` up-projections and one fewer down-projections; each takes all previous maps of its resolution, newest first.

    Parameters at 4x: 10,426,358 with 7 stages (the paper's D-DBPN), 15,348,302 with 10 (DBPNLL); 5,953,526 at 2x and 23,205,878 at 8x.
    Any ``scale`` from 2 works; weights are published for 2, 4 and 8. Set ``gradient_checkpointing = True`` to save memory in training.
    """

    def __init__(self, scale: int = 4, stages: int = 7, initial_channels: int = 256, width: int = 64) -> None:
        super().__init__()
        if scale < 2:
            raise ValueError(f"scale is {scale}; D-DBPN upscales by 2 or more.")
        self.scale = scale
        self.gradient_checkpointing = False
        self.feat0 = nn.Sequential(nn.Conv2d(3, initial_channels, 3, padding=1), nn.PReLU())
        self.feat1 = nn.Sequential(nn.Conv2d(initial_channels, width, 1), nn.PReLU())
        self.ups = nn.ModuleList(
            BackProjection(
                _squeeze_block(num_maps, width),
                _up_block(width, scale),
                _down_block(width, scale),
                _up_block(width, scale),
            )
            for num_maps in (1, *range(1, stages))
        )
        self.downs = nn.ModuleList(
            BackProjection(
                _squeeze_block(num_maps, width),
                _down_block(width, scale),
                _up_block(width, scale),
                _down_block(width, scale),
            )
            for num_maps in range(1, stages)
        )
        self.output_conv = nn.Conv2d(stages * width, 3, 3, padding=1)
        self.apply(_init_weights)

    def forward(self, low: Tensor) -> Tensor:
        """``[B, 3, H, W]`` in 0…1 → ``[B, 3, scale·H, scale·W]``, not clamped; no mean subtraction, no bicubic skip connection."""
        x = self.feat1(self.feat0(low))
        high_maps = run_block(self.ups[0], x, self.gradient_checkpointing)
        low_maps = x[:, :0]
        for down, up in zip(self.downs, self.ups[1:], strict=True):
            low_maps = torch.cat([run_block(down, high_maps, self.gradient_checkpointing), low_maps], dim=1)
            high_maps = torch.cat([run_block(up, low_maps, self.gradient_checkpointing), high_maps], dim=1)
        return self.output_conv(high_maps)


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
