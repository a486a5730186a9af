"""How a module learns: the optimizer, its rate at every step, and what is done to the gradients before."""

import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "steps", "cosine")
WARMUP_FACTOR = 1 / 1000
_NORM_LAYERS = (
    nn.modules.batchnorm._BatchNorm,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.modules.instancenorm._InstanceNorm,
)


@dataclass(frozen=True)
class OptimizerConfig:
    """One way to go downhill. Steps are calls of `Learner.descend`, counted from 0, also where gradients are
    accumulated.

    Attributes:
        name: "sgd" (with ``momentum``), "adam" or "adamw" (with ``betas``).
        lr: the learning rate after warm-up.
        weight_decay: of all parameters; with ``decay_norms=False`` of none of the normalization layers and of no bias.
        warmup_steps: over so many steps the rate grows linearly from a thousandth.
        schedule: "constant"; "steps", times ``gamma`` at each of the ``milestones``; "cosine", half a wave down to 0
            at the end.
        milestones: steps; below 1, fractions of all steps.
        max_grad_norm: the largest Euclidean norm of all gradients together, or None.
        ema_decay: the decay of an exponential moving average of the parameters, or None.
        accumulation_steps: so many calls of `Learner.descend` make one update, with the mean of their gradients.
    """

    name: str = "sgd"
    lr: float = 0.02
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 1e-4
    decay_norms_and_biases: bool = True
    warmup_steps: int = 0
    schedule: str = "constant"
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    max_grad_norm: float | None = None
    ema_decay: float | None = None
    accumulation_steps: int = 1

    def __post_init__(self) -> None:
        _check_choice("optimizer", self.name, OPTIMIZERS)
        _check_choice("schedule", self.schedule, SCHEDULES)
        _check_range("rate", self.lr, self.lr > 0, "above 0")
        _check_range("warmup", self.warmup_steps, self.warmup_steps >= 0, "a number of steps, 0 for none")
        _check_range("accumulate", self.accumulation_steps, self.accumulation_steps >= 1, "at least 1")
        _check_range(
            "clip",
            self.max_grad_norm,
            self.max_grad_norm is None or self.max_grad_norm > 0,
            "above 0, or None for no clipping",
        )
        _check_range(
            "ema",
            self.ema_decay,
            self.ema_decay is None or 0 < self.ema_decay < 1,
            "between 0 and 1 (0.999), or None for no average",
        )
        if self.schedule == "steps" and not self.milestones:
            raise ValueError('schedule "steps" needs milestones, such as (60_000, 80_000) or (2 / 3, 8 / 9).')

    def lr_at(self, step: int, total_steps: int) -> float:
        """The learning rate in use at ``step`` of ``0 … steps - 1``: the schedule's, times the warm-up's share."""
        share = 1.0
        if step < self.warmup_steps:
            share = WARMUP_FACTOR + (1 - WARMUP_FACTOR) * step / self.warmup_steps
        return self.lr * share * self._schedule_factor(step, total_steps)

    def _schedule_factor(self, step: int, total_steps: int) -> float:
        if self.schedule == "steps":
            passed = bisect_right(sorted(m * total_steps if m < 1 else m for m in self.milestones), step)
            return self.gamma**passed
        if self.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * step / total_steps))
        return 1.0

    def build_optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        """The optimizer of those parameters of ``module`` that ask for gradients, each once.

        Raises:
            ValueError: if no parameter does.
        """
        groups = [group for group in self._parameter_groups(module) if group["params"]]
        if not groups:
            raise ValueError(
                f"{type(module).__name__} has no parameter with requires_grad=True: nothing in it can learn. "
                "Is it frozen, or a fixed interpolator (nearest, bilinear, bicubic)?"
            )
        if self.name == "sgd":
            return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum)
        kind = torch.optim.Adam if self.name == "adam" else torch.optim.AdamW
        return kind(groups, lr=self.lr, betas=self.betas)

    def _parameter_groups(self, module: nn.Module) -> list[dict]:
        spared = set() if self.decay_norms_and_biases else set(_norms_and_biases(module))
        learning = [p for p in module.parameters() if p.requires_grad]
        return [
            {"params": [p for p in learning if p not in spared], "weight_decay": self.weight_decay},
            {"params": [p for p in learning if p in spared], "weight_decay": 0.0},
        ]


def _norms_and_biases(module: nn.Module) -> Iterable[nn.Parameter]:
    for child in module.modules():
        for name, parameter in child.named_parameters(recurse=False):
            if isinstance(child, _NORM_LAYERS) or name.endswith("bias"):
                yield parameter


def _check_choice(field: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"Unknown {field} '{value}'; choose one of {', '.join(choices)}.")


def _check_range(field: str, value: object, is_valid: bool, requirement: str) -> None:
    if not is_valid:
        raise ValueError(f"{field} is {value}; it must be {requirement}.")
