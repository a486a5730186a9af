"""A module and the way it learns."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

from featlift.training import distributed
from featlift.training.optimizer import OptimizerConfig


class Learner:
    """Some parameters and the way they descend: those of ``module`` that ask for gradients, each once.

    Several learners may share a step, as generator and critic do. Each computes the gradients of its own parameters
    only: what would fall on the critic in the generator's turn is not computed at all, and the way *through* the
    critic stays open.

    Args:
        module: what learns. Its modes and its device are `fit`'s business.
        optimizer_config: how.
        total_steps: how many times `step` will be called; the schedule's length.
        strategy: how many processes become one, `Replicated` or `Sharded`.

    Raises:
        ValueError: if no parameter of ``module`` asks for gradients.
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
        self._ema: dict[str, Tensor] = {}

    @property
    def lr(self) -> float:
        """The learning rate of the next call."""
        return self.optimizer_config.lr_at(self.num_calls, self.total_steps)

    def to_device(self, device: torch.device, precision: str) -> None:
        """Bring the module to ``device`` in training mode, the same in all processes; scale gradients if ``precision``
        is "fp16".
        """
        self.module.to(device).train()
        distributed.broadcast_tensors([*self.module.parameters(), *self.module.buffers()])
        self.grad_scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    def step(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """One step down the sum of ``losses`` (scalars with a graph); returns them without it, still on their device.

        With ``accumulate=n`` every n-th call, and the last, moves the parameters. A parameter that had no part in the
        losses has gradient zero, with one process as with many.

        Raises:
            FloatingPointError: if a loss is NaN or infinite; it is named, and nothing has moved.
            ValueError: if no loss depends on a parameter of this learner.
        """
        found = {name: loss.detach() for name, loss in losses.items()}
        _check_finite_losses(found, self.num_calls)
        total = torch.stack([loss.float() for loss in losses.values()]).sum()
        with torch.autocast(total.device.type, enabled=False):
            self._accumulate(total, list(losses))
            self.num_calls += 1
            if self.num_accumulated == self.optimizer_config.accumulation_steps or self.num_calls == self.total_steps:
                self._optimizer_step()
        return found

    def _accumulate(self, loss: Tensor, names: list[str]) -> None:
        own = list(self.trainable_parameters.values())
        gradients = self.strategy.compute_gradients(self.grad_scaler.scale(loss), own) if loss.requires_grad else [None]
        if all(g is None for g in gradients):
            raise ValueError(
                f"No loss of {', '.join(names)} depends on a parameter of this {type(self.module).__name__}: "
                "was its output detached, or computed under torch.no_grad()?"
            )
        for (name, p), g in zip(self.trainable_parameters.items(), gradients, strict=True):
            g = torch.zeros_like(p) if g is None else g.detach()
            self._grad_sums[name] = self._grad_sums[name] + g if name in self._grad_sums else g
        self.num_accumulated += 1

    def _optimizer_step(self) -> None:
        gradients = self.strategy.average_gradients(
            [g / self.num_accumulated if self.num_accumulated > 1 else g for g in self._grad_sums.values()]
        )
        for p, g in zip(self.trainable_parameters.values(), gradients, strict=True):
            p.grad = g
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

    @torch.no_grad()
    def _update_ema(self) -> None:
        """The moving average: a copy at first, then decay·average + (1 - decay)·parameter."""
        if self.optimizer_config.ema_decay is None:
            return
        for name, p in self.trainable_parameters.items():
            if name in self._ema:
                self._ema[name].lerp_(p.detach(), 1 - self.optimizer_config.ema_decay)
            else:
                self._ema[name] = p.detach().clone()

    @contextmanager
    def ema_weights(self) -> Iterator[nn.Module]:
        """The module with its averaged parameters, to evaluate or to save; the trained ones are back afterwards.

        Without an average (``ema=None``, or nothing learned yet) the module as it is.
        """
        self._swap_ema()
        try:
            yield self.module
        finally:
            self._swap_ema()

    def apply_ema(self) -> nn.Module:
        """Give the module its averaged parameters for good, when training is over; without an average it stays as it is. Returns it."""
        self._swap_ema()
        return self.module

    @torch.no_grad()
    def _swap_ema(self) -> None:
        for name, average in self._ema.items():
            trained = self.trainable_parameters[name].detach().clone()
            self.trainable_parameters[name].copy_(average)
            average.copy_(trained)

    def scalar_state(self) -> dict[str, Any]:
        """The part of the state that is numbers, for JSON."""
        return {
            "calls": self.num_calls,
            "updates": self.num_updates,
            "gathered": self.num_accumulated,
            "stepped": bool(self.optimizer.state),
            "scaler": self.grad_scaler.state_dict(),
        }

    def tensor_state(self) -> dict[str, Any]:
        """The part of the state that is tensors, nested by name; in the shapes that `counts` tells."""
        state: dict[str, Any] = {"module": self.module.state_dict(), "sum": self._grad_sums, "average": self._ema}
        if self.optimizer.state:
            state["optimizer"] = {"state": get_optimizer_state_dict(self.module, self.optimizer)["state"]}
        return state

    def load_scalar_state(self, state: Mapping[str, Any]) -> None:
        """Make room for the state that belongs to ``state``, so that `tensors` can be filled in place."""
        self.num_calls, self.num_updates, self.num_accumulated = state["calls"], state["updates"], state["gathered"]
        if state["scaler"]:
            self.grad_scaler.load_state_dict(state["scaler"])
        self.optimizer.state.clear()
        if state["stepped"]:
            get_optimizer_state_dict(self.module, self.optimizer)  # it makes room, if there is none
        blank = {name: torch.zeros_like(p) for name, p in self.trainable_parameters.items()}
        self._grad_sums = dict(blank) if self.num_accumulated else {}
        self._ema = (
            {name: b.clone() for name, b in blank.items()}
            if self.optimizer_config.ema_decay and self.num_updates
            else {}
        )

    def load_tensor_state(self, state: Mapping[str, Any]) -> None:
        """Take up ``state``, which `state` gave after `expect`, now filled."""
        self.module.load_state_dict(state["module"])
        if "optimizer" in state:
            whole = get_optimizer_state_dict(self.module, self.optimizer)
            set_optimizer_state_dict(self.module, self.optimizer, {**whole, **state["optimizer"]})


def _check_finite_losses(losses: Mapping[str, Tensor], step: int) -> None:
    """One look for all losses together: the only time a step waits for the device."""
    if not losses:
        raise ValueError("descend() was given no loss.")
    if not torch.isfinite(torch.stack([loss.float() for loss in losses.values()]).sum()):
        values = ", ".join(f"{name} = {loss.item():.4g}" for name, loss in losses.items())
        bad = [name for name, loss in losses.items() if not torch.isfinite(loss)] or ["the sum"]
        raise FloatingPointError(
            f"At step {step} {' and '.join(bad)} is not finite ({values}). Try a lower rate, a longer warm-up or "
            "clip=10; look for boxes without area in the data (featlift data check); with precision 'fp32', "
            "if the loss stays finite, it was an overflow."
        )
