"""Class-agnostic masks: one mask per RoI for all classes (AFI-GAN, Sec. 4.2; its published code predicts one mask per class)."""

from typing import Any

from torch import Tensor, nn
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor


class SharedMaskPredictor(nn.Module):
    """Mask predictor with a single output, repeated for every class as torchvision's loss and inference read it.

    Args:
        channels: Channels C of the mask head.
        num_outputs: Number of classes with the background.
    """

    def __init__(self, channels: int, num_outputs: int):
        super().__init__()
        self.predictor = MaskRCNNPredictor(channels, channels, 1)
        self.num_outputs = num_outputs

    def forward(self, x: Tensor) -> Tensor:
        """``[R, C, 14, 14]`` → the same logits for every class, ``[R, num_outputs, 28, 28]``."""
        return self.predictor(x).expand(-1, self.num_outputs, -1, -1)


def share_masks(detector: nn.Module) -> None:
    """Replace the mask predictor of a Mask R-CNN or Cascade Mask R-CNN by a :class:`SharedMaskPredictor`, in place.

    Raises:
        TypeError: If the detector has no mask predictor of this kind.
    """
    heads: Any = getattr(detector, "roi_heads", None)
    predictor = getattr(heads, "mask_predictor", None)
    if not isinstance(predictor, MaskRCNNPredictor):
        raise TypeError(f"{type(detector).__name__} has no mask predictor per class; leave out class_agnostic_masks.")
    layers: Any = predictor
    heads.mask_predictor = SharedMaskPredictor(layers.conv5_mask.in_channels, layers.mask_fcn_logits.out_channels)
