"""The extended level of FeatLift's RetinaNet and FCOS: p3 of the enlarged image, from any convolutional timm backbone and an FPN."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection import FCOS, RetinaNet

from featlift.backbones.stages import forward_after, forward_until, has_separate_stages
from featlift.detectors.extractor import Extractor
from featlift.features import spatial_size
from featlift.pyramids import FPN
from featlift.upgrading.extended_dense import DenseFamily
from featlift.upgrading.extended_family import PlainMapNames

LEVELS = ("c3", "c4", "c5")


class ExtractorDenseFamily(DenseFamily):
    """FeatLift's RetinaNet and FCOS with an FPN; implements :class:`~featlift.upgrading.extended_family.LevelFamily`."""

    name = "FeatLift's RetinaNet and FCOS with an FPN on a convolutional backbone"

    def matches(self, model: nn.Module) -> bool:
        """Whether ``model`` is FeatLift's RetinaNet or FCOS with an FPN on c3, c4 and c5 of a network with separate stages."""
        extractor = getattr(model, "backbone", None)
        if not isinstance(model, (FCOS, RetinaNet)) or not isinstance(extractor, Extractor):
            return False
        backbone: Any = extractor.backbone
        is_fpn = type(extractor.pyramid) is FPN and tuple(extractor.pyramid.in_channels) == LEVELS
        return is_fpn and has_separate_stages(backbone.network)

    def map_names(self, model: nn.Module) -> PlainMapNames:
        """The images, the lateral map of c5, and at stride 16 the lateral map of c4 and p4."""
        pyramid = "backbone.pyramid"
        return PlainMapNames(
            "backbone", f"{pyramid}.inner_blocks.2", (f"{pyramid}.inner_blocks.1", f"{pyramid}.layer_blocks.1")
        )

    def early_maps(self, model: Any, image: Tensor) -> list[Tensor]:
        """Lateral map of c3, c4, and lateral map of c4."""
        laterals = model.backbone.pyramid.inner_blocks
        maps = forward_until(model.backbone.backbone, image, "c4")
        return [laterals[0](maps["c3"]), maps["c4"], laterals[1](maps["c4"])]

    def coarse_map(self, model: Any, early: Sequence[Tensor]) -> Tensor:
        """Lateral map of c5."""
        c5 = forward_after(model.backbone.backbone, early[1], "c4")["c5"]
        return model.backbone.pyramid.inner_blocks[2](c5)

    def finest_maps(self, model: Any, early: Sequence[Tensor], coarse: Tensor) -> list[Tensor]:
        """p3; the pyramid's own interpolators upsample."""
        pyramid, x = model.backbone.pyramid, coarse
        for step, lateral in enumerate((early[2], early[0])):
            x = lateral + pyramid.upsample(step, x, spatial_size(lateral))
        return [pyramid.layer_blocks[0](x)]

    def to_input(self, model: Any, images: Tensor) -> Tensor:
        """RGB in 0…1: the backbone normalizes."""
        return images
