"""Every loss of the five papers, with its equation. Functions of tensors that return a scalar tensor.

Losses over a pyramid are *sums over levels of per-level means*: dividing by the number of levels would change the meaning of λ.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.features import Features

UNIFORM_WEIGHTS: Mapping[str, Tensor] = MappingProxyType({})
"""No windows: every cell of every map counts alike."""


def pyramid_l1(student: Features, teacher: Features) -> Tensor:
    """Σ over levels of the mean ``|student - teacher|`` (SRF-GAN Eq. 2, AFI-GAN Eqs. 2 and 3: the L1 terms).

    Both are level → ``[B, C, H, W]`` with the same levels and sizes (see :func:`featlift.features.crop_to_match`).
    """
    return _sum([nnf.l1_loss(student[level], teacher[level]) for level in student])


def discriminator_loss_from_maps(discriminator: nn.Module, student: Features, teacher: Features) -> Tensor:
    """What the critic descends on: Σ over levels of BCE(D(teacher), 1) + BCE(D(student), 0) (SRF-GAN Eq. 1, AFI-GAN Eq. 1).

    The student is detached: the critic's turn gives the generator nothing. Real and fake maps ``[B, C, H, W]`` go through the critic
    apart, so each has its own batch-norm statistics.
    """
    return discriminator_loss(
        discriminator_logits(discriminator, student, detach=True),
        discriminator_logits(discriminator, teacher, detach=True),
    )


def generator_adversarial_loss(
    discriminator: nn.Module, student: Features, cell_weights: Mapping[str, Tensor] = UNIFORM_WEIGHTS
) -> Tensor:
    """What the generator descends on: Σ over levels of BCE(D(student), 1), i.e. -log D (AFI-GAN Eq. 2, the adversarial term).

    The path through the critic stays open (the published code cuts it, which turns the term into a constant). With ``cell_weights``, the maps
    are windows of maps, and these say what their cells count (`featlift.distillation.patch_sampling`).
    """
    judged = discriminator_logits(discriminator, student)
    return _sum([_bce_with_logits(logits, 1.0, cell_weights.get(level)) for level, logits in judged.items()])


def discriminator_logits(discriminator: nn.Module, features: Features, detach: bool = False) -> Features:
    """The critic's logits of each level: ``[B, C, H, W]`` → ``[B, 1, H, W]``."""
    return {level: discriminator(x.detach() if detach else x) for level, x in features.items()}


def discriminator_loss(
    fake_logits: Features, real_logits: Features, cell_weights: Mapping[str, Tensor] = UNIFORM_WEIGHTS
) -> Tensor:
    """:func:`discriminator_loss_from_maps` for logits that are already there, level → ``[B, 1, H, W]``; ``cell_weights`` as in :func:`generator_adversarial_loss`."""
    real = [_bce_with_logits(logits, 1.0, cell_weights.get(level)) for level, logits in real_logits.items()]
    fake = [_bce_with_logits(logits, 0.0, cell_weights.get(level)) for level, logits in fake_logits.items()]
    return _sum(real + fake)


def discriminator_accuracy(fake_logits: Features, real_logits: Features) -> dict[str, Tensor]:
    """Share of cells that the critic's logits (level → ``[B, 1, H, W]``) judge rightly, for real (teacher) and fake (student) maps."""
    with torch.no_grad():
        return {
            "accuracy_real": _fraction_correct(real_logits, True),
            "accuracy_fake": _fraction_correct(fake_logits, False),
        }


def _fraction_correct(logits: Features, real: bool) -> Tensor:
    cells = torch.cat([x.detach().flatten() for x in logits.values()])
    return ((cells > 0) == real).float().mean()


def _bce_with_logits(logits: Tensor, label: float, cell_weights: Tensor | None = None) -> Tensor:
    """The mean over all cells; with ``cell_weights [N, 1, h, w]``, their sum over the N windows of each of the B pictures, and its mean."""
    if cell_weights is None:
        return nnf.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))
    each = nnf.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label), reduction="none")
    pictures = len(logits) // len(cell_weights)
    return (each.unflatten(0, (-1, pictures)) * cell_weights[:, None]).sum() / pictures


def _sum(terms: list[Tensor]) -> Tensor:
    return torch.stack(terms).sum()


