"""Checkpoints of a training stage. A complete checkpoint exists at any moment, even if the process is killed.

``<run>/checkpoint/<stage>/step-00000120/`` holds the tensors, written by ``torch.distributed.checkpoint`` (each
process writes its shard; any number of processes can read them), and ``progress.json``. The folder is written under a
temporary name and renamed when complete.
"""

import json
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp

from featlift.training import distributed
from featlift.training.learner import Learner

MAX_CHECKPOINTS = 2


def save_checkpoint(folder: Path, learners: Mapping[str, Learner], progress: Mapping[str, Any]) -> None:
    """Write the state of ``learners`` and ``progress`` (with key ``"step"``) below ``folder``; keep only the last two
    checkpoints.

    Raises:
        FloatingPointError: If a parameter is not finite; nothing is written.
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
    _run_dcp(dcp.save, learners, temporary)
    if distributed.get_rank() == 0:
        scalar_states = {name: learner.scalar_state() for name, learner in learners.items()}
        (temporary / "progress.json").write_text(json.dumps({**progress, "learners": scalar_states}))
        temporary.rename(final)
        _remove_old_checkpoints(folder)
    distributed.barrier()


def _check_finite_parameters(name: str, learner: Learner, folder: Path) -> None:
    """A finite loss can have a non-finite gradient. The parameters must not overwrite the last good checkpoint then."""
    nonfinite = [key for key, p in learner.trainable_parameters.items() if not bool(torch.isfinite(p.detach()).all())]
    if nonfinite:
        raise FloatingPointError(
            f"{name} was not saved: {nonfinite[0]} and {len(nonfinite) - 1} more of its parameters are not finite. "
            f"{latest_checkpoint(folder) or 'No checkpoint'} is the last good state; "
            "try a lower lr, a longer warm-up or max_grad_norm=10."
        )


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the last complete checkpoint below ``folder``, or None."""
    return max(folder.glob("step-*"), default=None)


def read_progress(checkpoint: Path) -> dict[str, Any]:
    """Return the ``progress`` that :func:`save_checkpoint` wrote into ``checkpoint``."""
    return json.loads((checkpoint / "progress.json").read_text())


def load_checkpoint(checkpoint: Path, learners: Mapping[str, Learner]) -> dict[str, Any]:
    """Restore ``learners`` from ``checkpoint`` and return the progress.

    Raises:
        ValueError: If the checkpoint holds learners of other names.
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
    tensors = _run_dcp(dcp.load, learners, checkpoint)
    for name, learner in learners.items():
        learner.load_tensor_state(tensors[name])
    return progress


def _run_dcp(operation: Callable[..., Any], learners: Mapping[str, Learner], folder: Path) -> dict[str, Any]:
    """Save the tensors of ``learners``, or load them in place; return them."""
    tensors = {name: learner.tensor_state() for name, learner in learners.items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")  # expected with one process
        operation(tensors, checkpoint_id=folder, no_dist=distributed.get_world_size() == 1)
    return tensors


def _remove_old_checkpoints(folder: Path) -> None:
    """Rename old checkpoints before deleting their files; also delete what killed processes left incomplete."""
    for old in sorted(folder.glob("step-*"))[:-MAX_CHECKPOINTS]:
        old.rename(folder / f"removing-{old.name}")
    for leftover in [*folder.glob("removing-*"), *folder.glob("writing-*")]:
        shutil.rmtree(leftover)
