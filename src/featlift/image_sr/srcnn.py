"""SRCNN (Dong et al., "Image super-resolution using deep convolutional networks", 2015): three convolutions on an upsampled image."""

import torch
from torch import Tensor, nn

from featlift.checkpoints.init_args import store_init_args
from featlift.image_sr.bicubic import apply_to_luma, upsample_bicubic


@store_init_args()
class SRCNN(nn.Module):
    """Patch extraction, non-linear mapping, reconstruction: kernels 9-5-5 (57,281 parameters), or 9-1-5 with ``middle_kernel=1`` (8,129).

    Refines the luma of the bicubically upsampled image; the chroma stays bicubic. A network is trained for one ``scale``.
    """

    def __init__(self, scale: int = 4, middle_kernel: int = 5) -> None:
        super().__init__()
        self.scale = scale
        self.conv1 = nn.Conv2d(1, 64, 9, padding=4)
        self.conv2 = nn.Conv2d(64, 32, middle_kernel, padding=middle_kernel // 2)
        self.conv3 = nn.Conv2d(32, 1, 5, padding=2)

    def forward(self, low: Tensor) -> Tensor:
        """``[B, 3, H, W]`` in 0…1 → ``[B, 3, scale·H, scale·W]``, not clamped."""
        return apply_to_luma(self._refine, upsample_bicubic(low, self.scale))

    def _refine(self, y: Tensor) -> Tensor:
        return self.conv3(torch.relu(self.conv2(torch.relu(self.conv1(y)))))
