"""The only loop: step, log, save, resume, progress."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from featlift.training import checkpointing, distributed, memory
from featlift.training.interrupt import Interrupt
from featlift.training.learner import Learner
from featlift.training.progress import progress
from featlift.training.run import PRECISIONS, Run
from featlift.training.seeds import seeded

Target = dict[str, Tensor]
Step = Callable[[list[Tensor], list[Target]], Mapping[str, Tensor]]


class Batches(Protocol):
    """An endless stream of batches in which a position is one number; `featlift.data.batches.Batches` is one."""

    def since(self, step: int, rank: int = 0, world: int = 1) -> Iterator[tuple[Any, Any]]:
        """Batches number ``step``, ``step + 1``, … of process ``rank`` among ``world``: ``(images, targets)`` each."""
        ...


def fit(
    step: Step, batches: Batches, steps: int, run: Run, learners: Mapping[str, Learner], stage: str = "train"
) -> None:
    """Take ``steps`` steps, from where the run's last checkpoint of ``stage`` left off; a finished stage is only
    loaded.

    Before step k all random draws are seeded with (seed, stage, k, rank) and batch k is asked for, so that a run which
    was killed at any moment repeats the unbroken one. Ctrl-C and SIGTERM save first.

    Args:
        step: ``step(images, targets)`` → named scalars to log. It calls `Learner.descend`; autocast is on where the
            run asks for it.
        batches: see `Batches`. What they hold is moved to the run's device.
        steps: how many, counted from the beginning of the stage.
        run: folder, seed, device, precision, and how often to log and save.
        learners: by name, everything that changes. Their modules are moved to the device and set to training.
        stage: the name of the checkpoints' folder, and of the lines in ``log.jsonl``.

    Raises:
        FloatingPointError: from `Learner.descend`, if a loss is not finite.
        RuntimeError: if the batches end.
        SystemExit: after Ctrl-C or SIGTERM, when the state is saved.
    """
    for learner in learners.values():
        learner.place(run.device, run.precision)
    state = _resume(run, learners, stage, steps)
    if state.step < steps:
        _train(step, batches, run, learners, state)
    seeded(run.seed, stage, steps)


class _State:
    """How far a stage is: steps done, seconds taken, and the losses since the last line of the log."""

    def __init__(self, stage: str, steps: int, device: torch.device) -> None:
        self.stage, self.steps, self.step, self.seconds = stage, steps, 0, 0.0
        self.device, self.memory = device, 0
        memory.forget(device)
        self.window: dict[str, list[Any]] = {}
        self.since = time.perf_counter()

    def add(self, losses: Mapping[str, Tensor]) -> None:
        self.step += 1
        for name, loss in losses.items():
            self.window.setdefault(name, []).append(loss)

    def settle(self) -> None:
        """Turn the window's tensors into numbers, means over processes: the one moment that waits for the device."""
        values = distributed.mean([float(v) for losses in self.window.values() for v in losses])
        numbers = iter(values)
        self.window = {name: [next(numbers) for _ in losses] for name, losses in self.window.items()}

    def means(self) -> dict[str, float]:
        self.settle()
        return {name: sum(losses) / len(losses) for name, losses in self.window.items()}

    def facts(self) -> dict[str, Any]:
        """For ``progress.json``."""
        self.settle()
        now = time.perf_counter()
        self.seconds, self.since = self.seconds + now - self.since, now
        self.memory = max(self.memory, memory.peak(self.device))
        facts = {"step": self.step, "steps": self.steps, "seconds": self.seconds, "memory": self.memory}
        return {**facts, "window": self.window}


def _resume(run: Run, learners: Mapping[str, Learner], stage: str, steps: int) -> _State:
    state = _State(stage, steps, run.device)
    checkpoint = checkpointing.newest(run.checkpoints(stage))
    distributed.wait()
    if checkpoint is not None:
        found = checkpointing.load(checkpoint, learners)
        state.step, state.seconds, state.window = found["step"], found["seconds"], found["window"]
        state.memory = found.get("memory", 0)
        if run.rank == 0:
            word = "is finished" if state.step >= steps else f"goes on at step {state.step} of {steps}"
            print(f"{stage} {word} ({checkpoint})", flush=True)
    run.rewind(stage, state.step)
    state.since = time.perf_counter()
    return state


def _train(step: Step, batches: Batches, run: Run, learners: Mapping[str, Learner], state: _State) -> None:
    stream = batches.since(state.step, run.rank, run.world)
    with Interrupt() as interrupt, progress(state.stage, state.step, state.steps, run.rank == 0) as shown:
        losses: dict[str, float] = {}
        while state.step < state.steps:
            state.add(_one(step, _next(stream, state), run, state))
            looking = state.step % run.log_every == 0 or state.step == state.steps
            if looking:
                losses = _log(run, learners, state)
            shown.update(state.step, losses)
            stopping = _stopping(interrupt.asked, looking or run.world == 1)
            if stopping or state.step % run.save_every == 0 or state.step == state.steps:
                checkpointing.save(run.checkpoints(state.stage), learners, state.facts())
            if stopping and state.step < state.steps:
                raise SystemExit(
                    f"Stopped at step {state.step} of {state.steps}; the same command goes on from there ({run.folder})"
                )


def _stopping(asked: bool, together: bool) -> bool:
    """Whether to stop; processes can only agree on it ``together``, when they look at the losses."""
    return together and distributed.anyone(asked)


def _next(stream: Iterator[tuple[Any, Any]], state: _State) -> tuple[Any, Any]:
    try:
        return next(stream)
    except StopIteration:
        raise RuntimeError(
            f"The batches ended before step {state.step} of {state.steps}; .since(step) has to be endless."
        ) from None


def _one(step: Step, batch: tuple[Any, Any], run: Run, state: _State) -> dict[str, Tensor]:
    seeded(run.seed, state.stage, state.step, run.rank)
    images, targets = moved(batch, run.device)
    with torch.autocast(run.device.type, PRECISIONS[run.precision], enabled=run.precision != "fp32"):
        losses = step(images, targets)
    return {name: torch.as_tensor(loss).detach() for name, loss in losses.items()}


def _log(run: Run, learners: Mapping[str, Learner], state: _State) -> dict[str, float]:
    losses = state.means()
    rates = {f"rate/{name}": learner.rate for name, learner in learners.items()}
    run.log({"stage": state.stage, "step": state.step, **losses, **rates})
    state.window = {}
    return losses


def moved(batch: Any, device: torch.device) -> Any:
    """``batch`` with every tensor in its lists, tuples and dicts on ``device``."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {name: moved(value, device) for name, value in batch.items()}
    if isinstance(batch, Sequence) and not isinstance(batch, str):
        return type(batch)(moved(value, device) for value in batch)  # pyright: ignore[reportCallIssue]
    return batch
