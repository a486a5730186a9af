"""Discriminators of feature maps for adversarial training."""

from itertools import pairwise

from torch import Tensor, nn

from featlift.checkpoints.init_args import store_init_args


@store_init_args()
class PatchDiscriminator(nn.Module):
    """Feature patch discriminator D: one logit per cell of a map (SRF-GAN, Sec. 3.3; AFI-GAN, Sec. 3.3).

    Four convolutions of stride 1, so each logit has a receptive field of 9x9 cells; batch norm after each of the first three. 15,352,321
    parameters at 256 channels (15,344,129 with SRF-GAN's 1x1 last convolution). The sigmoid is part of the loss.

    The last layer is initialized with N(0, 0.01²). The published code's Kaiming initialization (``init="official"``) gives logits of ±29
    and an initial loss near 100.

    Args:
        channels: Number of channels C of the maps.
        last_kernel: Kernel size of the last convolution: 3 (AFI-GAN, and the code) or 1 (SRF-GAN's text).
        init: Initialization of the last layer: "small" or "official".
        width_mult: Factor w of the channels of the three hidden maps, wC, 2wC and 2wC; 2 in the papers. 1 has a quarter of the cost.

    Raises:
        ValueError: If ``init`` is unknown.
    """

    def __init__(self, channels: int, last_kernel: int = 3, init: str = "small", width_mult: int = 2):
        super().__init__()
        if init not in ("small", "official"):
            raise ValueError(f"Unknown initialization '{init}' of the discriminator; choose 'small' or 'official'.")
        widths = (channels, width_mult * channels, 2 * width_mult * channels, 2 * width_mult * channels)
        self.body = nn.Sequential(*[layer for pair in pairwise(widths) for layer in _conv_bn_leaky_relu(*pair)])
        self.last = nn.Conv2d(widths[-1], 1, last_kernel, padding=last_kernel // 2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        if init == "small":
            nn.init.normal_(self.last.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` → logits ``[B, 1, H, W]``; above 0 means "from the high resolution" (real).

        Raises:
            ValueError: In training, for a single cell: batch norm needs at least two values per channel.
        """
        if self.training and x.numel() == x.shape[1]:
            raise ValueError(
                f"The input of the discriminator has a single cell, {tuple(x.shape)}; its batch norm needs at least two. "
                "Train with at least two images per step, with larger images, or without the coarsest level (adversarial.levels)."
            )
        return self.last(self.body(x))


def _conv_bn_leaky_relu(channels: int, width: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.LeakyReLU(0.2, inplace=True)
