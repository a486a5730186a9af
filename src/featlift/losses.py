"""Losses of the five papers, with their equations. Functions of tensors that return a scalar tensor.

Losses over a pyramid are sums over levels of per-level means: division by the number of levels would change the meaning of λ.
"""

from collections.abc import Mapping
from types import MappingProxyType

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.features import Features

UNIFORM_WEIGHTS: Mapping[str, Tensor] = MappingProxyType({})
"""No patches: all cells of a map have equal weight."""


def pyramid_l1(student: Features, teacher: Features) -> Tensor:
    """Sum over levels of the mean ``|student - teacher|`` (L1 terms of SRF-GAN, Eq. (2), and AFI-GAN, Eqs. (2) and (3)).

    Both are level → ``[B, C, H, W]`` with equal levels and sizes (see :func:`featlift.features.crop_to_match`).
    """
    return _sum([nnf.l1_loss(student[level], teacher[level]) for level in student])


def generator_adversarial_loss(
    discriminator: nn.Module, student: Features, cell_weights: Mapping[str, Tensor] = UNIFORM_WEIGHTS
) -> Tensor:
    """Adversarial generator loss: sum over levels of BCE(D(student), 1), i.e. -log D (AFI-GAN, Eq. (2), adversarial term).

    Gradients flow through the discriminator (the published code detaches it, which makes the term constant). If the maps
    ``[B, C, H, W]`` are patches, ``cell_weights`` weights their cells (:mod:`featlift.distillation.patch_sampling`).
    """
    fake_logits = discriminator_logits(discriminator, student)
    return _sum([_bce_with_logits(logits, 1.0, cell_weights.get(level)) for level, logits in fake_logits.items()])


def discriminator_logits(discriminator: nn.Module, features: Features, detach: bool = False) -> Features:
    """Return the discriminator's logits of each level: ``[B, C, H, W]`` → ``[B, 1, H, W]``."""
    return {level: discriminator(x.detach() if detach else x) for level, x in features.items()}


def discriminator_loss(
    fake_logits: Features, real_logits: Features, cell_weights: Mapping[str, Tensor] = UNIFORM_WEIGHTS
) -> Tensor:
    """Discriminator loss: sum over levels of BCE(D(teacher), 1) + BCE(D(student), 0) (SRF-GAN, Eq. (1); AFI-GAN, Eq. (1)).

    Both are level → logits ``[B, 1, H, W]`` of D. Real and fake maps pass D separately, each with their own batch-norm statistics.
    ``cell_weights`` as in :func:`generator_adversarial_loss`.
    """
    real = [_bce_with_logits(logits, 1.0, cell_weights.get(level)) for level, logits in real_logits.items()]
    fake = [_bce_with_logits(logits, 0.0, cell_weights.get(level)) for level, logits in fake_logits.items()]
    return _sum(real + fake)


def discriminator_accuracy(fake_logits: Features, real_logits: Features) -> dict[str, Tensor]:
    """Return the fraction of cells with correct logits (level → ``[B, 1, H, W]``) for real (teacher) and fake (student) maps."""
    with torch.no_grad():
        return {
            "accuracy_real": _fraction_correct(real_logits, True),
            "accuracy_fake": _fraction_correct(fake_logits, False),
        }


def _fraction_correct(logits: Features, real: bool) -> Tensor:
    cells = torch.cat([x.detach().flatten() for x in logits.values()])
    return ((cells > 0) == real).float().mean()


def _bce_with_logits(logits: Tensor, label: float, cell_weights: Tensor | None = None) -> Tensor:
    """Mean over all cells; with ``cell_weights [N, 1, h, w]``, the weighted sum over the N patches, averaged over the B images."""
    if cell_weights is None:
        return nnf.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))
    losses = nnf.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label), reduction="none")
    batch_size = len(logits) // len(cell_weights)
    return (losses.unflatten(0, (-1, batch_size)) * cell_weights[:, None]).sum() / batch_size


def _sum(terms: list[Tensor]) -> Tensor:
    return torch.stack(terms).sum()


def pixel_l1(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean ``|student - teacher|`` over all values of images ``[B, 3, H, W]``, in float32 (FDSR, Eq. (1) with p = 1)."""
    return (student.float() - teacher.float()).abs().mean()


def feature_mse(student: Features, teacher: Features, power: int = 2, scale_free: bool = False) -> Tensor:
    """Perceptual feature loss: mean over the images of the squared error, summed over the levels of ``teacher`` (FDSR, Eq. (2)).

    Element means are used instead of sums, with which β would be negligible compared to α. Always in float32.

    Args:
        student: Maps ``[B, C, H, W]`` with at least the levels of ``teacher``.
        teacher: Target maps.
        power: 2 for the mean square over the elements of an image, as in the text; 1 for its root, as in the printed norm.
        scale_free: Divide by the same quantity of ``teacher`` alone, so that α : β has the same meaning for every network.

    Raises:
        ValueError: If ``power`` is neither 1 nor 2, or a level is missing.
    """
    if power not in (1, 2):
        raise ValueError(f"power is {power}; choose 2 (mean square) or 1 (its root).")
    missing = [name for name in teacher if name not in student]
    if missing or not teacher:
        raise ValueError(
            f"The student has {sorted(student)}, the teacher {sorted(teacher)}; the student needs every level of the teacher."
        )
    return torch.stack(
        [_feature_distance(student[name].float(), x.float(), power, scale_free) for name, x in teacher.items()]
    ).sum()


def _feature_distance(student: Tensor, teacher: Tensor, power: int, scale_free: bool) -> Tensor:
    error = _mean_square(student - teacher, power)
    return (error / _mean_square(teacher, power).clamp(min=1e-12) if scale_free else error).mean()


def _mean_square(x: Tensor, power: int) -> Tensor:
    """``[B, C, H, W]`` → ``[B]``; the root has a small offset, because its slope at zero is infinite."""
    square = x.square().flatten(1).mean(dim=1)
    return square if power == 2 else (square + 1e-12).sqrt()


def foreground_l1(student: Features, teacher: Features, masks: Features) -> Tensor:
    """Sum over levels of the mean ``|student - teacher|`` over the cells of the mask, in float32 (EFPN, Eq. (7), positive-patch term).

    Both are level → ``[B, C, H, W]``; ``masks`` is level → ``[B, 1, H, W]`` of 0 and 1. A level with an empty mask contributes 0. Together
    with :func:`pyramid_l1` (Eq. (6), global term) this is the foreground-background-balanced loss (Eq. (8)), in which a cell of the mask
    has the weight ``1 / all + λ / positive``. The printed Eq. (7) divides by the number of cells only; the release also divides by the
    number of channels, which is required for λ = 1.
    """
    return _sum([_masked_l1(student[level], teacher[level], mask) for level, mask in masks.items()])


def _masked_l1(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    error = (student.float() - teacher.float()).abs().mean(dim=1, keepdim=True)
    return (error * mask).sum() / mask.sum().clamp(min=1)
