"""Toy adversarial training for the tests: a generator called inside another module, a discriminator, and batches seeded by their step."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from featlift.training import Learner, OptimizerConfig

NUM_IMAGES = 4


class ToyBatches:
    """Batch k: four images [3, 6, 6] drawn with seed k; process r of w has every w-th."""

    def iter_from(
        self, step: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[tuple[list[Tensor], list[dict[str, Tensor]]]]:
        while True:
            images = torch.rand(NUM_IMAGES, 3, 6, 6, generator=torch.Generator().manual_seed(step))
            mine = range(rank, NUM_IMAGES, world_size)
            yield [images[i] for i in mine], [{"labels": torch.tensor([i])} for i in mine]
            step += 1


class Pyramid(nn.Module):
    """Calls the generator from inside, and has a layer that only image 0 uses (all processes call it if ``everywhere``)."""

    def __init__(self, generator: nn.Module, everywhere: bool = False) -> None:
        super().__init__()
        self.everywhere = everywhere
        self.lateral, self.generator, self.rare = nn.Conv2d(3, 4, 1), generator, nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor, targets: list[dict[str, Tensor]]) -> Tensor:
        low = self.generator(self.lateral(x))
        first = torch.tensor([float(t["labels"][0] == 0) for t in targets]).view(-1, 1, 1, 1)
        return low + first * self.rare(low) if self.everywhere or first.any() else low


def deterministic_models(everywhere: bool = False) -> tuple[Pyramid, nn.Module]:
    """Pyramid and discriminator without batch statistics or draws: a big batch equals two small ones."""
    return Pyramid(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.Tanh()), everywhere), nn.Conv2d(4, 1, 3)


def stochastic_models() -> tuple[Pyramid, nn.Module]:
    """The same with batch norm and dropout: state in buffers, draws in every step."""
    return Pyramid(nn.Sequential(nn.BatchNorm2d(4), nn.Dropout(0.3), nn.Conv2d(4, 4, 1))), nn.Conv2d(4, 1, 3)


def discriminator_loss(D: nn.Module, x: Tensor, made: Tensor) -> Tensor:
    return (D(x.repeat(1, 2, 1, 1)[:, :4]) - 1).square().mean() + D(made.detach()).square().mean()


def generator_losses(D: nn.Module, x: Tensor, made: Tensor) -> dict[str, Tensor]:
    return {"content": (made - x.mean()).abs().mean(), "adversarial": (D(made) - 1).square().mean()}


def build_step(
    pyramid: Pyramid, D: nn.Module, generator: Learner, discriminator: Learner
) -> Callable[..., dict[str, Tensor]]:
    def step(images: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        x = torch.stack(images)
        made = pyramid(x, targets)
        return discriminator.step({"discriminator": discriminator_loss(D, x, made)}) | generator.step(
            generator_losses(D, x, made)
        )

    return step


def build_learners(
    steps: int, build: Callable[[], tuple[Pyramid, nn.Module]], **options: Any
) -> tuple[Callable[..., dict[str, Tensor]], dict[str, Learner]]:
    pyramid, D = build()
    learners = {
        "generator": Learner(pyramid, OptimizerConfig(**options), steps),
        "discriminator": Learner(D, OptimizerConfig(lr=0.1), steps),
    }
    return build_step(pyramid, D, learners["generator"], learners["discriminator"]), learners


@pytest.fixture
def batches() -> ToyBatches:
    return ToyBatches()


@pytest.fixture
def make_training() -> Callable[..., tuple[Callable[..., dict[str, Tensor]], dict[str, Learner]]]:
    """``make_training(steps, **options)`` → (step, learners) of the models with random draws."""
    return lambda steps, **options: build_learners(steps, stochastic_models, **options)


@pytest.fixture
def make_deterministic_training() -> Callable[..., tuple[Callable[..., dict[str, Tensor]], dict[str, Learner]]]:
    """``make_deterministic_training(steps, **options)`` → (step, learners) of the models without random draws."""
    return lambda steps, **options: build_learners(steps, deterministic_models, **options)
