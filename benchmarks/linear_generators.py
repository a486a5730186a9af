"""Baselines for descriptor generators: ridge regression, and a separate model for each ratio.

All have the generators' interface, ``forward(x [B, D], ratio [B] | None) → [B, D]``.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from featlift.checkpoints.init_args import store_init_args
from featlift.retrieval.generator import IdentityGenerator, require_ratio


@store_init_args()
class AffineGenerator(nn.Module):
    """``x + x A + b``, fitted in closed form by :func:`fit_ridge`; ``A [D, D]`` and ``b [D]`` are buffers.

    Args:
        dimension: D.
    """

    slope: Tensor
    shift: Tensor

    def __init__(self, dimension: int):
        super().__init__()
        self.register_buffer("slope", torch.zeros(dimension, dimension))
        self.register_buffer("shift", torch.zeros(dimension))

    def forward(self, x: Tensor, ratio: Tensor | None = None) -> Tensor:
        """``[B, D]`` → ``[B, D]``; blind, ``ratio`` is not used."""
        return x + x @ self.slope + self.shift


def fit_ridge(low: Tensor, high: Tensor, alpha: float = 1.0) -> AffineGenerator:
    """Fit an :class:`AffineGenerator` from ``low [N, D]`` to ``high [N, D]``: least squared error plus ``alpha · ‖A‖²``.

    The *correction* is regularized, so an infinite ``alpha`` gives the mean shift, not zero.

    Raises:
        ValueError: If the shapes differ or ``alpha`` is not positive.
    """
    if low.shape != high.shape or alpha <= 0:
        raise ValueError(
            f"Ridge regression needs pairs of equal shape and a positive alpha; given {tuple(low.shape)}, "
            f"{tuple(high.shape)} and alpha {alpha}."
        )
    x, y = low.double(), (high - low).double()
    centered = x - x.mean(0)
    gram = centered.T @ centered + alpha * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    slope = torch.linalg.solve(gram, centered.T @ (y - y.mean(0)))
    affine = AffineGenerator(x.shape[1]).to(low)
    affine.slope.copy_(slope)
    affine.shift.copy_(y.mean(0) - x.mean(0) @ slope)
    return affine


@store_init_args()
class PerRatioGenerator(nn.Module):
    """A separate generator for each ratio; the nearest trained ratio on a logarithmic scale is selected. Identity at ratio 1.

    With residual generators, this is the per-ratio MLP to which a blind model is compared.

    Args:
        ratios: Trained ratios, each above 1.
        generators: A generator for each ratio.
    """

    ratios: Tensor

    def __init__(self, ratios: Sequence[float], generators: Sequence[nn.Module]):
        super().__init__()
        self.generators = nn.ModuleList([IdentityGenerator(), *generators])
        self.register_buffer("ratios", torch.tensor([1.0, *ratios]))

    def forward(self, x: Tensor, ratio: Tensor | None = None) -> Tensor:
        """``[B, D]`` and ``ratio [B]`` → ``[B, D]``.

        Raises:
            ValueError: If no ratio is given.
        """
        ratio = require_ratio(ratio).to(self.ratios)
        indices = (ratio[:, None].log() - self.ratios.log()).abs().argmin(dim=1)
        out = x.clone()
        for index in indices.unique().tolist():
            mask = indices == index
            out[mask] = self.generators[index](x[mask], ratio[mask])
        return out
