"""Every loss of the five papers, with its equation. Functions of tensors that return a scalar tensor.

Losses over a pyramid are *sums over levels of per-level means*: dividing by the number of levels would change the meaning of λ.
"""

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.features import Features


def content(student: Features, teacher: Features) -> Tensor:
    """Σ over levels of the mean ``|student - teacher|`` (SRF-GAN Eq. 2, AFI-GAN Eqs. 2 and 3: the L1 terms).

    Both are level → ``[B, C, H, W]`` with the same levels and sizes (see :func:`featlift.features.match`).
    """
    return _sum([nnf.l1_loss(student[level], teacher[level]) for level in student])


def tell_apart(critic: nn.Module, student: Features, teacher: Features) -> Tensor:
    """What the critic descends on: Σ over levels of BCE(D(teacher), 1) + BCE(D(student), 0) (SRF-GAN Eq. 1, AFI-GAN Eq. 1).

    The student is detached: the critic's turn gives the generator nothing. Real and fake maps ``[B, C, H, W]`` go through the critic
    apart, so each has its own batch-norm statistics.
    """
    return tell_apart_logits(judge(critic, student, detached=True), judge(critic, teacher, detached=True))


def fool(critic: nn.Module, student: Features) -> Tensor:
    """What the generator descends on: Σ over levels of BCE(D(student), 1), i.e. -log D (AFI-GAN Eq. 2, the adversarial term).

    The path through the critic stays open (the published code cuts it, which turns the term into a constant).
    """
    return _sum([_cross_entropy(logits, 1.0) for logits in judge(critic, student).values()])


def judge(critic: nn.Module, features: Features, detached: bool = False) -> Features:
    """The critic's logits of each level: ``[B, C, H, W]`` → ``[B, 1, H, W]``."""
    return {level: critic(x.detach() if detached else x) for level, x in features.items()}


def tell_apart_logits(student: Features, teacher: Features) -> Tensor:
    """:func:`tell_apart` for logits that are already there, level → ``[B, 1, H, W]``."""
    real = [_cross_entropy(logits, 1.0) for logits in teacher.values()]
    fake = [_cross_entropy(logits, 0.0) for logits in student.values()]
    return _sum(real + fake)


def critic_accuracy(student: Features, teacher: Features) -> dict[str, Tensor]:
    """Share of cells that the critic's logits (level → ``[B, 1, H, W]``) judge rightly, for real (teacher) and fake (student) maps."""
    with torch.no_grad():
        return {"accuracy_real": _share(teacher, True), "accuracy_fake": _share(student, False)}


def _share(logits: Features, real: bool) -> Tensor:
    cells = torch.cat([x.detach().flatten() for x in logits.values()])
    return ((cells > 0) == real).float().mean()


def _cross_entropy(logits: Tensor, label: float) -> Tensor:
    return nnf.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


def _sum(terms: list[Tensor]) -> Tensor:
    return torch.stack(terms).sum()
