"""Checkpoints of a training stage. A complete checkpoint exists at any moment, even if the process is killed.

``<run>/checkpoint/<stage>/step-00000120/`` holds the tensors (`featlift.training.checkpoint_storage`; each process writes
its shard, any number of processes can read them), ``progress.json``, and ``checksums.json`` with the SHA-256 of every
file. The folder is written under a temporary name, flushed to disk, and renamed. Nothing in it can run code.
"""

import re
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.tensor import DTensor

from featlift.checkpoints.atomic import flush_to_disk
from featlift.checkpoints.damage import describe_cause, read_json
from featlift.checkpoints.json_io import write_json
from featlift.training import distributed
from featlift.training.checkpoint_storage import TENSORS_FILE, SafetensorsReader, SafetensorsWriter, file_checksum
from featlift.training.learner import Learner

MAX_CHECKPOINTS = 2
PROGRESS_FILE, CHECKSUMS_FILE = "progress.json", "checksums.json"
_CHECKPOINT = re.compile(r"step-\d{8,}")
_LEFTOVER = re.compile(r"(writing|removing|damaged)-step-\d{8,}")


def save_checkpoint(folder: Path, learners: Mapping[str, Learner], progress: Mapping[str, Any]) -> None:
    """Write the state of ``learners`` and ``progress`` (with key ``"step"``) below ``folder``; keep only the last two
    checkpoints.

    Raises:
        FloatingPointError: If a parameter is not finite; nothing is written.
        OSError: If the disk is full or fails; the checkpoints before stay.
    """
    final = folder / f"step-{progress['step']:08d}"
    if final.exists():
        return
    temporary = folder / f"writing-{final.name}"
    for name, learner in learners.items():
        _check_finite_parameters(name, learner, folder)
        distributed.broadcast_tensors(learner.module.buffers())
    if distributed.get_rank() == 0:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    distributed.barrier()
    writer = SafetensorsWriter(temporary)
    _run_dcp(dcp.save, learners, storage_writer=writer)
    if distributed.get_rank() == 0:
        scalar_states = {name: learner.scalar_state() for name, learner in learners.items()}
        path = write_json(temporary / PROGRESS_FILE, {**progress, "learners": scalar_states})
        write_json(temporary / CHECKSUMS_FILE, {**writer.checksums, path.name: file_checksum(path)})
        temporary.rename(final)
        flush_to_disk(folder)
        _remove_old_checkpoints(folder)
    distributed.barrier()


def _check_finite_parameters(name: str, learner: Learner, folder: Path) -> None:
    """A finite loss can have a non-finite gradient. The parameters must not overwrite the last good checkpoint then."""
    parameters = learner.trainable_parameters
    finite = [torch.isfinite(p.detach()).all() for p in parameters.values()]
    flags = torch.stack([x.full_tensor() if isinstance(x, DTensor) else x for x in finite]).tolist() if finite else []
    nonfinite = [key for key, is_finite in zip(parameters, flags, strict=True) if not is_finite]
    if nonfinite:
        raise FloatingPointError(
            f"{name} was not saved: {nonfinite[0]} and {len(nonfinite) - 1} more of its parameters are not finite. "
            f"{latest_checkpoint(folder) or 'No checkpoint'} is the last good state; "
            "try a lower lr, a longer warm-up or max_grad_norm=10."
        )


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the complete checkpoints below ``folder``, oldest first."""
    return sorted((path for path in folder.glob("step-*") if _CHECKPOINT.fullmatch(path.name)), key=_step)


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the last complete checkpoint below ``folder``, or None."""
    return max(list_checkpoints(folder), key=_step, default=None)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))


def find_intact_checkpoint(folder: Path) -> Path | None:
    """Return the last checkpoint below ``folder`` whose files have their checksums, or None if there is no checkpoint.

    Rank 0 renames damaged ones that are newer, with a warning each; the next checkpoint removes them. All processes
    have to call this function.

    Raises:
        ValueError: If there are checkpoints, but all are damaged.
    """
    step, problems = distributed.broadcast_object(_find_intact_step(folder) if distributed.get_rank() == 0 else None)
    if step is None and problems:
        raise ValueError(
            f"No checkpoint in {folder} is intact:\n  "
            + "\n  ".join(problems)
            + "\nDelete this folder to train the stage "
            "from its beginning."
        )
    return None if step is None else folder / f"step-{step:08d}"


