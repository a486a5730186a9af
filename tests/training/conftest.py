"""A game of two for the tests: a generator called inside another module, a critic, and batches that are a function of their number."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from featlift.training import Learner, OptimizerConfig

PICTURES = 4


class ToyBatches:
    """Batch k: four pictures [3, 6, 6] drawn with seed k; process r of w has every w-th."""

    def since(self, step: int, rank: int = 0, world: int = 1) -> Iterator[tuple[list[Tensor], list[dict[str, Tensor]]]]:
        while True:
            images = torch.rand(PICTURES, 3, 6, 6, generator=torch.Generator().manual_seed(step))
            mine = range(rank, PICTURES, world)
            yield [images[i] for i in mine], [{"labels": torch.tensor([i])} for i in mine]
            step += 1


class Pyramid(nn.Module):
    """Calls what it was given from inside, and has a layer that only picture 0 uses (other processes call it if ``everywhere``)."""

    def __init__(self, generator: nn.Module, everywhere: bool = False) -> None:
        super().__init__()
        self.everywhere = everywhere
        self.lateral, self.generator, self.rare = nn.Conv2d(3, 4, 1), generator, nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor, targets: list[dict[str, Tensor]]) -> Tensor:
        low = self.generator(self.lateral(x))
        first = torch.tensor([float(t["labels"][0] == 0) for t in targets]).view(-1, 1, 1, 1)
        return low + first * self.rare(low) if self.everywhere or first.any() else low


def plain_game(everywhere: bool = False) -> tuple[Pyramid, nn.Module]:
    """Pyramid and critic without batch statistics or draws: a big batch equals two small ones."""
    return Pyramid(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.Tanh()), everywhere), nn.Conv2d(4, 1, 3)


def drawing_game() -> tuple[Pyramid, nn.Module]:
    """The same with batch norm and dropout: state in buffers, draws in every step."""
    return Pyramid(nn.Sequential(nn.BatchNorm2d(4), nn.Dropout(0.3), nn.Conv2d(4, 4, 1))), nn.Conv2d(4, 1, 3)


def critic_loss(D: nn.Module, x: Tensor, made: Tensor) -> Tensor:
    return (D(x.repeat(1, 2, 1, 1)[:, :4]) - 1).square().mean() + D(made.detach()).square().mean()


def generator_losses(D: nn.Module, x: Tensor, made: Tensor) -> dict[str, Tensor]:
    return {"content": (made - x.mean()).abs().mean(), "adversarial": (D(made) - 1).square().mean()}


def step_of(pyramid: Pyramid, D: nn.Module, generator: Learner, critic: Learner) -> Callable[..., dict[str, Tensor]]:
    def step(images: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        x = torch.stack(images)
        made = pyramid(x, targets)
        return critic.step({"critic": critic_loss(D, x, made)}) | generator.step(generator_losses(D, x, made))

    return step


def players(
    steps: int, build: Callable[[], tuple[Pyramid, nn.Module]], **descent: Any
) -> tuple[Callable[..., dict[str, Tensor]], dict[str, Learner]]:
    pyramid, D = build()
    learners = {
        "generator": Learner(pyramid, OptimizerConfig(**descent), steps),
        "critic": Learner(D, OptimizerConfig(lr=0.1), steps),
    }
    return step_of(pyramid, D, learners["generator"], learners["critic"]), learners


@pytest.fixture
def batches() -> ToyBatches:
    return ToyBatches()


@pytest.fixture
def play() -> Callable[..., tuple[Callable[..., dict[str, Tensor]], dict[str, Learner]]]:
    """``play(steps, **descent)`` → (step, learners) of the game with draws."""
    return lambda steps, **descent: players(steps, drawing_game, **descent)


@pytest.fixture
def play_plainly() -> Callable[..., tuple[Callable[..., dict[str, Tensor]], dict[str, Learner]]]:
    """``play_plainly(steps, **descent)`` → (step, learners) of the game without draws."""
    return lambda steps, **descent: players(steps, plain_game, **descent)
