"""Process group, collectives, and strategies for averaging gradients over processes.

`ReplicatedStrategy` and `ShardedStrategy` share one interface and are called by `Learner`.
"""

import os
import warnings
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from featlift.device import device_of, resolve_device

TIMEOUT = timedelta(minutes=30)
BUCKET_MEGABYTES = 25
"""Size of the buckets in which gradients are averaged."""


def init_distributed(device: str = "auto") -> torch.device:
    """Return this process's device. Under ``torchrun`` (``WORLD_SIZE`` is set) also initialize the process group: NCCL
    on GPUs, gloo on CPUs.

    Args:
        device: Device: "auto" (a GPU if available), "cpu", "cuda", "cuda:1", …; "cuda" selects the GPU of the local
            rank.

    Raises:
        ValueError: If the device does not exist.
    """
    resolved = resolve_device(device)
    if resolved.type == "cuda":
        torch.cuda.set_device(resolved)
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ and not dist.is_initialized():
        _init_process_group("cpu:gloo,cuda:nccl" if resolved.type == "cuda" else "gloo")
    return resolved


def _init_process_group(backend: str) -> None:
    """Initialize the process group under keys of its own for each start by ``torchrun``.

    ``torchrun`` may keep its store when it restarts killed processes; without a prefix they read addresses of the killed ones.
    """
    store, rank, world_size = next(dist.rendezvous("env://", timeout=TIMEOUT))
    store = dist.PrefixStore(f"start_{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=TIMEOUT)


def shutdown_distributed() -> None:
    """Destroy the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def get_rank() -> int:
    """Return the rank of this process; rank 0 writes files and prints."""
    return dist.get_rank() if dist.is_initialized() else 0


def get_world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def barrier() -> None:
    """Block until all processes have called this function."""
    if get_world_size() > 1:
        dist.barrier()


def all_reduce_mean(values: Sequence[float]) -> list[float]:
    """Return the mean over processes of each of ``values``; all processes must pass the same number of values."""
    if get_world_size() == 1 or not values:
        return list(values)
    total = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(total)
    return (total / get_world_size()).tolist()


def any_rank(flag: bool) -> bool:
    """Return whether ``flag`` is set in any process."""
    return any(all_reduce_mean([float(flag)]))


def broadcast_object(value: Any) -> Any:
    """Return the ``value`` of rank 0, in all processes."""
    if get_world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def all_gather_objects(value: Any) -> list[Any]:
    """Return the ``value`` of every process, by rank, in all processes."""
    if get_world_size() == 1:
        return [value]
    values = [None] * get_world_size()
    dist.all_gather_object(values, value)
    return values


def broadcast_tensors(tensors: Iterable[Tensor]) -> None:
    """Copy the values of rank 0 to all processes. Sharded tensors are skipped."""
    if get_world_size() == 1:
        return
    for tensor in tensors:
        if not isinstance(tensor, DTensor):
            dist.broadcast(tensor.detach(), src=0)


class _FinishedLoss(nn.Module):
    """What `DistributedDataParallel` wraps: the parameters of ``module``, and as ``forward`` a loss that was computed with them.

    One parameter is never used, because without any DDP advises against ``find_unused_parameters``.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module, self.unused = module, nn.Parameter(torch.zeros(1, device=device_of(module)))

    def forward(self, loss: Tensor) -> Tensor:
        """Return ``loss``, a scalar ``[]``."""
        return loss


class ReplicatedStrategy:
    """Every process has all parameters; gradients are averaged in buckets while the backward pass runs.

    The reducer is that of ``DistributedDataParallel``, which averages the gradients of what its ``forward`` returns. An interpolator
    called inside a pyramid, or a discriminator called once per level, is not called through its ``forward``; the published
    AFI-GAN code does not synchronize its GPUs for this reason. Here its ``forward`` returns the finished loss of a step, whose
    graph contains every call.
    """

    def __init__(self) -> None:
        self._reducer: DistributedDataParallel | None = None

    def prepare(self, module: nn.Module) -> None:
        """Build the buckets for ``module``, which is on its device and equal in all processes."""
        if get_world_size() > 1:
            # Which parameters a step uses may depend on its images. With this option the buckets also stay the same, and so do sums.
            with warnings.catch_warnings():
                warnings.filterwarnings(
                    "ignore", "`broadcast_buffers` is deprecated"
                )  # its successor is not in older releases
                self._reducer = DistributedDataParallel(
                    _FinishedLoss(module),
                    bucket_cap_mb=BUCKET_MEGABYTES,
                    broadcast_buffers=False,
                    find_unused_parameters=True,
                    init_sync=False,
                )

    def compute_gradients(self, loss: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor | None]:
        """Return this process's gradients of ``loss`` with respect to ``parameters`` only; None for a parameter that
        ``loss`` does not depend on.
        """
        return list(torch.autograd.grad(loss, parameters, allow_unused=True))

    def compute_averaged_gradients(self, loss: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor | None]:
        """Return the mean over processes of `compute_gradients`; None for a parameter that no process's ``loss`` depends on."""
        if self._reducer is None:
            return self.compute_gradients(loss, parameters)
        for parameter in parameters:
            parameter.grad = None
        self._reducer(loss).backward(inputs=list(parameters))
        return _take_gradients(parameters)

    def average_gradients(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Return the mean over processes of ``gradients``, with one all-reduce per dtype."""
        averaged = list(gradients)
        if get_world_size() == 1:
            return averaged
        for dtype in dict.fromkeys(g.dtype for g in gradients):
            indices = [i for i, g in enumerate(gradients) if g.dtype == dtype]
            flat = torch.cat([gradients[i].reshape(-1) for i in indices])
            dist.all_reduce(flat)
            chunks = flat.div_(get_world_size()).split([gradients[i].numel() for i in indices])
            for i, chunk in zip(indices, chunks, strict=True):
                averaged[i] = chunk.view(gradients[i].shape)
        return averaged


def _take_gradients(parameters: Sequence[nn.Parameter]) -> list[Tensor | None]:
    gradients = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    return gradients


class ShardedStrategy:
    """Every process holds a shard of each parameter (FSDP2) of a module prepared by `shard_module`; FSDP2 averages the
    gradients.

    Gradients of other learners' parameters are also computed, and discarded by those learners: FSDP2 swaps parameters
    during the backward pass, so ``torch.autograd.grad`` cannot select them.
    """

    def prepare(self, module: nn.Module) -> None:
        """Do nothing: `shard_module` has prepared ``module``."""

    def compute_gradients(self, loss: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor | None]:
        """Return this process's shard of the averaged gradients of ``loss`` with respect to ``parameters``."""
        for parameter in parameters:
            parameter.grad = None
        loss.backward()
        return _take_gradients(parameters)

    def compute_averaged_gradients(self, loss: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor | None]:
        """Return the same as `compute_gradients`."""
        return self.compute_gradients(loss, parameters)

    def average_gradients(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Return ``gradients`` unchanged; FSDP2 has averaged them during the backward pass."""
        return list(gradients)


def shard_module(module: nn.Module, units: Sequence[nn.Module] | None = None) -> nn.Module:
    """Shard every parameter of ``module`` over all processes with FSDP2, in place, and return the module. Train it with
    ``Learner(…, strategy=ShardedStrategy())``.

    The parameters of a unit are gathered while its ``forward`` and backward run. By default every layer that owns
    parameters is a unit, so any child can be called directly (``detector.backbone(x)``), as the papers' training steps
    do. Larger ``units`` (residual stages, for example) need fewer, larger messages; they must not contain each other,
    and only the units or modules that contain them may be called.

    All processes must call the same units in every step, because they synchronize there.

    Raises:
        RuntimeError: If there is no process group (start with ``torchrun`` and create a `Run` first).
    """
    if not dist.is_initialized():
        raise RuntimeError(
            "shard_module() needs a process group, but there is only one process: "
            "start with torchrun and create a Run first."
        )
    broadcast_tensors([*module.parameters(), *module.buffers()])
    for unit in units or [m for m in module.modules() if any(True for _ in m.parameters(recurse=False))]:
        fully_shard(unit, reshard_after_forward=True)
    return module
