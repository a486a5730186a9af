"""Optimizer configuration: optimizer, learning-rate schedule, gradient clipping, accumulation and weight averaging."""

import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from featlift.registry import check_choice

OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "multistep", "cosine")
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
    """Optimizer and schedule. Steps are calls of `Learner.step`, counted from 0, also with gradient accumulation.

    Attributes:
        name: Optimizer: "sgd" (with ``momentum``), "adam" or "adamw" (with ``betas``).
        lr: Learning rate after warm-up.
        momentum: Momentum of "sgd".
        betas: Decay rates of the moment estimates of "adam" and "adamw".
        weight_decay: Weight decay.
        decay_norms_and_biases: Apply weight decay to normalization layers and biases, too.
        warmup_steps: Steps over which the learning rate grows linearly from ``lr / 1000``; 0 for no warm-up.
        schedule: Learning-rate schedule: "constant", "multistep" (times ``gamma`` at each milestone) or "cosine" (half
            a period, to 0 at the last step).
        milestones: Steps at which "multistep" decays the learning rate; values below 1 are fractions of all steps.
        gamma: Decay factor of "multistep".
        max_grad_norm: Maximum L2 norm of all gradients together (clipping), or None for no clipping.
        ema_decay: Decay of an exponential moving average of the parameters, or None for no average.
        accumulation_steps: Calls of `Learner.step` per update, which uses the mean of their gradients.
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
        check_choice(self.name, OPTIMIZERS, "optimizer")
        check_choice(self.schedule, SCHEDULES, "schedule")
        _check_range("lr", self.lr, self.lr > 0, "above 0")
        _check_range("warmup_steps", self.warmup_steps, self.warmup_steps >= 0, "a number of steps, 0 for none")
        _check_range("accumulation_steps", self.accumulation_steps, self.accumulation_steps >= 1, "at least 1")
        _check_range(
            "max_grad_norm",
            self.max_grad_norm,
            self.max_grad_norm is None or self.max_grad_norm > 0,
            "above 0, or None for no clipping",
        )
        _check_range(
            "ema_decay",
            self.ema_decay,
            self.ema_decay is None or 0 < self.ema_decay < 1,
            "between 0 and 1 (0.999), or None for no average",
        )
        if self.schedule == "multistep" and not self.milestones:
            raise ValueError('schedule "multistep" needs milestones, such as (60_000, 80_000) or (2 / 3, 8 / 9).')

    def lr_at(self, step: int, total_steps: int) -> float:
        """Return the learning rate at ``step`` of ``0 … total_steps - 1``: the schedule's value times the warm-up factor."""
        warmup_factor = 1.0
        if step < self.warmup_steps:
            warmup_factor = WARMUP_FACTOR + (1 - WARMUP_FACTOR) * step / self.warmup_steps
        return self.lr * warmup_factor * self._schedule_factor(step, total_steps)

    def _schedule_factor(self, step: int, total_steps: int) -> float:
        if self.schedule == "multistep":
            num_passed = bisect_right(sorted(m * total_steps if m < 1 else m for m in self.milestones), step)
            return self.gamma**num_passed
        if self.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * step / total_steps))
        return 1.0

    def build_optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        """Build the optimizer of the parameters of ``module`` that require gradients, each once.

        Raises:
            ValueError: If no parameter requires gradients.
        """
        groups = [group for group in self._parameter_groups(module) if group["params"]]
        if not groups:
            raise ValueError(
                f"{type(module).__name__} has no parameter with requires_grad=True, so it cannot be trained. "
                "Is it frozen, or a fixed interpolator (nearest, bilinear, bicubic)?"
            )
        if self.name == "sgd":
            return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum)
        optimizer_class = torch.optim.Adam if self.name == "adam" else torch.optim.AdamW
        return optimizer_class(groups, lr=self.lr, betas=self.betas)

    def _parameter_groups(self, module: nn.Module) -> list[dict]:
        no_decay = set() if self.decay_norms_and_biases else set(_norms_and_biases(module))
        trainable = [p for p in module.parameters() if p.requires_grad]
        return [
            {"params": [p for p in trainable if p not in no_decay], "weight_decay": self.weight_decay},
            {"params": [p for p in trainable if p in no_decay], "weight_decay": 0.0},
        ]


def _norms_and_biases(module: nn.Module) -> Iterable[nn.Parameter]:
    for child in module.modules():
        for name, parameter in child.named_parameters(recurse=False):
            if isinstance(child, _NORM_LAYERS) or name.endswith("bias"):
                yield parameter


def _check_range(field: str, value: object, is_valid: bool, requirement: str) -> None:
    if not is_valid:
        raise ValueError(f"{field} is {value}; it must be {requirement}.")
