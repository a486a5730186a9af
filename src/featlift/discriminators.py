"""Critics: they tell what a network made from what it should have made."""

from itertools import pairwise

from torch import Tensor, nn

from featlift.checkpoints.init_args import store_init_args


@store_init_args()
class PatchDiscriminator(nn.Module):
    """The papers' feature patch discriminator D: a logit for every cell of a map (SRF-GAN Sec. 3.3, AFI-GAN Sec. 3.3).

    Four convolutions of stride 1, so each logit judges a 9x9 patch; batch norm after each of the first three. 15,352,321 parameters
    at 256 channels (15,344,129 with SRF-GAN's 1x1 end). The sigmoid is part of the loss.

    The last layer starts at N(0, 0.01²). The published code's Kaiming start gives logits of ±29 and a first loss near 100; ask for it
    with ``init="official"``.

    Args:
        channels: C of the judged maps.
        last_kernel: side of the last convolution: 3 (AFI-GAN, and the code) or 1 (SRF-GAN's text).
        init: "small" (the default) or "official".
        width_mult: w; the three hidden maps have wC, 2wC, 2wC channels. The papers' is 2; 1 has a quarter of the cost.

    Raises:
        ValueError: if ``init`` is neither.
    """

    def __init__(self, channels: int, last_kernel: int = 3, init: str = "small", width_mult: int = 2):
        super().__init__()
        if init not in ("small", "official"):
            raise ValueError(f"Unknown initialization '{init}' of the critic; choose 'small' or 'official'.")
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
        """``[B, C, H, W]`` → logits ``[B, 1, H, W]``; above 0 means "taken from the high resolution".

        Raises:
            ValueError: in training, for a single cell: batch norm has nothing to compare it with.
        """
        if self.training and x.numel() == x.shape[1]:
            raise ValueError(
                f"The critic was shown a single cell, {tuple(x.shape)}, and its batch norm needs two. "
                "Train with at least two pictures a step, or larger ones, or leave the coarsest level out (adversary.levels)."
            )
        return self.last(self.body(x))


def _conv_bn_leaky_relu(channels: int, width: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.LeakyReLU(0.2, inplace=True)
