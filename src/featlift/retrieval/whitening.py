"""PCA whitening of descriptors (Jégou and Chum, ECCV 2012): decorrelated directions of equal variance, optionally fewer."""

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from featlift.checkpoints.init_args import store_init_args

MIN_VARIANCE = 1e-8


@store_init_args()
class Whitening(nn.Module):
    """Map unit vectors to whitened unit vectors; made by :func:`fit_whitening`, the identity until then.

    Args:
        in_dimension: D.
        out_dimension: D', at most D.
    """

    mean: Tensor
    projection: Tensor

    def __init__(self, in_dimension: int, out_dimension: int):
        super().__init__()
        self.out_dimension = out_dimension
        self.register_buffer("mean", torch.zeros(in_dimension))
        self.register_buffer("projection", torch.eye(in_dimension)[:out_dimension])

    def forward(self, x: Tensor) -> Tensor:
        """``[B, D]`` → unit vectors ``[B, D']``."""
        return nnf.normalize((x - self.mean) @ self.projection.T, dim=1)


def fit_whitening(descriptors: Tensor, dimension: int = 0) -> Whitening:
    """Compute the whitening of ``descriptors [N, D]`` to ``dimension`` numbers (0 for D), those of largest variance first.

    Raises:
        ValueError: If there are not more descriptors than ``dimension``, or fewer numbers than it.
    """
    count, size = descriptors.shape
    dimension = dimension or size
    if dimension > size or count <= dimension:
        raise ValueError(
            f"{count} descriptors of {size} numbers cannot be whitened to {dimension}; give more descriptors, or a smaller dimension."
        )
    whitening, mean = Whitening(size, dimension), descriptors.double().mean(dim=0)
    variances, directions = torch.linalg.eigh(torch.cov(descriptors.double().T).reshape(size, size))
    order = variances.argsort(descending=True)[:dimension]
    scale = variances[order].clamp(min=MIN_VARIANCE).rsqrt()
    whitening.mean.copy_(mean)
    whitening.projection.copy_(scale[:, None] * directions[:, order].T)
    return whitening
