"""FDSR's losses (Sec. 2); to be folded into ``losses.py``."""

import torch
from torch import Tensor

from featlift.features import Features


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
        [_apart(student[name].float(), x.float(), power, scale_free) for name, x in teacher.items()]
    ).sum()


def _apart(student: Tensor, teacher: Tensor, power: int, scale_free: bool) -> Tensor:
    apart = _mean_square(student - teacher, power)
    return (apart / _mean_square(teacher, power).clamp(min=1e-12) if scale_free else apart).mean()


def _mean_square(x: Tensor, power: int) -> Tensor:
    """``[B, C, H, W]`` → ``[B]``; the root has a small floor, for its slope at zero is infinite."""
    square = x.square().flatten(1).mean(dim=1)
    return square if power == 2 else (square + 1e-12).sqrt()
