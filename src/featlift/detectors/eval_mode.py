"""Evaluation mode for a while, and detector losses without side effects on the detector."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from featlift.features import Target

MODE_DEPENDENT_LAYERS = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd)
"""Layers that differ between training and evaluation: normalization statistics and dropout."""


def eval_mode_losses(detector: nn.Module, images: Tensor, targets: Sequence[Target]) -> dict[str, Tensor]:
    """Compute the losses of ``detector`` on ``images [B, 3, H, W]`` in 0…1, with normalization and dropout in evaluation mode.

    torchvision's detectors return losses in training mode only, so all layers except :data:`MODE_DEPENDENT_LAYERS` are temporarily in
    training mode. Statistics do not change; gradients reach the images.
    """
    with _restore_training_flags(detector):
        for module in detector.modules():
            module.training = not isinstance(module, MODE_DEPENDENT_LAYERS)
        return detector(list(images), [dict(target) for target in targets])


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Set ``module`` to evaluation mode; on exit, restore the mode of every submodule."""
    with _restore_training_flags(module):
        for submodule in module.modules():
            submodule.training = False
        yield


@contextmanager
def _restore_training_flags(module: nn.Module) -> Iterator[None]:
    modes = {submodule: submodule.training for submodule in module.modules()}
    try:
        yield
    finally:
        for submodule, training in modes.items():
            submodule.training = training
