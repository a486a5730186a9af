"""FSR-GAN's losses (Tan, Yan and Bare, CVPR 2018, Sec. 3.2) on scores ``[B]`` of descriptors ``[B, D]``."""

from collections.abc import Callable

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn


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