def _find_intact_step(folder: Path) -> tuple[int | None, list[str]]:
    """Return the step of the last intact checkpoint and what is wrong with the damaged ones after it."""
    problems: dict[Path, str] = {}
    for checkpoint in reversed(list_checkpoints(folder)):
        try:
            verify_checkpoint(checkpoint)
        except (ValueError, OSError) as error:
            problems[checkpoint] = str(error)
            continue
        for damaged, problem in problems.items():
            damaged.rename(damaged.with_name(f"damaged-{damaged.name}"))
            warnings.warn(f"A checkpoint is left out: {problem} {checkpoint.name} is used instead.", stacklevel=2)
        return _step(checkpoint), list(problems.values())
    return None, list(problems.values())


def verify_checkpoint(checkpoint: Path) -> None:
    """Compare the files of ``checkpoint`` with their checksums.

    Raises:
        ValueError: If a file is missing or has changed; it is named.
    """
    if (checkpoint / ".metadata").exists():
        raise ValueError(
            f"{checkpoint} was written by an older version of FeatLift, with a pickle, which could run code."
        )
    checksums = read_json(checkpoint / CHECKSUMS_FILE, "")
    if not isinstance(checksums, dict) or not {PROGRESS_FILE, TENSORS_FILE} < set(checksums):
        raise ValueError(f"{checkpoint / CHECKSUMS_FILE} is damaged: it lists not all files.")
    for name, checksum in checksums.items():
        path = checkpoint / Path(name).name
        if not path.is_file():
            raise ValueError(f"{path} is missing.")
        if file_checksum(path) != checksum:
            raise ValueError(f"{path} is damaged: its checksum differs.")


def read_progress(checkpoint: Path) -> dict[str, Any]:
    """Return the ``progress`` that :func:`save_checkpoint` wrote into ``checkpoint``."""
    return read_json(checkpoint / PROGRESS_FILE, "Delete this checkpoint to use the one before.")


def read_last_progress(folder: Path) -> dict[str, Any] | None:
    """Return the progress of the last checkpoint below ``folder`` that has a readable one, or None."""
    for checkpoint in reversed(list_checkpoints(folder)):
        try:
            return read_progress(checkpoint)
        except (ValueError, OSError):
            continue
    return None


def load_checkpoint(checkpoint: Path, learners: Mapping[str, Learner]) -> dict[str, Any]:
    """Restore ``learners`` from ``checkpoint`` and return the progress.

    Raises:
        ValueError: If the checkpoint holds learners of other names, or tensors of other names or shapes.
    """
    progress = read_progress(checkpoint)
    if set(progress["learners"]) != set(learners):
        raise ValueError(
            f"{checkpoint} holds the learners {', '.join(sorted(progress['learners']))}, "
            f"but {', '.join(sorted(learners))} are trained now. "
            "Use another folder, or delete this checkpoint to restart the stage."
        )
    for name, learner in learners.items():
        learner.load_scalar_state(progress["learners"][name])
    try:
        tensors = _run_dcp(dcp.load, learners, storage_reader=SafetensorsReader(checkpoint))
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"{checkpoint} does not fit the network that is trained now ({describe_cause(error)}). Use the settings and the "
            "classes that the run was started with, another folder, or delete this checkpoint to restart the stage."
        ) from error
    for name, learner in learners.items():
        learner.load_tensor_state(tensors[name])
    return progress


def _run_dcp(
    operation: Callable[..., Any],
    learners: Mapping[str, Learner],
    **storage: SafetensorsWriter | SafetensorsReader,
) -> dict[str, Any]:
    """Save the tensors of ``learners``, or load them in place; return them. Raises what the first process raised."""
    tensors = {name: learner.tensor_state() for name, learner in learners.items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")  # expected with one process
        try:
            operation(tensors, no_dist=distributed.get_world_size() == 1, **storage)
        except CheckpointException as failed:
            error = next(iter(failed.failures.values()))[0]
            raise error from failed
    return tensors


def _remove_old_checkpoints(folder: Path) -> None:
    """Rename old checkpoints before deleting their files; also delete what killed processes left incomplete."""
    for old in list_checkpoints(folder)[:-MAX_CHECKPOINTS]:
        old.rename(folder / f"removing-{old.name}")
    remove_leftovers(folder)


def remove_leftovers(folder: Path) -> None:
    """Delete incomplete, old and damaged checkpoints below ``folder``; only its writer may do so."""
    for leftover in folder.glob("*-step-*"):
        if _LEFTOVER.fullmatch(leftover.name):
            shutil.rmtree(leftover)
