"""The training loop: steps, logging, checkpoints, resuming and progress display."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from featlift.features import Target
from featlift.training import checkpointing, distributed, memory
from featlift.training.batch_stream import REMEDY, Batch, BatchStream, ResumableLoader, WorkerKilledError
from featlift.training.interrupt import Interrupt
from featlift.training.learner import Learner, check_finite_losses
from featlift.training.progress import make_progress
from featlift.training.run import PRECISIONS, Run
from featlift.training.seeds import seed_everything
from featlift.training.step_errors import explain_step_errors

TrainStep = Callable[[list[Tensor], list[Target]], Mapping[str, Tensor]]


def fit(
    train_step: TrainStep,
    loader: ResumableLoader,
    total_steps: int,
    run: Run,
    learners: Mapping[str, Learner],
    stage: str = "train",
) -> None:
    """Train ``stage`` up to step ``total_steps``, resuming from its last checkpoint in the run; a finished stage is only
    loaded.

    Before step k all random generators are seeded with (seed, stage, k, rank), and the step uses batch k, so a run
    that was killed and resumed equals an uninterrupted one. Ctrl-C, SIGTERM and SIGHUP save a checkpoint first, and so
    does a batch that cannot be read; worker processes of the loader have to ignore these signals.

    Args:
        train_step: ``train_step(images, targets)`` → named scalars to log. It calls `Learner.step`; autocast is enabled
            as the run's precision requires.
        loader: Endless batches, see `ResumableLoader`. They are moved to the run's device.
        total_steps: Number of steps, counted from the beginning of the stage.
        run: Folder, seed, device, precision, and the intervals of logging and saving.
        learners: All trained modules by name. They are moved to the device and set to training mode.
        stage: Name of the checkpoint folder and of the stage in ``log.jsonl``.

    Raises:
        FloatingPointError: from `Learner.step`, if a loss is not finite.
        RuntimeError: If the batches end.
        ValueError: If the run was started with other data, or no checkpoint is intact.
        SystemExit: after Ctrl-C, SIGTERM or SIGHUP, when the state is saved.
        WorkerKilledError: If a worker process of the loader was killed, when the state is saved.
    """
    for learner in learners.values():
        learner.to_device(run.device, run.precision)
    state = _resume(run, learners, stage, total_steps, getattr(loader, "fingerprint", None))
    if state.step < total_steps:
        _train(train_step, loader, run, learners, state)
    seed_everything(run.seed, stage, total_steps)


class _StageProgress:
    """Progress of a stage: steps done, seconds taken, peak memory, and the losses since the last log record."""

    def __init__(self, stage: str, total_steps: int, device: torch.device, data: str | None) -> None:
        self.data = data
        self.stage, self.total_steps, self.step, self.seconds = stage, total_steps, 0, 0.0
        self.device, self.peak_memory = device, 0
        memory.reset_peak_memory(device)
        self.loss_window: dict[str, list[Any]] = {}
        self.resumed_at = time.perf_counter()

    def add(self, losses: Mapping[str, Tensor]) -> None:
        self.step += 1
        for name, loss in losses.items():
            self.loss_window.setdefault(name, []).append(loss)

    def reduce_losses(self) -> None:
        """Convert the tensors of the window to floats, averaged over processes; this synchronizes with the device, once.

        Raises:
            FloatingPointError: If one is not finite.
        """
        losses = [loss for losses in self.loss_window.values() for loss in losses]
        tensors = [loss.float() for loss in losses if isinstance(loss, Tensor)]
        read = iter(torch.stack(tensors).tolist() if tensors else ())
        means = iter(distributed.all_reduce_mean([next(read) if isinstance(x, Tensor) else x for x in losses]))
        self.loss_window = {name: [next(means) for _ in window] for name, window in self.loss_window.items()}
        for name, window in self.loss_window.items():
            for steps_ago, loss in zip(range(len(window), 0, -1), window, strict=True):
                check_finite_losses({name: loss}, self.step - steps_ago)

    def mean_losses(self) -> dict[str, float]:
        self.reduce_losses()
        return {name: sum(losses) / len(losses) for name, losses in self.loss_window.items()}

    def snapshot(self) -> dict[str, Any]:
        """Return the contents of ``progress.json``."""
        self.reduce_losses()
        now = time.perf_counter()
        self.seconds, self.resumed_at = self.seconds + now - self.resumed_at, now
        self.peak_memory = max(self.peak_memory, memory.read_peak_memory(self.device))
        return {
            "step": self.step,
            "steps": self.total_steps,
            "data": self.data,
            "seconds": self.seconds,
            "peak_memory": self.peak_memory,
            "loss_window": self.loss_window,
        }


def _resume(
    run: Run, learners: Mapping[str, Learner], stage: str, total_steps: int, data: str | None
) -> _StageProgress:
    state = _StageProgress(stage, total_steps, run.device, data)
    checkpoint = checkpointing.find_intact_checkpoint(run.checkpoint_folder(stage))
    if checkpoint is not None:
        progress = checkpointing.load_checkpoint(checkpoint, learners)
        _check_same_data(checkpoint, progress.get("data"), data)
        state.step, state.seconds, state.loss_window = progress["step"], progress["seconds"], progress["loss_window"]
        state.peak_memory = progress.get("peak_memory", 0)
        if run.rank == 0:
            status = "is finished" if state.step >= total_steps else f"resumes at step {state.step} of {total_steps}"
            print(f"{stage} {status} ({checkpoint})", flush=True)
    run.truncate_log(stage, state.step)
    state.resumed_at = time.perf_counter()
    return state


def _check_same_data(checkpoint: Path, stored: str | None, given: str | None) -> None:
    if stored != given and None not in (stored, given):
        raise ValueError(
            f"{checkpoint} was trained on other data: its classes, images or boxes have the fingerprint {stored}, those given "
            f"now {given}. Give the data that the run was started with, another folder, or delete this folder."
        )


def _train(
    train_step: TrainStep, loader: ResumableLoader, run: Run, learners: Mapping[str, Learner], state: _StageProgress
) -> None:
    with (
        Interrupt() as interrupt,
        BatchStream(loader, state.step, run.rank, run.world_size) as batches,
        make_progress(state.stage, state.step, state.total_steps, run.rank == 0) as progress,
    ):
        losses: dict[str, float] = {}
        while state.step < state.total_steps:
            state.add(_run_step(train_step, _next_batch(batches, run, learners, state), run, state))
            is_log_step = state.step % run.log_every == 0 or state.step == state.total_steps
            if is_log_step:
                losses = _log(run, learners, state)
            progress.update(state.step, losses)
            stop = _should_stop(interrupt.requested or batches.was_restarted, is_log_step or run.world_size == 1)
            if stop or state.step % run.save_every == 0 or state.step == state.total_steps:
                _save(run, learners, state)
            if stop and state.step < state.total_steps:
                raise SystemExit(_describe_stop(run, state, batches.was_restarted))


def _should_stop(requested: bool, synchronized: bool) -> bool:
    """Return whether to stop; processes can only agree on it in ``synchronized`` steps, where losses are logged."""
    return synchronized and distributed.any_rank(requested)


def _save(run: Run, learners: Mapping[str, Learner], state: _StageProgress) -> None:
    checkpointing.save_checkpoint(run.checkpoint_folder(state.stage), learners, state.snapshot())


def _describe_stop(run: Run, state: _StageProgress, worker_killed: bool) -> str:
    cause = f"A worker process of the data loader was killed. {REMEDY}\n" if worker_killed else ""
    return f"{cause}Stopped at step {state.step} of {state.total_steps}; run the same command to resume ({run.folder})"


def _next_batch(batches: BatchStream, run: Run, learners: Mapping[str, Learner], state: _StageProgress) -> Batch:
    """Return the next batch. If it cannot be read, a single process saves first; of several, which can only save
    together, one whose worker was killed starts its loader again, and all stop at the next log record.
    """
    try:
        return batches.next(state.step)
    except StopIteration:
        raise RuntimeError(
            f"The batches ended before step {state.step} of {state.total_steps}; .iter_from(step) has to be endless."
        ) from None
    except Exception as error:
        if run.world_size > 1:
            if not isinstance(error, WorkerKilledError) or batches.was_restarted:
                raise
            batches.restart(state.step)
            return batches.next(state.step)
        if state.step > 0:
            _save(run, learners, state)
        raise


def _run_step(train_step: TrainStep, batch: Batch, run: Run, state: _StageProgress) -> dict[str, Tensor]:
    seed_everything(run.seed, state.stage, state.step, run.rank)
    images, targets = move_to_device(batch, run.device)
    precision = torch.autocast(run.device.type, PRECISIONS[run.precision], enabled=run.precision != "fp32")
    with explain_step_errors(), precision:
        losses = train_step(images, targets)
    return {name: torch.as_tensor(loss).detach() for name, loss in losses.items()}


def _log(run: Run, learners: Mapping[str, Learner], state: _StageProgress) -> dict[str, float]:
    losses = state.mean_losses()
    learning_rates = {f"lr/{name}": learner.lr for name, learner in learners.items()}
    run.log({"stage": state.stage, "step": state.step, **losses, **learning_rates})
    state.loss_window = {}
    return losses


def move_to_device(batch: Any, device: torch.device) -> Any:
    """Return ``batch`` with every tensor in its lists, tuples and dicts on ``device``."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {name: move_to_device(value, device) for name, value in batch.items()}
    if isinstance(batch, Sequence) and not isinstance(batch, str):
        return type(batch)(move_to_device(value, device) for value in batch)  # pyright: ignore[reportCallIssue]
    return batch
