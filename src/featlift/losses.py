"""Losses of the five papers, with their equations. Functions of tensors that return a scalar tensor.

Losses over a pyramid are sums over levels of per-level means: division by the number of levels would change the meaning of λ.
"""

from collections.abc import Callable, Mapping, Sequence
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


def discriminator_loss_from_maps(discriminator: nn.Module, student: Features, teacher: Features) -> Tensor:
    """Discriminator loss: sum over levels of BCE(D(teacher), 1) + BCE(D(student), 0) (SRF-GAN, Eq. (1); AFI-GAN, Eq. (1)).

    The maps ``[B, C, H, W]`` are detached, so the generator gets no gradient. Real and fake maps pass the discriminator separately, each
    with their own batch-norm statistics.
    """
    return discriminator_loss(
        discriminator_logits(discriminator, student, detach=True),
        discriminator_logits(discriminator, teacher, detach=True),
    )


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
    """:func:`discriminator_loss_from_maps` for logits ``[B, 1, H, W]``; ``cell_weights`` as in :func:`generator_adversarial_loss`."""
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


# ------------------------------------------------------------ FSR-GAN, Sec. 3.2: scores [B] of descriptors [B, D]


def gan_generator_loss(fake: Tensor) -> Tensor:
    """Generator loss, Eq. (4): mean of log(1 − D(G)). (The paper prints 1 − log D; the cited method has log(1 − D).)"""
    return -nnf.softplus(fake).mean()


def gan_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Discriminator loss, Eq. (5), with the same correction: −mean log D(real) − mean log(1 − D(G))."""
    return nnf.softplus(-real).mean() + nnf.softplus(fake).mean()


def wasserstein_generator_loss(fake: Tensor) -> Tensor:
    """Wasserstein generator loss, Eq. (6): −mean D(G)."""
    return -fake.mean()


def wasserstein_critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Wasserstein critic loss, Eq. (7): mean D(G) − mean D(real)."""
    return fake.mean() - real.mean()


def focal_distance(generated: Tensor, target: Tensor, r: float = 2.0) -> Tensor:
    """Mean over the batch of ‖generated − target‖₂ʳ for descriptors ``[B, D]`` (second term of Eq. (9)).

    The power applies to the distance of each sample, before the mean: with ``r = 1`` (Eq. (8)) all samples have gradients of equal norm;
    a larger ``r`` increases the gradient of distant samples. ``r = 2`` is the squared distance. A distance of zero has gradient zero.

    Raises:
        ValueError: If ``r`` is below 1; the gradient would grow without bound towards the solution.
    """
    if r < 1:
        raise ValueError(f"The focal exponent is {r}; it must be at least 1 (2 in the paper).")
    squared = (generated - target).square().sum(dim=1)
    return squared.clamp(min=torch.finfo(squared.dtype).tiny).pow(r / 2).mean()


def relative_distance(
    generated: Tensor, low: Tensor, target: Tensor, r: float = 2.0, min_distance: float = 0.1
) -> Tensor:
    """Focal distance relative to the initial error: mean of (‖generated − target‖₂ / √(‖low − target‖₂² + ``min_distance``²))ʳ.

    Not in the paper, whose loss is dominated by the worst queries: its generator moves good queries by more than their initial error.
    Descriptors ``[B, D]``; ``low`` are the inputs of the generator, ``min_distance`` is a smooth lower bound of the initial error.

    Raises:
        ValueError: If ``r`` is below 1.
    """
    initial = ((low - target).square().sum(dim=1, keepdim=True) + min_distance**2).sqrt()
    return focal_distance(generated / initial, target / initial, r)


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """Mean of (‖∇D‖₂ − 1)² at random points between ``real`` and ``fake`` ``[B, D]`` (Gulrajani et al., NeurIPS 2017, Eq. (3))."""
    alpha = torch.rand(len(real), 1, device=real.device, dtype=real.dtype)
    interpolated = (alpha * real.detach() + (1 - alpha) * fake.detach()).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(interpolated).sum(), interpolated, create_graph=True)
    return (gradient.norm(dim=1) - 1).square().mean()


def clip_weights(critic: nn.Module, limit: float = 0.01) -> None:
    """Clip all parameters of ``critic`` to −limit…limit in place (Arjovsky et al., 2017, Algorithm 1)."""
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.clamp_(-limit, limit)


def boxes_to_mask(boxes: Sequence[Tensor], stride: int, size: tuple[int, int]) -> Tensor:
    """Return the mask ``[B, 1, *size]`` of the cells that intersect a box (1, else 0): EFPN's positive pixels (Sec. III-C).

    ``boxes`` are ``[N, 4]`` xyxy for each image, in pixels; ``stride`` is that of the map in pixels, ``size`` its (height, width) in cells.
    Left and top edges are rounded down, right and bottom edges up. Boxes are clipped to the map; overlapping boxes count once.
    """
    height, width = size
    mask = torch.zeros(len(boxes), 1, height, width, device=boxes[0].device)
    for image_mask, image_boxes in zip(mask, boxes, strict=True):
        starts = (image_boxes[:, :2] / stride).floor().clamp(min=0)
        ends = (image_boxes[:, 2:] / stride).ceil().clamp(min=0)
        for (left, top), (right, bottom) in zip(starts.int().tolist(), ends.int().tolist(), strict=True):
            image_mask[:, top:bottom, left:right] = 1
    return mask


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


def box_head_losses(logits: Tensor, deltas: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the box head's losses per RoI: cross entropy ``[N]``, and smooth L1 (β = 1/9) of the box, summed over its sides, ``[N]``.

    ``logits [N, K+1]``, ``deltas [N, 4(K+1)]``, ``labels [N]`` in 0 … K, encoded target boxes ``targets [N, 4]``. Background RoIs have no
    box loss. The sums over N, divided by N, are torchvision's losses (Fast R-CNN, Eq. (1)).
    """
    class_deltas = deltas.unflatten(1, (-1, 4))[torch.arange(len(labels), device=labels.device), labels]
    box_loss = nnf.smooth_l1_loss(class_deltas, targets, beta=1 / 9, reduction="none").sum(dim=1)
    return nnf.cross_entropy(logits, labels, reduction="none"), box_loss * (labels > 0)


def ohem_select(
    classification_loss: Tensor, box_loss: Tensor, labels: Tensor, num_rois: int, positive_fraction: float = 0.25
) -> Tensor:
    """Online hard example mining (Shrivastava et al., CVPR 2016; EFPN, Sec. IV): return the indices of the selected RoIs.

    Selects up to ``positive_fraction · num_rois`` objects with the largest sum of both losses, and up to
    ``(1 - positive_fraction) · num_rois`` background RoIs with the largest classification loss. Losses and labels are ``[N]``.
    """
    objects, background = (labels > 0).nonzero().flatten(), (labels == 0).nonzero().flatten()
    num_positive = round(num_rois * positive_fraction)
    hard_objects = _largest_indices((classification_loss + box_loss)[objects], num_positive)
    hard_background = _largest_indices(classification_loss[background], num_rois - num_positive)
    return torch.cat((objects[hard_objects], background[hard_background]))


def _largest_indices(values: Tensor, count: int) -> Tensor:
    return values.detach().topk(min(count, len(values))).indices
