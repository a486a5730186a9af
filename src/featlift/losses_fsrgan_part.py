"""Losses of FSR-GAN (Tan, Yan and Bare, CVPR 2018, Sec. 3.2). Scores ``[B]`` are a critic's raw output, never
probabilities.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn


def gan_generator(fake: Tensor) -> Tensor:
    """Eq. (4): mean of log(1 − D(G)). (The paper prints 1 − log D; the method it cites has log(1 − D).)"""
    return -nnf.softplus(fake).mean()


def gan_critic(real: Tensor, fake: Tensor) -> Tensor:
    """Eq. (5), with the same correction: −mean log D(real) − mean log(1 − D(G))."""
    return nnf.softplus(-real).mean() + nnf.softplus(fake).mean()


def wasserstein_generator(fake: Tensor) -> Tensor:
    """Eq. (6): −mean D(G)."""
    return -fake.mean()


def wasserstein_critic(real: Tensor, fake: Tensor) -> Tensor:
    """Eq. (7): mean D(G) − mean D(real)."""
    return fake.mean() - real.mean()


def focal_distance(lifted: Tensor, target: Tensor, r: float = 2.0) -> Tensor:
    """The second term of Eq. (9): the mean over the batch of ‖lifted − target‖₂ʳ, descriptors ``[B, D]``.

    The power is taken of each sample's own distance, *before* the mean: ``r = 1`` (Eq. 8) pulls every sample with the
    same force, a larger ``r`` pulls harder on those that are still far away. ``r = 2`` is the squared distance. A
    distance of zero has gradient zero.

    Raises:
        ValueError: if ``r`` is under 1: its gradient would grow without bound towards the solution.
    """
    if r < 1:
        raise ValueError(f"The focal exponent is {r}; it has to be at least 1 (the paper's is 2).")
    squared = (lifted - target).square().sum(dim=1)
    return squared.clamp(min=torch.finfo(squared.dtype).tiny).pow(r / 2).mean()


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """Mean of (‖∇D‖₂ − 1)² at random points between ``real`` and ``fake`` ``[B, D]`` (Gulrajani et al., NeurIPS 2017,
    Eq. 3).

    The gradient is taken with respect to the descriptor times √D, the units in which the critics here read it: unit
    vectors are so close together that in their own units a slope of 1 could tell nothing apart.
    """
    share = torch.rand(len(real), 1, device=real.device, dtype=real.dtype)
    between = (share * real.detach() + (1 - share) * fake.detach()).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (slope.norm(dim=1) / real.shape[1] ** 0.5 - 1).square().mean()


def clip_weights(critic: nn.Module, limit: float = 0.01) -> None:
    """Every parameter of ``critic`` cut to −limit…limit, in place (Arjovsky et al., 2017, Algorithm 1)."""
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.clamp_(-limit, limit)
