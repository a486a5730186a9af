"""FDSR's loss (Eqs. (1) to (3)) and the feature extractor that it compares with."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from featlift.detectors.by_name import load_detector_by_name, load_feature_extractor
from featlift.detectors.eval_mode import eval_mode_losses
from featlift.detectors.feature_extraction import FeatureExtractor
from featlift.features import Features, Target
from featlift.losses import feature_mse, pixel_l1
from featlift.papers.fdsr.settings import LossWeights, Settings
from featlift.resolution import frozen_copy
from featlift.training import Run

LossDict = dict[str, Tensor]


@dataclass(frozen=True)
class SuperResolutionLoss:
    """Losses of Eq. (3), with ``feature_extractor`` for the feature loss and ``detector`` for the detection loss; None if the loss is off.

    Attributes:
        weights: Loss weights.
        feature_extractor: F, or None.
        detector: Detector of TDSR's loss, or None.
    """

    weights: LossWeights
    feature_extractor: FeatureExtractor | None
    detector: nn.Module | None

    def extract(self, images: Tensor) -> Features:
        """Return ``images [B, 3, H, W]`` as ``"image"``, and F's feature maps of them."""
        return {
            "image": images,
            **(self.feature_extractor(images) if self.feature_extractor and self.weights.features else {}),
        }

    def losses(self, student: Features, teacher: Features, targets: Sequence[Target]) -> LossDict:
        """Return α · pixels, β · features, and TDSR's γ · detection; losses of weight 0 are omitted."""
        losses: LossDict = {}
        teacher_maps = {name: x for name, x in teacher.items() if name != "image"}
        if self.weights.pixels:
            losses["pixels"] = self.weights.pixels * pixel_l1(student["image"], teacher["image"])
        if teacher_maps:
            losses["features"] = self.weights.features * feature_mse(
                student, teacher_maps, self.weights.power, self.weights.scale_free
            )
        if self.weights.detection and self.detector is not None:
            detection_losses = eval_mode_losses(self.detector, student["image"], targets)
            losses["detection"] = self.weights.detection * torch.stack(list(detection_losses.values())).sum()
        return losses


def build_loss(settings: Settings, run: Run) -> SuperResolutionLoss:
    """Load frozen networks to the run's device; networks whose loss weight is 0 are not loaded."""
    weights, config = settings.loss_weights, settings.feature_extractor
    detector = frozen_copy(load_detector_by_name(config.network, "DEFAULT")) if weights.detection else None
    F = frozen_copy(load_feature_extractor(config.network, config.layers)) if weights.features else None
    for module in (detector, F):
        if module is not None:
            run.to_device(module)
    return SuperResolutionLoss(weights, F, detector)
