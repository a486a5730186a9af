"""Grad-CAM of a detector's pyramid levels (Selvaraju et al., ICCV 2017): which cells the detections' scores depend on.

AFI-GAN's Figs. 2 and 7 show such maps. Their target is not stated; here it is the sum of the scores of all detections of the image.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from featlift.detectors.from_features import detections_from_features
from featlift.features import Features


def grad_cam(detector: nn.Module, image: Tensor) -> Features:
    """Compute ``relu(Σ_c mean(∂ scores / ∂ x_c) · x_c)`` of every pyramid level, zeros where no detection depends on it.

    Args:
        detector: Detector with torchvision's interface in evaluation mode.
        image: ``[3, H, W]`` in 0…1.

    Returns:
        Level → ``[1, 1, H, W]`` of the level, ≥ 0.

    Raises:
        ValueError: If the detector is in training mode.
    """
    parts: Any = detector
    batch, _ = parts.transform([image])
    with torch.no_grad():
        features: Features = parts.backbone(batch.tensors)
    with torch.enable_grad(), _FiniteRoots():
        maps = {level: x.clone().requires_grad_() for level, x in features.items()}
        scores = detections_from_features(detector, batch, maps)[0]["scores"].sum()
    inputs = list(maps.values())
    gradients = torch.autograd.grad(scores, inputs, allow_unused=True) if scores.requires_grad else [None] * len(inputs)
    return {level: _weighted_map(x.detach(), g) for (level, x), g in zip(maps.items(), gradients, strict=True)}


class _FiniteRoots(TorchFunctionMode):
    """``torch.sqrt`` with gradient 0 at 0, instead of infinity: FCOS's scores are square roots, and 0 for the unused background class."""

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.sqrt and args[0].is_floating_point():
            args = (args[0].clamp(min=torch.finfo(args[0].dtype).tiny), *args[1:])
        return func(*args, **(kwargs or {}))


def _weighted_map(x: Tensor, gradient: Tensor | None) -> Tensor:
    if gradient is None:
        return torch.zeros_like(x[:, :1])
    return (gradient.mean(dim=(2, 3), keepdim=True) * x).sum(dim=1, keepdim=True).relu()
