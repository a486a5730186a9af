"""SRCNN (Dong et al., "Image super-resolution using deep convolutional networks", 2015): three convolutions on an enlarged picture."""

import torch
from torch import Tensor, nn

from featlift.checkpoints.init_args import remember
from featlift.image_sr.bicubic import enlarged, on_luma


@remember()
class SRCNN(nn.Module):
    """Patches, a non-linear map, reconstruction: 9-5-5 kernels (57,281 parameters) or, with ``middle=1``, 9-1-5 (8,129).

    Works on the luma of the bicubically enlarged picture; the chroma stays bicubic. One network serves one ``scale``.
    """

    def __init__(self, scale: int = 4, middle: int = 5) -> None:
        super().__init__()
        self.scale = scale
        self.conv1 = nn.Conv2d(1, 64, 9, padding=4)
        self.conv2 = nn.Conv2d(64, 32, middle, padding=middle // 2)
        self.conv3 = nn.Conv2d(32, 1, 5, padding=2)

    def forward(self, low: Tensor) -> Tensor:
        """``[B, 3, H, W]`` in 0…1 → ``[B, 3, scale·H, scale·W]``, not clamped."""
        return on_luma(self._refined, enlarged(low, self.scale))

    def _refined(self, y: Tensor) -> Tensor:
        return self.conv3(torch.relu(self.conv2(torch.relu(self.conv1(y)))))
