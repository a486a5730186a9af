"""One process or many: who is here, and how their gradients become one.

`Replicated` and `Sharded` are the two ways, with one contract. Both are explicit. ``DistributedDataParallel`` is not
used: it only reduces what was computed through *its* ``forward``, and an interpolator that is called inside a pyramid, or a critic
called once per level, goes past it; the published AFI-GAN code trains apart on every GPU for this reason. For a module called as a
whole the results are equal.
"""

import os
from collections.abc import Iterable, Sequence
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

TIMEOUT = timedelta(minutes=30)


def init_distributed(device: str = "auto") -> torch.device:
    """This process's device. Under ``torchrun`` (``WORLD_SIZE`` is set) it also joins the other processes: NCCL on
    GPUs, gloo on CPUs.

    Args:
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", …; "cuda" is the GPU with the number of the
            local rank.

    Raises:
        ValueError: if the device does not exist.
    """
    chosen = _resolve_device(device)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ and not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo", timeout=TIMEOUT)
    return chosen


def _resolve_device(name: str) -> torch.device:
    here = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name in ("auto", "cuda") and here:
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % here)
    chosen = torch.device("cpu" if name == "auto" else name)
    if chosen.type == "cuda" and (chosen.index or 0) >= here:
        raise ValueError(f"Device '{name}' was asked for, but PyTorch sees {here} GPUs here; use 'auto' or 'cpu'.")
    return chosen


def shutdown_distributed() -> None:
    """Leave the other processes; nothing happens if there are none."""
    if dist.is_initialized():
        dist.destroy_process_group()


def get_rank() -> int:
    """The number of this process; 0 writes and draws."""
    return dist.get_rank() if dist.is_initialized() else 0


def get_world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def barrier() -> None:
    """Until all processes are here."""
    if get_world_size() > 1:
        dist.barrier()


def all_reduce_mean(values: Sequence[float]) -> list[float]:
    """The mean over processes of each of ``values``; all processes give equally many."""
    if get_world_size() == 1 or not values:
        return list(values)
    total = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(total)
    return (total / get_world_size()).tolist()


def any_rank(flag: bool) -> bool:
    """Whether ``flag`` is set in any process."""
    return any(all_reduce_mean([float(flag)]))


def broadcast_tensors(tensors: Iterable[Tensor]) -> None:
    """Give every process the values that process 0 has. Tensors that are sharded are left as they are."""
    if get_world_size() == 1:
        return
    for tensor in tensors:
        if not isinstance(tensor, DTensor):
            dist.broadcast(tensor.detach(), src=0)


class ReplicatedStrategy:
    """Every process has all parameters; gradients are averaged. (What DDP does, without its wrapper.)"""

    def compute_gradients(self, loss: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor | None]:
        """This process's gradients of ``loss`` with respect to ``parameters`` and to nothing else; None where it does not
        depend on one.
        """
        return list(torch.autograd.grad(loss, parameters, allow_unused=True))

    def average_gradients(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """The mean over processes of ``gradients``: one all-reduce for each dtype."""
        averaged = list(gradients)
        if get_world_size() == 1:
            return averaged
        for dtype in dict.fromkeys(g.dtype for g in gradients):
            places = [i for i, g in enumerate(gradients) if g.dtype == dtype]
            flat = torch.cat([gradients[i].reshape(-1) for i in places])
            dist.all_reduce(flat)
            pieces = flat.div_(get_world_size()).split([gradients[i].numel() for i in places])
            for i, piece in zip(places, pieces, strict=True):
                averaged[i] = piece.view(gradients[i].shape)
        return averaged


class ShardedStrategy:
    """Every process has a share of each parameter (FSDP2) of a module that went through `shard`; FSDP2 averages the
    gradients.

    What falls on other learners' parameters is computed here, and dropped by them: FSDP2 swaps parameters while it
    works, so that they cannot be asked for by name.
    """

    def compute_gradients(self, loss: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor | None]:
        """This process's share of the averaged gradients of ``loss`` with respect to ``parameters``."""
        for parameter in parameters:
            parameter.grad = None
        loss.backward()
        found = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            parameter.grad = None
        return found

    def average_gradients(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """``gradients`` as they are; FSDP2 has averaged them during the backward pass."""
        return list(gradients)


def shard_module(module: nn.Module, units: Sequence[nn.Module] | None = None) -> nn.Module:
    """``module``, in place, with every parameter spread over all processes by FSDP2; train it with ``Learner(…,
    ranks=Sharded())``.

    A unit's parameters are together while its ``forward`` and backward run. By default every layer that owns
    parameters is a unit, so that any child can be called directly (``detector.backbone(x)``), as papers do. Larger
    ``units`` (residual stages, say) need fewer, larger messages; they must not contain each other, and only they, or
    what contains them, may be called.

    In every step all processes must call the same units, for they wait for each other there.

    Raises:
        RuntimeError: if there is no process group (start with ``torchrun`` and make a `Run` first).
    """
    if not dist.is_initialized():
        raise RuntimeError(
            "shard() spreads parameters over processes, and here is only one: start with torchrun, make a Run first."
        )
    broadcast_tensors([*module.parameters(), *module.buffers()])
    for unit in units or [m for m in module.modules() if any(True for _ in m.parameters(recurse=False))]:
        fully_shard(unit, reshard_after_forward=True)
    return module