def pixel_l1(student: Tensor, teacher: Tensor) -> Tensor:
    """FDSR, Eq. 1 with p = 1: the mean of ``|student - teacher|`` over all values of pictures ``[B, 3, H, W]``, in float32."""
    return (student.float() - teacher.float()).abs().mean()


def feature_mse(student: Features, teacher: Features, power: int = 2, scale_free: bool = False) -> Tensor:
    """FDSR, Eq. 2: how far the features of two pictures are apart, the mean over the pictures, summed over the levels of ``teacher``.

    Args:
        student: maps ``[B, C, H, W]``; at least the levels of ``teacher``.
        teacher: the maps to reach.
        power: 2 for the mean of squares over each picture's elements, as the text says; 1 for its root, as the printed norm is.
        scale_free: divide by the same quantity of ``teacher`` alone, so that α : β means the same for every trunk.

    Element means, not sums: with sums β could not matter beside α. Always in float32.

    Raises:
        ValueError: if ``power`` is neither 1 nor 2, or a level is missing.
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
    apart = _mean_square(student - teacher, power)
    return (apart / _mean_square(teacher, power).clamp(min=1e-12) if scale_free else apart).mean()


def _mean_square(x: Tensor, power: int) -> Tensor:
    """``[B, C, H, W]`` → ``[B]``; the root has a small floor, for its slope at zero is infinite."""
    square = x.square().flatten(1).mean(dim=1)
    return square if power == 2 else (square + 1e-12).sqrt()


# ------------------------------------------------------------ FSR-GAN, Sec. 3.2: scores [B] of descriptors [B, D]


def gan_generator_loss(fake: Tensor) -> Tensor:
    """Eq. (4): mean of log(1 − D(G)). (The paper prints 1 − log D; the method it cites has log(1 − D).)"""
    return -nnf.softplus(fake).mean()


def gan_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Eq. (5), with the same correction: −mean log D(real) − mean log(1 − D(G))."""
    return nnf.softplus(-real).mean() + nnf.softplus(fake).mean()


def wasserstein_generator_loss(fake: Tensor) -> Tensor:
    """Eq. (6): −mean D(G)."""
    return -fake.mean()


