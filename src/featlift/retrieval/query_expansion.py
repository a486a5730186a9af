"""Query expansion: a second search with the query and its first results (Radenović et al., TPAMI 2019, Sec. 4.3)."""

import torch.nn.functional as nnf
from torch import Tensor

EXPANSION_EXPONENT = 3.0
"""α of :func:`expand_queries`, the paper's value."""


def expand_queries(queries: Tensor, results: Tensor, scores: Tensor, alpha: float = EXPANSION_EXPONENT) -> Tensor:
    """Add the first results to each query, weighted by the power α of their cosines: ``q + Σ scoreᵅ · x``, of unit length.

    Args:
        queries: Unit vectors ``[Q, D]``.
        results: Unit vectors of the first K results of each query ``[Q, K, D]``.
        scores: Their cosines ``[Q, K]``; negative ones have no weight.
        alpha: α; 0 is average query expansion.
    """
    return nnf.normalize(queries + (scores.clamp(min=0).pow(alpha)[..., None] * results).sum(dim=1), dim=1)
