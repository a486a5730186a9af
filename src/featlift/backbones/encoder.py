"""timm networks as image encoders: the last feature map before global pooling, for image descriptors."""

from pathlib import Path

import torch
from torch import Tensor, nn

from featlift.backbones.timm_backbone import MeanStd, TimmNetwork, create_timm_model
from featlift.backbones.weight_files import load_weights
from featlift.checkpoints.init_args import store_init_args


@store_init_args(pretrained=False)
class ImageEncoder(nn.Module):
    """timm network that returns its last feature map before global pooling, for image descriptors.

    Args:
        name: Name of the timm network, convolutional or transformer.
        pretrained: True (downloads if not cached), False, or the path of a local file as for :class:`Backbone`.
        mean_std: Mean and standard deviation of the image channels in 0…1; the default is that of the timm weights.

    Raises:
        ValueError: If timm has no such network or the weights do not fit.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, pretrained: bool | str | Path = False, mean_std: MeanStd | None = None):
        super().__init__()
        remedy = "Give a file: --embedder.weights FILE."
        self.network: TimmNetwork = create_timm_model(name, pretrained is True, remedy, num_classes=0)
        self.channels: int = self.network.num_features
        if not isinstance(pretrained, bool):
            load_weights(self.network, Path(pretrained))
        mean, std = mean_std or (self.network.pretrained_cfg["mean"], self.network.pretrained_cfg["std"])
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """``[B, 3, H, W]`` in 0…1 → the last map ``[B, C, h, w]``, or the tokens of a transformer ``[B, N, C]``."""
        return self.network.forward_features((image - self.mean) / self.std)


def image_encoder(name: str, pretrained: bool | str | Path = False, mean_std: MeanStd | None = None) -> ImageEncoder:
    """Create an :class:`ImageEncoder`, e.g. ``image_encoder("resnet50", "weights.pth")``."""
    return ImageEncoder(name, pretrained, mean_std)