def wasserstein_critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Eq. (7): mean D(G) − mean D(real)."""
    return fake.mean() - real.mean()


def focal_distance(generated: Tensor, target: Tensor, r: float = 2.0) -> Tensor:
    """The second term of Eq. (9): the mean over the batch of ‖lifted − target‖₂ʳ, descriptors ``[B, D]``.

    The power is taken of each sample's own distance, *before* the mean: ``r = 1`` (Eq. 8) pulls every sample with the
    same force, a larger ``r`` pulls harder on those that are still far away. ``r = 2`` is the squared distance. A
    distance of zero has gradient zero.

    Raises:
        ValueError: if ``r`` is under 1: its gradient would grow without bound towards the solution.
    """
    if r < 1:
        raise ValueError(f"The focal exponent is {r}; it has to be at least 1 (the paper's is 2).")
    squared = (generated - target).square().sum(dim=1)
    return squared.clamp(min=torch.finfo(squared.dtype).tiny).pow(r / 2).mean()


def relative_distance(
    generated: Tensor, low: Tensor, target: Tensor, r: float = 2.0, min_distance: float = 0.1
) -> Tensor:
    """:func:`focal_distance` of errors relative to what was lost: the mean of (‖lifted − target‖₂ / √(‖low − target‖₂² + ``min_distance``²))ʳ.

    Not in the paper, in whose loss the worst queries weigh most: a generator that learns from it moves the better ones by more than
    they had lost. Descriptors ``[B, D]``; ``low`` are those before lifting, and what lost less than ``min_distance`` counts as if it had lost
    that much.

    Raises:
        ValueError: if ``r`` is under 1.
    """
    lost = ((low - target).square().sum(dim=1, keepdim=True) + min_distance**2).sqrt()
    return focal_distance(generated / lost, target / lost, r)


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """Mean of (‖∇D‖₂ − 1)² at random points between ``real`` and ``fake`` ``[B, D]`` (Gulrajani et al., NeurIPS 2017,
    Eq. 3).
    """
    share = torch.rand(len(real), 1, device=real.device, dtype=real.dtype)
    between = (share * real.detach() + (1 - share) * fake.detach()).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (slope.norm(dim=1) - 1).square().mean()


def clip_weights(critic: nn.Module, limit: float = 0.01) -> None:
    """Every parameter of ``critic`` cut to −limit…limit, in place (Arjovsky et al., 2017, Algorithm 1)."""
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.clamp_(-limit, limit)


def boxes_to_mask(boxes: Sequence[Tensor], stride: int, size: tuple[int, int]) -> Tensor:
    """The cells that any box touches, as 1 in ``[B, 1, *size]``, else 0 (EFPN, Sec. III-C: the positive pixels).

    ``boxes`` has ``[N, 4]`` xyxy for each picture, in pixels of the picture whose map has ``stride``. Left and top edges are rounded down,
    right and bottom edges up; what reaches out of the map is cut; overlapping boxes count once.
    """
    height, width = size
    mask = torch.zeros(len(boxes), 1, height, width, device=boxes[0].device)
    for one, picture in zip(mask, boxes, strict=True):
        starts, ends = (picture[:, :2] / stride).floor().clamp(min=0), (picture[:, 2:] / stride).ceil().clamp(min=0)
        for (left, top), (right, bottom) in zip(starts.int().tolist(), ends.int().tolist(), strict=True):
            one[:, top:bottom, left:right] = 1
    return mask


def foreground_l1(student: Features, teacher: Features, masks: Features) -> Tensor:
    """Σ over levels of the mean ``|student - teacher|`` over cells of the mask (EFPN, Eq. 7: the positive-patch term), in float32.

    Both are level → ``[B, C, H, W]``, ``masks`` level → ``[B, 1, H, W]`` of 0 and 1. A level without such cells counts 0. Added to
    :func:`pyramid_l1` (Eq. 6, the global term) it makes the foreground-background-balanced loss (Eq. 8): a cell of the mask then counts
    ``1 / all + λ / positive``. The printed Eq. 7 divides by cells alone; the release also by channels, which alone fits λ = 1.
    """
    return _sum([_masked_l1(student[level], teacher[level], mask) for level, mask in masks.items()])


def _masked_l1(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    apart = (student.float() - teacher.float()).abs().mean(dim=1, keepdim=True)
    return (apart * mask).sum() / mask.sum().clamp(min=1)


def box_head_losses(logits: Tensor, deltas: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """A box head's losses of each RoI: cross entropy ``[N]``, and smooth L1 (β = 1/9) of the box, summed over its sides ``[N]``.

    ``logits [N, K+1]``, ``deltas [N, 4(K+1)]``, ``labels [N]`` in 0 … K, ``targets [N, 4]``: the encoded boxes. Background has no box to
    learn. Their sums over N, divided by N, are torchvision's (Fast R-CNN, Eq. 1).
    """
    own = deltas.unflatten(1, (-1, 4))[torch.arange(len(labels), device=labels.device), labels]
    box = nnf.smooth_l1_loss(own, targets, beta=1 / 9, reduction="none").sum(dim=1)
    return nnf.cross_entropy(logits, labels, reduction="none"), box * (labels > 0)


def ohem_select(
    classification_loss: Tensor, box_loss: Tensor, labels: Tensor, num_rois: int, positive_fraction: float = 0.25
) -> Tensor:
    """Online hard example mining (Shrivastava et al., CVPR 2016; EFPN, Sec. IV): which RoIs to learn from, as indices.

    Up to ``positive · count`` objects with the largest sum of both losses, and up to ``(1 - positive) · count`` of the background with the
    largest classification loss; where there are fewer, all of them. Losses and labels are ``[N]``.
    """
    objects, background = (labels > 0).nonzero().flatten(), (labels == 0).nonzero().flatten()
    wanted = round(num_rois * positive_fraction)
    hard_objects = _largest_indices((classification_loss + box_loss)[objects], wanted)
    return torch.cat(
        (objects[hard_objects], background[_largest_indices(classification_loss[background], num_rois - wanted)])
    )


def _largest_indices(values: Tensor, count: int) -> Tensor:
    return values.detach().topk(min(count, len(values))).indices
