"""A module and the way it learns."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

from featlift.training import distributed
from featlift.training.optimizer import Descent


class Learner:
    """Some parameters and the way they descend: those of ``module`` that ask for gradients, each once.

    Several learners may share a step, as generator and critic do. Each computes the gradients of its own parameters
    only: what would fall on the critic in the generator's turn is not computed at all, and the way *through* the
    critic stays open.

    Args:
        module: what learns. Its modes and its device are `fit`'s business.
        descent: how.
        steps: how many times `descend` will be called; the schedule's length.
        ranks: how many processes become one, `Replicated` or `Sharded`.

    Raises:
        ValueError: if no parameter of ``module`` asks for gradients.
    """

    def __init__(
        self,
        module: nn.Module,
        descent: Descent,
        steps: int,
        ranks: distributed.Replicated | distributed.Sharded | None = None,
    ) -> None:
        self.module, self.descent, self.steps = module, descent, steps
        self.ranks = ranks or distributed.Replicated()
        self.optimiser = descent.optimiser_of(module)
        self.own = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.scaler = torch.amp.GradScaler("cpu", enabled=False)
        self.calls, self.updates, self.gathered = 0, 0, 0
        self._sum: dict[str, Tensor] = {}
        self._average: dict[str, Tensor] = {}

    @property
    def rate(self) -> float:
        """The learning rate of the next call."""
        return self.descent.rate_at(self.calls, self.steps)

    def place(self, device: torch.device, precision: str) -> None:
        """Bring the module to ``device`` in training mode, the same in all processes; scale gradients if ``precision``
        is "fp16".
        """
        self.module.to(device).train()
        distributed.alike([*self.module.parameters(), *self.module.buffers()])
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    def descend(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """One step down the sum of ``losses`` (scalars with a graph); returns them without it, still on their device.

        With ``accumulate=n`` every n-th call, and the last, moves the parameters. A parameter that had no part in the
        losses has gradient zero, with one process as with many.

        Raises:
            FloatingPointError: if a loss is NaN or infinite; it is named, and nothing has moved.
            ValueError: if no loss depends on a parameter of this learner.
        """
        found = {name: loss.detach() for name, loss in losses.items()}
        _refuse_infinite(found, self.calls)
        total = torch.stack([loss.float() for loss in losses.values()]).sum()
        with torch.autocast(total.device.type, enabled=False):
            self._gather(total, list(losses))
            self.calls += 1
            if self.gathered == self.descent.accumulate or self.calls == self.steps:
                self._update()
        return found

    def _gather(self, total: Tensor, names: list[str]) -> None:
        own = list(self.own.values())
        gradients = self.ranks.gradients(self.scaler.scale(total), own) if total.requires_grad else [None]
        if all(g is None for g in gradients):
            raise ValueError(
                f"No loss of {', '.join(names)} depends on a parameter of this {type(self.module).__name__}: "
                "was its output detached, or computed under torch.no_grad()?"
            )
        for (name, p), g in zip(self.own.items(), gradients, strict=True):
            g = torch.zeros_like(p) if g is None else g.detach()
            self._sum[name] = self._sum[name] + g if name in self._sum else g
        self.gathered += 1

    def _update(self) -> None:
        gradients = self.ranks.average([g / self.gathered if self.gathered > 1 else g for g in self._sum.values()])
        for p, g in zip(self.own.values(), gradients, strict=True):
            p.grad = g
        self._sum, self.gathered = {}, 0
        self.scaler.unscale_(self.optimiser)
        if self.descent.clip is not None:
            nn.utils.clip_grad_norm_(self.own.values(), self.descent.clip)
        for group in self.optimiser.param_groups:
            group["lr"] = self.descent.rate_at(self.calls - 1, self.steps)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.optimiser.zero_grad(set_to_none=True)
        self.updates += 1
        self._follow()

    @torch.no_grad()
    def _follow(self) -> None:
        """The moving average: a copy at first, then decay·average + (1 - decay)·parameter."""
        if self.descent.ema is None:
            return
        for name, p in self.own.items():
            if name in self._average:
                self._average[name].lerp_(p.detach(), 1 - self.descent.ema)
            else:
                self._average[name] = p.detach().clone()

    @contextmanager
    def averaged(self) -> Iterator[nn.Module]:
        """The module with its averaged parameters, to evaluate or to save; the trained ones are back afterwards.

        Without an average (``ema=None``, or nothing learned yet) the module as it is.
        """
        self._swap()
        try:
            yield self.module
        finally:
            self._swap()

    def keep_average(self) -> nn.Module:
        """Give the module its averaged parameters for good, when training is over; without an average it stays as it is. Returns it."""
        self._swap()
        return self.module

    @torch.no_grad()
    def _swap(self) -> None:
        for name, average in self._average.items():
            trained = self.own[name].detach().clone()
            self.own[name].copy_(average)
            average.copy_(trained)

    def counts(self) -> dict[str, Any]:
        """The part of the state that is numbers, for JSON."""
        return {
            "calls": self.calls,
            "updates": self.updates,
            "gathered": self.gathered,
            "stepped": bool(self.optimiser.state),
            "scaler": self.scaler.state_dict(),
        }

    def tensors(self) -> dict[str, Any]:
        """The part of the state that is tensors, nested by name; in the shapes that `counts` tells."""
        state: dict[str, Any] = {"module": self.module.state_dict(), "sum": self._sum, "average": self._average}
        if self.optimiser.state:
            state["optimiser"] = {"state": get_optimizer_state_dict(self.module, self.optimiser)["state"]}
        return state

    def expect(self, counts: Mapping[str, Any]) -> None:
        """Make room for the state that belongs to ``counts``, so that `tensors` can be filled in place."""
        self.calls, self.updates, self.gathered = counts["calls"], counts["updates"], counts["gathered"]
        if counts["scaler"]:
            self.scaler.load_state_dict(counts["scaler"])
        self.optimiser.state.clear()
        if counts["stepped"]:
            get_optimizer_state_dict(self.module, self.optimiser)  # it makes room, if there is none
        blank = {name: torch.zeros_like(p) for name, p in self.own.items()}
        self._sum = dict(blank) if self.gathered else {}
        self._average = {name: b.clone() for name, b in blank.items()} if self.descent.ema and self.updates else {}

    def restore(self, tensors: Mapping[str, Any]) -> None:
        """Take up ``tensors``, which `tensors` gave after `expect`, now filled."""
        self.module.load_state_dict(tensors["module"])
        if "optimiser" in tensors:
            whole = get_optimizer_state_dict(self.module, self.optimiser)
            set_optimizer_state_dict(self.module, self.optimiser, {**whole, **tensors["optimiser"]})


def _refuse_infinite(losses: Mapping[str, Tensor], step: int) -> None:
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
