"""Execution modes of interpolators in training: eager, activation checkpointing, or compiled. Outputs and parameter names do not change."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import MethodType
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

_ModuleT = TypeVar("_ModuleT", bound=nn.Module)


def use_eager(module: _ModuleT) -> _ModuleT:
    """Return ``module`` unchanged."""
    return module


def use_checkpointing(module: _ModuleT) -> _ModuleT:
    """Recompute the activations of ``module`` in the backward pass (activation checkpointing). Changes it in place and returns it.

    Per level, only the input map is stored; AFI otherwise stores 15 maps of the input size and several of twice the size. Costs one more
    forward pass per step. Batch-norm statistics are updated once per step, as without checkpointing.
    """
    module.forward = MethodType(_checkpointed_forward, module)  # bound, so that a deep copy uses its own parameters
    return module


def use_compile(module: _ModuleT) -> _ModuleT:
    """Compile ``module`` with ``torch.compile`` for maps of any size. Changes it in place and returns it.

    The first call compiles (half a minute or more); on a CPU this needs a C++ compiler.
    """
    module.compile(dynamic=True)
    return module


EXECUTION_MODES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "eager": use_eager,
    "checkpointed": use_checkpointing,
    "compiled": use_compile,
}


def _checkpointed_forward(module: nn.Module, x: Tensor, guide: Tensor | None = None) -> Tensor:
    def run_layer(y: Tensor, guide: Tensor | None) -> Tensor:
        return type(module).forward(module, y, guide)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _fixed_batch_norm_statistics(module)

    if not torch.is_grad_enabled():
        return run_layer(x, guide)
    return checkpoint(run_layer, x, guide, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)


@contextmanager
def _fixed_batch_norm_statistics(module: nn.Module) -> Iterator[None]:
    """Keep the batch-norm statistics during the recomputation; the norms otherwise work as in training."""
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.training]
    saved = [
        (norm, norm.momentum, norm.num_batches_tracked.clone())
        for norm in norms
        if norm.num_batches_tracked is not None
    ]
    for norm, _, _ in saved:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, count in saved:
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)  # type: ignore[union-attr]
