"""The simpler answers that a generator has to beat: nothing, ridge regression, and one model for each ratio.

All have the generators' contract, ``forward(x [B, D], ratio [B] | None) → [B, D]``.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from featlift.checkpoints.init_args import store_init_args
from featlift.retrieval.generator import require_ratio


@store_init_args()
class IdentityGenerator(nn.Module):
    """The descriptor as it is; the papers' "raw representation"."""

    def forward(self, x: Tensor, ratio: Tensor | None = None) -> Tensor:
        """``[B, D]`` → the same ``[B, D]``."""
        return x


@store_init_args()
class AffineGenerator(nn.Module):
    """``x + x A + b``, found in closed form by :func:`fit_ridge`; ``A [D, D]`` and ``b [D]`` are buffers.

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
    """The :class:`AffineGenerator` map from ``low [N, D]`` to ``high [N, D]`` with the least squared error plus ``strength ·
    ‖A‖²``.

    What is shrunk is the *correction*, so infinite strength gives the mean shift, not zero.

    Raises:
        ValueError: if the two differ in shape or ``alpha`` is not positive.
    """
    if low.shape != high.shape or alpha <= 0:
        raise ValueError(
            f"Ridge needs pairs of equal shape and a positive strength, got {low.shape}, {high.shape}, {alpha}."
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
    """One model for each ratio, chosen by the nearest trained one on a logarithmic scale. At ratio 1 nothing is done.

    With a residual generator in each place this is the per-ratio MLP that a blind model is compared with.

    Args:
        ratios: those that were trained, each above 1.
        generators: a model with the generators' contract for each.
    """

    ratios: Tensor

    def __init__(self, ratios: Sequence[float], generators: Sequence[nn.Module]):
        super().__init__()
        self.generators = nn.ModuleList([IdentityGenerator(), *generators])
        self.register_buffer("ratios", torch.tensor([1.0, *ratios]))

    def forward(self, x: Tensor, ratio: Tensor | None = None) -> Tensor:
        """``[B, D]`` and ``ratio [B]`` → ``[B, D]``.

        Raises:
            ValueError: if no ratio is given.
        """
        told = require_ratio(ratio).to(self.ratios)
        chosen = (told[:, None].log() - self.ratios.log()).abs().argmin(dim=1)
        out = x.clone()
        for place in chosen.unique().tolist():
            rows = chosen == place
            out[rows] = self.generators[place](x[rows], told[rows])
        return out
