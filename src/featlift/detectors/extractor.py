"""Feature extractor F of the papers: a backbone and a pyramid; torchvision's detectors call it the backbone."""

from torch import Tensor, nn

from featlift.checkpoints.init_args import store_init_args
from featlift.features import Features


@store_init_args()
class Extractor(nn.Module):
    """Backbone and pyramid: images → pyramid features.

    Args:
        backbone: Images ``[B, 3, H, W]`` in 0…1 → ``{c2 … c5}``; has ``mean`` ``[1, 3, 1, 1]``, the padding color of images.
        pyramid: ``{c2 … c5}`` → ``{p2 … }``; has ``levels`` (names, fine → coarse), ``out_channels``, and optionally ``size_divisible``
            (default 32): for image sides that are multiples of it, every level has exactly twice the size of the next.
    """

    def __init__(self, backbone: nn.Module, pyramid: nn.Module):
        super().__init__()
        self.backbone = backbone
        self.pyramid = pyramid
        self.levels: tuple[str, ...] = tuple(pyramid.levels)  # type: ignore[arg-type]
        self.out_channels: int = pyramid.out_channels  # type: ignore[assignment]
        self.size_divisible: int = getattr(pyramid, "size_divisible", 32)

    @property
    def mean(self) -> Tensor:
        """Color ``[1, 3, 1, 1]`` in 0…1 that the backbone maps to zero."""
        return self.backbone.mean  # type: ignore[return-value]

    def forward(self, image: Tensor) -> Features:
        """``[B, 3, H, W]`` in 0…1 → ``{"p2": [B, C, H/4, W/4], …}``; rounded up if H, W are no multiples of ``size_divisible``."""
        return self.pyramid(self.backbone(image))


def get_extractor(detector: nn.Module) -> Extractor:
    """Return the extractor of ``detector``.

    Raises:
        TypeError: If its backbone is not an :class:`Extractor`; :func:`featlift.upgrade` supports such detectors.
    """
    if not isinstance(detector.backbone, Extractor):
        raise TypeError(
            f"The backbone of this {type(detector).__name__} is a {type(detector.backbone).__name__}, not a FeatLift "
            "Extractor. Use featlift.upgrade for such detectors."
        )
    return detector.backbone


def get_interpolators(detector: nn.Module) -> nn.ModuleList:
    """Return the interpolators of the pyramid of ``detector``, coarse → fine, or one shared by all steps.

    Raises:
        TypeError: If its backbone is not an :class:`Extractor`.
    """
    interpolators = get_extractor(detector).pyramid.interpolators
    assert isinstance(interpolators, nn.ModuleList)
    return interpolators
