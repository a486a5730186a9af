"""How an interpolator works while it learns: plainly, with less memory, or compiled. Its function, parameters and their names stay."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import MethodType
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

_ModuleT = TypeVar("_ModuleT", bound=nn.Module)


def use_eager(module: _ModuleT) -> _ModuleT:
    """As it is."""
    return module


def use_checkpointing(module: _ModuleT) -> _ModuleT:
    """Nothing inside ``module`` is kept for the backward pass; it is computed again there. Returns ``module``, changed in place.

    AFI keeps 15 maps of the size it is given and some of twice the size for every level; so it keeps one. A step takes a forward of the
    interpolator more. Statistics of batch norm move once, as without it.
    """
    module.forward = MethodType(_checkpointed_forward, module)  # a bound method, so that a copy answers for itself
    return module


def use_compile(module: _ModuleT) -> _ModuleT:
    """Through ``torch.compile`` for maps of any size, at its first call (half a minute or more). Returns ``module``, changed in place.

    On a CPU this needs a C++ compiler.
    """
    module.compile(dynamic=True)
    return module


EXECUTION_MODES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "plain": use_eager,
    "recomputed": use_checkpointing,
    "compiled": use_compile,
}


def _checkpointed_forward(module: nn.Module, x: Tensor) -> Tensor:
    def own(y: Tensor) -> Tensor:
        return type(module).forward(module, y)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _fixed_batch_norm_statistics(module)

    if not torch.is_grad_enabled():
        return own(x)
    return checkpoint(own, x, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)


@contextmanager
def _fixed_batch_norm_statistics(module: nn.Module) -> Iterator[None]:
    """For the second forward: batch norms work as in training, but their statistics stay."""
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.training]
    kept = [
        (norm, norm.momentum, norm.num_batches_tracked.clone())
        for norm in norms
        if norm.num_batches_tracked is not None
    ]
    for norm, _, _ in kept:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, count in kept:
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)  # type: ignore[union-attr]
