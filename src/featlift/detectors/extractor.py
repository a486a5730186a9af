"""The papers' feature extractor F: a backbone and a pyramid. It is also exactly what torchvision's detectors call a backbone."""

from torch import Tensor, nn

from featlift.checkpoints.init_args import store_init_args
from featlift.features import Features


@store_init_args()
class Extractor(nn.Module):
    """A picture in, the maps of a pyramid out.

    Args:
        backbone: picture ``[B, 3, H, W]`` in 0…1 → ``{c2 … c5}``; has ``mean`` ``[1, 3, 1, 1]``, the color that pads pictures.
        pyramid: ``{c2 … c5}`` → ``{p2 … }``; has ``levels`` (names, fine → coarse), ``out_channels``, and may have ``size_divisible``:
            sides that are multiples of it (32 if it says nothing) make every level exactly twice the next.
    """

    def __init__(self, backbone: nn.Module, pyramid: nn.Module):
        super().__init__()
        self.backbone = backbone
        self.pyramid = pyramid
        self.levels: tuple[str, ...] = tuple(pyramid.levels)  # type: ignore[arg-type]
        self.out_channels: int = pyramid.out_channels  # type: ignore[assignment]
        self.size_divisible: int = getattr(pyramid, "divisible", 32)

    @property
    def mean(self) -> Tensor:
        """The color ``[1, 3, 1, 1]`` in 0…1 that becomes zero inside the backbone."""
        return self.backbone.mean  # type: ignore[return-value]

    def forward(self, image: Tensor) -> Features:
        """``[B, 3, H, W]`` in 0…1 → ``{"p2": [B, C, H/4, W/4], …}``. H and W are best multiples of ``divisible``; others are rounded up."""
        return self.pyramid(self.backbone(image))


def get_extractor(detector: nn.Module) -> Extractor:
    """The extractor that ``detector`` stands on.

    Raises:
        TypeError: if its backbone is none of ours; :func:`featlift.upgrade` works on such detectors.
    """
    if not isinstance(detector.backbone, Extractor):
        raise TypeError(
            f"{type(detector).__name__} stands on a {type(detector.backbone).__name__}, not on a FeatLift Extractor."
        )
    return detector.backbone


def get_interpolators(detector: nn.Module) -> nn.ModuleList:
    """What doubles the maps in the pyramid of ``detector``, coarse → fine, or one for all steps. Raises TypeError as above."""
    found = get_extractor(detector).pyramid.interpolators
    assert isinstance(found, nn.ModuleList)
    return found
