"""Training steps under ``torch.compile`` with its eager backend, which traces but needs no C++ compiler."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from featlift.training import loop


@contextmanager
def compile_steps() -> Iterator[dict[str, list[int]]]:
    """Compile the step of every training in this context; yields stage → number of frames that each step compiled."""
    frames: dict[str, list[int]] = {}
    train = loop._train

    def train_compiled(step: Any, loader: Any, run: Any, learners: Any, state: Any) -> None:
        torch._dynamo.reset()
        compiled, counts = torch.compile(step, backend="eager"), frames.setdefault(state.stage, [])

        def count(images: Any, targets: Any) -> Any:
            before = counters["frames"]["total"]
            losses = compiled(images, targets)
            counts.append(counters["frames"]["total"] - before)
            return losses

        train(count, loader, run, learners, state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_train", train_compiled)
        yield frames
    torch._dynamo.reset()


class MarkedImages:
    """Batches of one image of ``size`` (height, width) and its mirror image; ``marked`` is the fixture."""

    def __init__(self, marked: Callable[..., Any], size: tuple[int, int]) -> None:
        self.marked, self.size = marked, size

    def iter_from(self, step: int, rank: int = 0, world_size: int = 1) -> Iterator[tuple[list[Any], list[Any]]]:
        while True:
            image, target = self.marked(*self.size, seed=step)
            yield [image, image.flip(-1)], [target, target]
            step += 1
