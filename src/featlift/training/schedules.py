"""Stage length and optimizer of a training stage, and the papers' schedules."""

from dataclasses import dataclass, replace

from featlift.training import OptimizerConfig

STEPS_1X, STEPS_3X = 90_000, 270_000
"""Steps of 16 images: 12 and 37 epochs of COCO."""
MILESTONES_3X = (7 / 9, 25 / 27)
"""Fractions of the 3x schedule after which the learning rate drops by 10: 210k and 250k of 270k steps."""


@dataclass(frozen=True)
class StageConfig:
    """Length and optimization of a training stage.

    Attributes:
        steps: Number of training steps.
        optimizer: Optimizer and schedule.
    """

    steps: int
    optimizer: OptimizerConfig


def sgd_1x(lr: float = 0.02) -> OptimizerConfig:
    """Return Detectron2's 1x schedule: SGD, times 0.1 after two thirds and eight ninths of the steps. Dense detectors use 0.01."""
    return OptimizerConfig(
        "sgd", lr, warmup_steps=1000, schedule="multistep", milestones=(2 / 3, 8 / 9), decay_norms_and_biases=False
    )


def adamw_3x() -> OptimizerConfig:
    """Return the transformers' 3x schedule: AdamW, lr 1e-4, times 0.1 after 210k and 250k of 270k steps; Swin's weight decay of 0.05."""
    return OptimizerConfig(
        "adamw",
        1e-4,
        weight_decay=0.05,
        warmup_steps=1000,
        schedule="multistep",
        milestones=MILESTONES_3X,
        decay_norms_and_biases=False,
    )


def finetune_optimizer(lr: float = 0.005) -> OptimizerConfig:
    """Return the 1x schedule's SGD for batches of 4 images: the learning rate is proportional to the batch size, 0.02 at 16."""
    return replace(sgd_1x(lr), warmup_steps=500)


def quick_optimizer(lr: float = 1e-3) -> OptimizerConfig:
    """Return AdamW with a cosine schedule, which converges fastest from random weights."""
    return OptimizerConfig("adamw", lr=lr, weight_decay=1e-4, warmup_steps=10, schedule="cosine", max_grad_norm=10.0)
