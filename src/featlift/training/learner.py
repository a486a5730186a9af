"""A trained module with its optimizer."""

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from featlift.training import distributed
from featlift.training.optimizer import OptimizerConfig

_Function = TypeVar("_Function", bound=Callable[..., Any])


def not_compiled(function: _Function) -> _Function:
    """Make ``torch.compile`` of a training step call ``function`` as it is: it reads files, or its Python numbers differ in every step."""
    return torch.compiler.disable(function)  # pyright: ignore[reportReturnType]


class Learner:
    """Optimizes the parameters of ``module`` that require gradients, each once.

    Several learners may share a training step, as generator and discriminator do. Each computes the gradients of its
    own parameters only: the generator's update computes no gradients for the discriminator's parameters, but
    gradients still flow *through* the discriminator.

    Args:
        module: Module to train. `fit` sets its mode and device.
        optimizer_config: Optimizer and schedule.
        total_steps: Number of calls of `step`; length of the schedule.
        strategy: Gradient averaging over processes, `ReplicatedStrategy` (default) or `ShardedStrategy`.

    Raises:
        ValueError: If no parameter of ``module`` requires gradients.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer_config: OptimizerConfig,
        total_steps: int,
        strategy: distributed.ReplicatedStrategy | distributed.ShardedStrategy | None = None,
    ) -> None:
        self.module, self.optimizer_config, self.total_steps = module, optimizer_config, total_steps
        self.strategy = strategy or distributed.ReplicatedStrategy()
        self.optimizer = optimizer_config.build_optimizer(module)
        self.trainable_parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.grad_scaler = torch.amp.GradScaler("cpu", enabled=False)
        self.num_calls, self.num_updates, self.num_accumulated = 0, 0, 0
        self._grad_sums: dict[str, Tensor] = {}
        self._ema: AveragedModel | None = None

    @property
    def lr(self) -> float:
        """Learning rate of the next call of `step`."""
        return self.optimizer_config.lr_at(self.num_calls, self.total_steps)

    def to_device(self, device: torch.device, precision: str) -> None:
        """Move the module to ``device`` in training mode, with the weights of rank 0 in all processes; enable gradient
        scaling if ``precision`` is "fp16".
        """
        self.module.to(device).train()
        distributed.broadcast_tensors([*self.module.parameters(), *self.module.buffers()])
        self.strategy.prepare(self.module)
        self.grad_scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    @not_compiled
    def step(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Backpropagate the sum of ``losses`` (scalars with a graph) and update the parameters; return the losses,
        detached and on their device.

        With ``accumulation_steps=n`` only every n-th call, and the last, updates the parameters. A parameter that the
        losses do not depend on has gradient zero, with one process as with many. In a compiled training step this method runs
        eagerly: its counters would cause a recompilation in every step.

        Raises:
            FloatingPointError: If a loss on the CPU is NaN or infinite; it is named, and no parameter has changed. On other devices this
                would wait for the device in every step, and the training loop checks where it logs and saves.
            ValueError: If no loss depends on a parameter of this learner.
        """
        detached = {name: loss.detach() for name, loss in losses.items()}
        if not losses:
            raise ValueError("step() needs at least one loss, but no loss was given.")
        if all(loss.device.type == "cpu" for loss in detached.values()):
            check_finite_losses({name: loss.item() for name, loss in detached.items()}, self.num_calls)
        total = torch.stack([loss.float() for loss in losses.values()]).sum()
        is_last_call = self.num_calls + 1 == self.total_steps
        is_update = is_last_call or self.num_accumulated + 1 == self.optimizer_config.accumulation_steps
        with torch.autocast(total.device.type, enabled=False):
            self._accumulate(total, list(losses), is_update)
            self.num_calls, self.num_accumulated = self.num_calls + 1, self.num_accumulated + 1
            if is_update:
                self._optimizer_step()
        return detached

    def _accumulate(self, loss: Tensor, names: list[str], is_update: bool) -> None:
        """Add the gradients of ``loss`` to the sums; before an update those of all processes, while the backward pass runs."""
        parameters = list(self.trainable_parameters.values())
        compute = self.strategy.compute_averaged_gradients if is_update else self.strategy.compute_gradients
        gradients = compute(self.grad_scaler.scale(loss), parameters) if loss.requires_grad else [None]
        if all(g is None for g in gradients):
            raise ValueError(
                f"No loss of {', '.join(names)} depends on a parameter of this {type(self.module).__name__}: "
                "was its output detached, or computed under torch.no_grad()?"
            )
        if is_update and self._grad_sums:
            sums = self.strategy.average_gradients(list(self._grad_sums.values()))
            self._grad_sums = dict(zip(self._grad_sums, sums, strict=True))
        for (name, p), g in zip(self.trainable_parameters.items(), gradients, strict=True):
            g = torch.zeros_like(p) if g is None else g.detach()
            self._grad_sums[name] = self._grad_sums[name] + g if name in self._grad_sums else g

    def _optimizer_step(self) -> None:
        for name, p in self.trainable_parameters.items():
            p.grad = self._grad_sums[name] / self.num_accumulated if self.num_accumulated > 1 else self._grad_sums[name]
        self._grad_sums, self.num_accumulated = {}, 0
        self.grad_scaler.unscale_(self.optimizer)
        if self.optimizer_config.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.trainable_parameters.values(), self.optimizer_config.max_grad_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.optimizer_config.lr_at(self.num_calls - 1, self.total_steps)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.num_updates += 1
        self._update_ema()

    def _update_ema(self) -> None:
        """Update the moving average: first a copy, then decay·average + (1 - decay)·parameter."""
        if self.optimizer_config.ema_decay is not None:
            self._ema = self._ema or self._build_ema(self.optimizer_config.ema_decay)
            self._ema.update_parameters(nn.ParameterList(self.trainable_parameters.values()))

    def _build_ema(self, decay: float) -> AveragedModel:
        parameters = nn.ParameterList(self.trainable_parameters.values())
        return AveragedModel(parameters, multi_avg_fn=get_ema_multi_avg_fn(decay))

    def _ema_tensors(self) -> dict[str, Tensor]:
        averages = self._ema.module.parameters() if self._ema is not None else ()
        return {name: p.detach() for name, p in zip(self.trainable_parameters, averages, strict=self._ema is not None)}

    @torch.no_grad()
    def apply_ema(self) -> nn.Module:
        """Replace the parameters by their EMA at the end of training and return the module.

        Without an average (``ema_decay=None``, or no update yet) the module is unchanged.
        """
        for name, average in self._ema_tensors().items():
            self.trainable_parameters[name].copy_(average)
        return self.module

    def scalar_state(self) -> dict[str, Any]:
        """Return the scalar part of the state, as JSON values."""
        return {
            "num_calls": self.num_calls,
            "num_updates": self.num_updates,
            "num_accumulated": self.num_accumulated,
            "has_optimizer_state": bool(self.optimizer.state),
            "grad_scaler": self.grad_scaler.state_dict(),
        }

    def tensor_state(self) -> dict[str, Any]:
        """Return the tensor part of the state, nested by name; `scalar_state` determines which tensors it has."""
        state: dict[str, Any] = {
            "module": self.module.state_dict(),
            "grad_sums": self._grad_sums,
            "ema": self._ema_tensors(),
        }
        if self.optimizer.state:
            state["optimizer"] = {"state": get_optimizer_state_dict(self.module, self.optimizer)["state"]}
        return state

    def load_scalar_state(self, state: Mapping[str, Any]) -> None:
        """Restore the scalars and allocate the tensors that belong to ``state``, so that `tensor_state` can be loaded
        in place.
        """
        self.num_calls, self.num_updates = state["num_calls"], state["num_updates"]
        self.num_accumulated = state["num_accumulated"]
        if state["grad_scaler"]:
            self.grad_scaler.load_state_dict(state["grad_scaler"])
        self.optimizer.state.clear()
        if state["has_optimizer_state"]:
            get_optimizer_state_dict(self.module, self.optimizer)  # allocates missing optimizer state
        has_sums, decay = self.num_accumulated > 0, self.optimizer_config.ema_decay
        self._grad_sums = {name: torch.zeros_like(p) for name, p in self.trainable_parameters.items() if has_sums}
        self._ema = self._build_ema(decay) if decay and self.num_updates else None
        if self._ema is not None:
            self._ema.n_averaged.fill_(self.num_updates)

    def load_tensor_state(self, state: Mapping[str, Any]) -> None:
        """Load ``state``: the result of `tensor_state` after `load_scalar_state`, filled from a checkpoint."""
        self.module.load_state_dict(state["module"])
        if "optimizer" in state:
            current = get_optimizer_state_dict(self.module, self.optimizer)
            set_optimizer_state_dict(self.module, self.optimizer, {**current, **state["optimizer"]})


def check_finite_losses(losses: Mapping[str, float], step: int) -> None:
    """Check the values of a step's losses.

    Raises:
        FloatingPointError: If a loss, or their sum, is NaN or infinite; it is named.
    """
    if not math.isfinite(sum(losses.values())):
        values = ", ".join(f"{name} = {loss:.4g}" for name, loss in losses.items())
        nonfinite = [name for name, loss in losses.items() if not math.isfinite(loss)] or ["the sum"]
        raise FloatingPointError(
            f"At step {step} {' and '.join(nonfinite)} is not finite ({values}). Try a lower lr, a longer warm-up or "
            "max_grad_norm=10; check the data for boxes without area (featlift data check). If the loss stays finite "
            "with precision 'fp32', it was an overflow."
        )
