"""How a module learns: the optimiser, its rate at every step, and what is done to the gradients before."""

import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

OPTIMISERS = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "steps", "cosine")
WARMUP_START = 1 / 1000
_NORMS = (
    nn.modules.batchnorm._BatchNorm,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.modules.instancenorm._InstanceNorm,
)


@dataclass(frozen=True)
class Descent:
    """One way to go downhill. Steps are calls of `Learner.descend`, counted from 0, also where gradients are
    accumulated.

    Attributes:
        optimiser: "sgd" (with ``momentum``), "adam" or "adamw" (with ``betas``).
        rate: the learning rate after warm-up.
        weight_decay: of all parameters; with ``decay_norms=False`` of none of the normalisation layers and of no bias.
        warmup: over so many steps the rate grows linearly from a thousandth.
        schedule: "constant"; "steps", times ``gamma`` at each of the ``milestones``; "cosine", half a wave down to 0
            at the end.
        milestones: steps; below 1, fractions of all steps.
        clip: the largest Euclidean norm of all gradients together, or None.
        ema: the decay of an exponential moving average of the parameters, or None.
        accumulate: so many calls of `Learner.descend` make one update, with the mean of their gradients.
    """

    optimiser: str = "sgd"
    rate: float = 0.02
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 1e-4
    decay_norms: bool = True
    warmup: int = 0
    schedule: str = "constant"
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    clip: float | None = None
    ema: float | None = None
    accumulate: int = 1

    def __post_init__(self) -> None:
        _one_of("optimiser", self.optimiser, OPTIMISERS)
        _one_of("schedule", self.schedule, SCHEDULES)
        _within("rate", self.rate, self.rate > 0, "above 0")
        _within("warmup", self.warmup, self.warmup >= 0, "a number of steps, 0 for none")
        _within("accumulate", self.accumulate, self.accumulate >= 1, "at least 1")
        _within("clip", self.clip, self.clip is None or self.clip > 0, "above 0, or None for no clipping")
        _within(
            "ema", self.ema, self.ema is None or 0 < self.ema < 1, "between 0 and 1 (0.999), or None for no average"
        )
        if self.schedule == "steps" and not self.milestones:
            raise ValueError('schedule "steps" needs milestones, such as (60_000, 80_000) or (2 / 3, 8 / 9).')

    def rate_at(self, step: int, steps: int) -> float:
        """The learning rate in use at ``step`` of ``0 … steps - 1``: the schedule's, times the warm-up's share."""
        share = 1.0
        if step < self.warmup:
            share = WARMUP_START + (1 - WARMUP_START) * step / self.warmup
        return self.rate * share * self._decay(step, steps)

    def _decay(self, step: int, steps: int) -> float:
        if self.schedule == "steps":
            passed = bisect_right(sorted(m * steps if m < 1 else m for m in self.milestones), step)
            return self.gamma**passed
        if self.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * step / steps))
        return 1.0

    def optimiser_of(self, module: nn.Module) -> torch.optim.Optimizer:
        """The optimiser of those parameters of ``module`` that ask for gradients, each once.

        Raises:
            ValueError: if no parameter does.
        """
        groups = [group for group in self._groups(module) if group["params"]]
        if not groups:
            raise ValueError(
                f"{type(module).__name__} has no parameter with requires_grad=True: nothing in it can learn. "
                "Is it frozen, or a fixed interpolator (nearest, bilinear, bicubic)?"
            )
        if self.optimiser == "sgd":
            return torch.optim.SGD(groups, lr=self.rate, momentum=self.momentum)
        kind = torch.optim.Adam if self.optimiser == "adam" else torch.optim.AdamW
        return kind(groups, lr=self.rate, betas=self.betas)

    def _groups(self, module: nn.Module) -> list[dict]:
        spared = set() if self.decay_norms else set(_norms_and_biases(module))
        learning = [p for p in module.parameters() if p.requires_grad]
        return [
            {"params": [p for p in learning if p not in spared], "weight_decay": self.weight_decay},
            {"params": [p for p in learning if p in spared], "weight_decay": 0.0},
        ]


def _norms_and_biases(module: nn.Module) -> Iterable[nn.Parameter]:
    for child in module.modules():
        for name, parameter in child.named_parameters(recurse=False):
            if isinstance(child, _NORMS) or name.endswith("bias"):
                yield parameter


def _one_of(field: str, given: str, possible: tuple[str, ...]) -> None:
    if given not in possible:
        raise ValueError(f"Unknown {field} '{given}'; choose one of {', '.join(possible)}.")


def _within(field: str, given: object, fine: bool, possible: str) -> None:
    if not fine:
        raise ValueError(f"{field} is {given}; it must be {possible}.")
