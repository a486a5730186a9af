"""The only loop: step, log, save, resume, progress."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from featlift.training import checkpointing, distributed, memory
from featlift.training.interrupt import Interrupt
from featlift.training.learner import Learner
from featlift.training.progress import make_progress
from featlift.training.run import PRECISIONS, Run
from featlift.training.seeds import seed_everything

Target = dict[str, Tensor]
TrainStep = Callable[[list[Tensor], list[Target]], Mapping[str, Tensor]]


class ResumableLoader(Protocol):
    """An endless stream of batches in which a position is one number; `featlift.data.batches.ResumableDataLoader` is one."""

    def iter_from(self, step: int, rank: int = 0, world_size: int = 1) -> Iterator[tuple[Any, Any]]:
        """Batches number ``step``, ``step + 1``, … of process ``rank`` among ``world_size``: ``(images, targets)`` each."""
        ...


def fit(
    train_step: TrainStep,
    loader: ResumableLoader,
    total_steps: int,
    run: Run,
    learners: Mapping[str, Learner],
    stage: str = "train",
) -> None:
    """Take ``total_steps`` steps, from where the run's last checkpoint of ``stage`` left off; a finished stage is only
    loaded.

    Before step k all random draws are seeded with (seed, stage, k, rank) and batch k is asked for, so that a run which
    was killed at any moment repeats the unbroken one. Ctrl-C and SIGTERM save first.

    Args:
        train_step: ``step(images, targets)`` → named scalars to log. It calls `Learner.descend`; autocast is on where the
            run asks for it.
        loader: see `Batches`. What they hold is moved to the run's device.
        total_steps: how many, counted from the beginning of the stage.
        run: folder, seed, device, precision, and how often to log and save.
        learners: by name, everything that changes. Their modules are moved to the device and set to training.
        stage: the name of the checkpoints' folder, and of the lines in ``log.jsonl``.

    Raises:
        FloatingPointError: from `Learner.descend`, if a loss is not finite.
        RuntimeError: if the batches end.
        SystemExit: after Ctrl-C or SIGTERM, when the state is saved.
    """
    for learner in learners.values():
        learner.to_device(run.device, run.precision)
    state = _resume(run, learners, stage, total_steps)
    if state.step < total_steps:
        _train(train_step, loader, run, learners, state)
    seed_everything(run.seed, stage, total_steps)


class _StageProgress:
    """How far a stage is: steps done, seconds taken, and the losses since the last line of the log."""

    def __init__(self, stage: str, steps: int, device: torch.device) -> None:
        self.stage, self.total_steps, self.step, self.seconds = stage, steps, 0, 0.0
        self.device, self.peak_memory = device, 0
        memory.reset_peak_memory(device)
        self.loss_window: dict[str, list[Any]] = {}
        self.resumed_at = time.perf_counter()

    def add(self, losses: Mapping[str, Tensor]) -> None:
        self.step += 1
        for name, loss in losses.items():
            self.loss_window.setdefault(name, []).append(loss)

    def reduce_losses(self) -> None:
        """Turn the window's tensors into numbers, means over processes: the one moment that waits for the device."""
        values = distributed.all_reduce_mean([float(v) for losses in self.loss_window.values() for v in losses])
        numbers = iter(values)
        self.loss_window = {name: [next(numbers) for _ in losses] for name, losses in self.loss_window.items()}

    def mean_losses(self) -> dict[str, float]:
        self.reduce_losses()
        return {name: sum(losses) / len(losses) for name, losses in self.loss_window.items()}

    def snapshot(self) -> dict[str, Any]:
        """For ``progress.json``."""
        self.reduce_losses()
        now = time.perf_counter()
        self.seconds, self.resumed_at = self.seconds + now - self.resumed_at, now
        self.peak_memory = max(self.peak_memory, memory.read_peak_memory(self.device))
        facts = {"step": self.step, "steps": self.total_steps, "seconds": self.seconds, "memory": self.peak_memory}
        return {**facts, "window": self.loss_window}


def _resume(run: Run, learners: Mapping[str, Learner], stage: str, total_steps: int) -> _StageProgress:
    state = _StageProgress(stage, total_steps, run.device)
    checkpoint = checkpointing.latest_checkpoint(run.checkpoint_folder(stage))
    distributed.barrier()
    if checkpoint is not None:
        found = checkpointing.load_checkpoint(checkpoint, learners)
        state.step, state.seconds, state.loss_window = found["step"], found["seconds"], found["window"]
        state.peak_memory = found.get("memory", 0)
        if run.rank == 0:
            word = "is finished" if state.step >= total_steps else f"goes on at step {state.step} of {total_steps}"
            print(f"{stage} {word} ({checkpoint})", flush=True)
    run.truncate_log(stage, state.step)
    state.resumed_at = time.perf_counter()
    return state


def _train(
    train_step: TrainStep, loader: ResumableLoader, run: Run, learners: Mapping[str, Learner], state: _StageProgress
) -> None:
    stream = loader.iter_from(state.step, run.rank, run.world_size)
    with Interrupt() as interrupt, make_progress(state.stage, state.step, state.total_steps, run.rank == 0) as shown:
        losses: dict[str, float] = {}
        while state.step < state.total_steps:
            state.add(_run_step(train_step, _next_batch(stream, state), run, state))
            looking = state.step % run.log_every == 0 or state.step == state.total_steps
            if looking:
                losses = _log(run, learners, state)
            shown.update(state.step, losses)
            stopping = _should_stop(interrupt.requested, looking or run.world_size == 1)
            if stopping or state.step % run.save_every == 0 or state.step == state.total_steps:
                checkpointing.save_checkpoint(run.checkpoint_folder(state.stage), learners, state.snapshot())
            if stopping and state.step < state.total_steps:
                raise SystemExit(
                    f"Stopped at step {state.step} of {state.total_steps}; the same command goes on from there ({run.folder})"
                )


def _should_stop(requested: bool, synchronized: bool) -> bool:
    """Whether to stop; processes can only agree on it ``synchronized``, when they look at the losses."""
    return synchronized and distributed.any_rank(requested)


def _next_batch(stream: Iterator[tuple[Any, Any]], state: _StageProgress) -> tuple[Any, Any]:
    try:
        return next(stream)
    except StopIteration:
        raise RuntimeError(
            f"The batches ended before step {state.step} of {state.total_steps}; .since(step) has to be endless."
        ) from None


def _run_step(train_step: TrainStep, batch: tuple[Any, Any], run: Run, state: _StageProgress) -> dict[str, Tensor]:
    seed_everything(run.seed, state.stage, state.step, run.rank)
    images, targets = move_to_device(batch, run.device)
    with torch.autocast(run.device.type, PRECISIONS[run.precision], enabled=run.precision != "fp32"):
        losses = train_step(images, targets)
    return {name: torch.as_tensor(loss).detach() for name, loss in losses.items()}


def _log(run: Run, learners: Mapping[str, Learner], state: _StageProgress) -> dict[str, float]:
    losses = state.mean_losses()
    rates = {f"rate/{name}": learner.lr for name, learner in learners.items()}
    run.log({"stage": state.stage, "step": state.step, **losses, **rates})
    state.loss_window = {}
    return losses


def move_to_device(batch: Any, device: torch.device) -> Any:
    """``batch`` with every tensor in its lists, tuples and dicts on ``device``."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {name: move_to_device(value, device) for name, value in batch.items()}
    if isinstance(batch, Sequence) and not isinstance(batch, str):
        return type(batch)(move_to_device(value, device) for value in batch)  # pyright: ignore[reportCallIssue]
    return batch
